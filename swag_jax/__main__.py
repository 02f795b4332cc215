"""`python -m swag_jax` and the console script `swag-jax`."""

import gc
import sys

from swag_jax import _signals

if __name__ == "__main__" or _signals.is_program():
    gc.disable()  # until all is imported, which leaves no garbage: a tenth of a short command's time

from swag_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
