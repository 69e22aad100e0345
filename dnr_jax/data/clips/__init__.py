"""Which pixels: the clips that are read of videos, in batches.

In the order in which a clip passes through them: which frames (:mod:`~dnr_jax.data.clips.sampling`), their pixels
(:mod:`~dnr_jax.data.clips.decode`), crops and flips (:mod:`~dnr_jax.data.clips.transforms`), and shuffling, sharding,
threads and batches (:mod:`~dnr_jax.data.clips.pipeline`).
"""
