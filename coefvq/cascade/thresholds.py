"""From which uncertainty on a clip is deferred: by budget, or by what it costs.

A threshold τ reads: defer where uncertainty >= τ. −inf defers everything, +inf nothing. For a
wanted recall see `coefvq.cascade.recall`.
"""

from __future__ import annotations

import math

import numpy as np

from coefvq.cascade.arrays import Array, Values, check_column, check_share, check_weight
from coefvq.cascade.cost import Cost


def by_budget(uncertainty: Values, budget: float, *, sample_weight: Values | None = None) -> float:
    """Choose the threshold that defers at most this share of clips; needs no labels.

    Give it clips as they come in service: the share holds there as long as the mix stays. Clips
    that tie are deferred together or not at all, so that ties never exceed the budget. The
    threshold lies half-way to the next clip.

    Args:
        uncertainty: (N,) from a gate.
        budget: share of traffic in [0, 1]; 0 defers nothing and 1 everything, on any clips.
        sample_weight: (N,) how many clips of the traffic each stands for; None: one each.

    Returns:
        τ; +inf for budget 0, −inf for 1.

    Raises:
        ValueError: a budget outside [0, 1], no clip, or NaN.

    >>> by_budget([0.1, 0.2, 0.3, 0.4], 0.5)
    0.25
    """
    check_share("budget", budget, ends=True)
    u = check_column(uncertainty, "uncertainty")
    weight = check_weight(sample_weight, len(u))
    if budget in (0, 1):
        return -math.inf if budget else math.inf
    if len(u) == 0:
        raise ValueError("no clip to choose a budget's threshold by; give some, labels aren't read")
    levels, share = _levels(u, weight)
    affordable = np.flatnonzero(share <= budget + 1e-12)
    if not len(affordable):  # the most uncertain clips tie, or are few: just above them
        return float(np.nextafter(levels[0], np.inf))
    return _between(levels, int(affordable[-1]))


def by_cost(
    uncertainty: Values,
    kept_loss: Values,
    deferred_loss: Values,
    cost: Cost,
    *,
    sample_weight: Values | None = None,
) -> float:
    """Choose the threshold with the smallest mean of c1 + ρ·c2 + price of wrong answers.

    Args:
        uncertainty: (N,) from a gate.
        kept_loss: (N,) price of the light model's answer, in the unit of `cost`: 0 where right,
            the price of a miss where it misses.
        deferred_loss: (N,) likewise of the answer after deferring.
        cost: seconds per clip.
        sample_weight: (N,) how many clips of the traffic each stands for; None: one each.

    Returns:
        τ; of equal means the one that defers least.

    Raises:
        ValueError: lengths that don't belong together, no clip, or NaN.

    >>> by_cost([0.1, 0.2, 0.9], [0.0, 0.0, 50.0], [0.0, 0.0, 0.0], Cost(1.0, 10.0))
    0.55
    """
    u = check_column(uncertainty, "uncertainty")
    kept = check_column(kept_loss, "kept_loss", len(u))
    deferred = check_column(deferred_loss, "deferred_loss", len(u))
    weight = check_weight(sample_weight, len(u))
    if len(u) == 0:
        raise ValueError("no clip to choose a threshold by; give clips scored by both models")
    levels, inverse = np.unique(-u, return_inverse=True)
    extra = np.bincount(inverse, weights=weight * (deferred + cost.second - kept))
    change = np.concatenate([[0.0], np.cumsum(extra)])  # of deferring the k most uncertain levels
    best = int(change.argmin())
    if best == 0:
        return math.inf
    return -math.inf if best == len(levels) else _between(-levels, best - 1)


def _levels(u: Array, weight: Array) -> tuple[Array, Array]:
    """Distinct uncertainties, falling, and the share of weight at or above each."""
    levels, inverse = np.unique(-u, return_inverse=True)
    return -levels, np.cumsum(np.bincount(inverse, weights=weight)) / weight.sum()


def _between(levels: Array, last: int) -> float:
    """A threshold between the last level that is deferred and the next below."""
    upper = float(levels[last])
    if last + 1 == len(levels):
        return upper
    middle = (upper + float(levels[last + 1])) / 2
    return middle if levels[last + 1] < middle <= upper else upper
