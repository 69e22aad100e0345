"""Videos in, batches of uint8 clips out.

Two rooms: the catalogue says which videos there are and what each one shows (:mod:`dnr_jax.data.catalogue`), and the
reading of clips makes pixels of them (:mod:`dnr_jax.data.clips`). Import the module you need: this file imports
nothing, so that ``import dnr_jax`` loads neither grain nor a video decoder.
"""
