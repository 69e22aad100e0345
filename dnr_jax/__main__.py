"""``python -m dnr_jax``: the ``dnr`` command, where its script is not on the path."""

import sys

from dnr_jax.start import main

if __name__ == "__main__":
    sys.exit(main())
