"""Train a network: ``python train.py --config=demo --config.train.steps=1000``; the same as ``dnr train``."""

import sys

# Workers of the input pipeline import this file again, so nothing is imported outside of this block.
if __name__ == "__main__":
    from dnr_jax.start import import_quietly

    train_command = import_quietly("dnr_jax.train_command", "python train.py")
    sys.exit(train_command.main("python train.py", sys.argv[1:]))
