"""Looking into a network: what its relays predict."""

from dnr_jax.explain.relays import RelayTrace, inspect, plot_relays

__all__ = ["RelayTrace", "inspect", "plot_relays"]
