"""Videos in, batches of uint8 clips out.

The modules, in the order in which a clip passes through them: :mod:`~dnr_jax.data.sources` (which videos, which
labels), :mod:`~dnr_jax.data.sampling` (which frames), :mod:`~dnr_jax.data.decode` (their pixels),
:mod:`~dnr_jax.data.transforms` (crops and flips) and :mod:`~dnr_jax.data.pipeline` (shuffling, sharding, threads,
batches). :mod:`~dnr_jax.data.demo` generates a small data set. Import the module you need: this file imports nothing,
so that ``import dnr_jax`` loads neither grain nor a video decoder.
"""
