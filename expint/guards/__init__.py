"""What keeps a wrong result from passing in silence: states and outputs that are looked at, models
that are called safely."""
