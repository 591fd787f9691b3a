"""Published checkpoints: reading them without executing anything, and adapters around them."""
