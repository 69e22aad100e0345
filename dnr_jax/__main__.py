"""``python -m dnr_jax``: the ``dnr`` command, where its script is not on the path."""

import sys

from dnr_jax import cli

if __name__ == "__main__":
    sys.exit(cli.main())
