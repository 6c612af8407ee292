"""What clips with unequal weights are worth as equal ones."""

from __future__ import annotations

import numpy as np

from coefvq.cascade.arrays import Array
from coefvq.evaluation.intervals import wilson


def kish(weight: Array) -> float:
    """(Σ w)² / Σ w² (Kish, 1965): how many equal clips spread as much, whatever they are."""
    return float(weight.sum()) ** 2 / float((weight**2).sum())


def effective_clips(weight: Array, values: Array, *, lost: float = 0.0) -> float:
    """How many equally weighted clips would know the share of `values` as well.

    Kish's number (`kish`), or less where heavy clips differ more from the mean than light
    ones: p·(1 − p) over the linearised variance Σ w²·(x − p)² / (Σ w)² of the weighted share p.

    Args:
        weight: (n,) at least 0, not all 0.
        values: (n,) in [0, 1].
        lost: weight of one more clip of value 1, as if it had been seen.
    """
    weight = np.append(weight, lost) if lost else weight
    values = np.append(values, 1.0) if lost else values
    whole = float(weight.sum())
    share = float(weight @ values) / whole
    most = kish(weight)
    variance = float((weight**2) @ (values - share) ** 2) / whole**2
    return min(most, share * (1 - share) / variance) if variance > 0 else most


def weighted_interval(
    weight: Array, values: Array, confidence: float, *, unseen: float = 0.0
) -> tuple[float, float]:
    """Wilson's interval (1927) of a weighted share, each end with its own number of clips.

    The upper end asks what a clip as heavy as the heaviest would do to the spread, had it been a 1:
    without that, a sample in which no heavy clip is one yet looks far too certain. Equal weights
    give Wilson's interval.

    Args:
        weight: (n,) above 0, n at least 1.
        values: (n,) in [0, 1].
        confidence: two-sided.
        unseen: Σ c² / (Σ c)² of heavy clips that the share is about, too, and that aren't in the
            sample: as much spread on top.
    """
    share = float(weight @ values) / float(weight.sum())
    lower = effective_clips(weight, values)
    upper = min(kish(weight), effective_clips(weight, values, lost=float(weight.max())))
    one, other = (wilson(share, 1 / (1 / n + unseen), confidence) for n in (lower, upper))
    return one[0], other[1]
