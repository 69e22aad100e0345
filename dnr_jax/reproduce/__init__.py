"""The paper's tables as a command: ``dnr reproduce``.

:mod:`~dnr_jax.reproduce.tables` holds tables and rows with the paper's figures, as data;
:mod:`~dnr_jax.reproduce.experiments` turns a row into a configuration; :mod:`~dnr_jax.reproduce.results` keeps finished
runs as lines of a file; :mod:`~dnr_jax.reproduce.queue` does the runs; :mod:`~dnr_jax.reproduce.statistics` and
:mod:`~dnr_jax.reproduce.report` make tables, pictures and verdicts of the lines;
:mod:`~dnr_jax.reproduce.findings` says what follows from them. The protocol is ``docs/reproduction.md``.
"""
