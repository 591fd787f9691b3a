"""`python -m diffusion_adapters.cli`."""

from diffusion_adapters.cli import main

if __name__ == "__main__":
    main(prog_name="expint")
