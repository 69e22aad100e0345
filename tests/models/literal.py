"""A norm of a block as the networks' literal versions use it."""

from tests.dnr import reference


def norm(kind, params, cell, stats, states, x, train, groups=1):
    """One norm of ``kind``; ``groups`` are those of cross-temporal DNR.

    Returns the states that cross-layer DNR relays, the output and the running statistics.
    """
    runs = groups if kind == "ct" else 1
    if kind == "cl":
        states, scale, shift = reference.cross_layer(cell, states, x)
        scales, shifts = [scale] * x.shape[1], [shift] * x.shape[1]
    elif kind == "ct":
        scales, shifts = reference.cross_temporal(params, x, groups=groups)
    else:
        scales, shifts = reference.static(params, x)
    standardized, stats = reference.standardize(params, stats, x, train=train, runs=runs)
    return states, reference.transform(standardized, scales, shifts), stats


def static_norm(params, stats, x, train):
    """Batch normalisation; returns the output and the running statistics."""
    return norm("static", params, None, stats, None, x, train)[1:]
