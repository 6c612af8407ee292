"""Intervals of shares."""

from __future__ import annotations

import math
from statistics import NormalDist


def wilson(rate: float, n: float, confidence: float) -> tuple[float, float]:
    """Wilson's interval (1927) of a share of n clips; n may be a fraction.

    >>> [round(end, 2) for end in wilson(1.0, 1, 0.95)]
    [0.21, 1.0]
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


__all__ = ["wilson"]
