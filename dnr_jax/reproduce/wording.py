"""Figures as people read them."""

import math

from dnr_jax.reproduce.statistics import Contrast, Estimate


def figure(value: float, sign: str = "") -> str:
    """Return a figure with one decimal; a zero has no minus, positive ones a plus where ``sign`` is ``+``."""
    # Sums of the same numbers in another order differ in the last bits, and would round halves to either side.
    return f"{round(value, 9):{sign}z.1f}"


def interval(value: Estimate, sign: str = "") -> str:
    """Return a mean with its interval, or alone where there is one value; a zero has no minus.

    Args:
      value: an accuracy in per cent or, with a sign, a difference of some.
      sign: ``+`` to have it of positive figures too; without it, bounds end at 0 and 100.
    """
    low, high = (value.low, value.high) if sign else percent_bounds(value)
    texts = [figure(one, sign) for one in (value.mean, low, high)]
    return texts[0] if math.isnan(value.half) else f"{texts[0]} ({texts[1]} to {texts[2]})"


def percent_bounds(value: Estimate) -> tuple[float, float]:
    """Return the ends of the interval of an accuracy in per cent, which cannot be below 0 or above 100."""
    return max(value.low, 0.0), min(value.high, 100.0)


def points(found: Contrast, per: str = "") -> str:
    """Return a contrast as people read it: ``+1.2 points (-0.3 to +2.7; 5 seeds)``.

    Args:
      found: the contrast.
      per: of a slope, what the points are per: ``a doubling of the steps``.
    """
    seeds = found.over_seeds
    mean, _, bounds = interval(seeds, "+").partition(" (")
    spread = f"{bounds.removesuffix(')')}; " if bounds else ""
    return f"{mean} points{per and f' {per}'} ({spread}{seeds.count} seed{'s' * (seeds.count > 1)})"
