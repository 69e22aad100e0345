"""Which videos: where they are, what each one shows, what is wrong with them, and records made of them.

From the bottom: text of any encoding (:mod:`~dnr_jax.data.catalogue.textfiles`), formats of annotations
(:mod:`~dnr_jax.data.catalogue.annotations`), folders, lists and public data sets
(:mod:`~dnr_jax.data.catalogue.folders`, :mod:`~dnr_jax.data.catalogue.lists`,
:mod:`~dnr_jax.data.catalogue.datasets`), and what an experiment names (:mod:`~dnr_jax.data.catalogue.sources`).
:mod:`~dnr_jax.data.catalogue.check` looks into all videos, :mod:`~dnr_jax.data.catalogue.prepare` makes records.
"""
