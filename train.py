"""Train a network: ``python train.py --config=demo --config.train.steps=1000``; the same as ``dnr train``."""

import os
import signal
import sys

# Workers of the input pipeline import this file again, so nothing is imported outside of this block.
if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # no traceback of the imports, which take seconds
    from dnr_jax import train_command

    if callable(signal.getsignal(signal.SIGINT)):
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(train_command.main("python train.py", sys.argv[1:]))
