"""The networks of the paper and of its comparisons, by name, as configurations."""

from dnr_jax.config import Network, ZooNetwork, registered


def zoo() -> dict[str, ZooNetwork]:
    """Return the published networks of all families by name: family, (``fb``: PySlowFast's form,) ResNet, variant."""
    networks: dict[str, ZooNetwork] = {}
    for family in registered(Network).values():
        networks |= family.zoo()
    return networks
