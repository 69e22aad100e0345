"""Looking into a network: what its relays predict, and where in a clip it sees a class."""

from dnr_jax.explain.explainer import Explainer, Explanation
from dnr_jax.explain.relays import RelayTrace, inspect, plot_relays

__all__ = ["Explainer", "Explanation", "RelayTrace", "inspect", "plot_relays"]
