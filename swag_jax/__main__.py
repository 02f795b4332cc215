"""`python -m swag_jax` and the console script `swag-jax`."""

import sys

from swag_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
