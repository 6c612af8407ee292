"""Is a cascade still what was fitted: what it misses, from audited clips; `drift` is beside it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from coefvq.cascade.arrays import Array, Values, check_column, check_flags, check_share
from coefvq.cascade.drift import RateTest, RateWatch, rate_drift
from coefvq.cascade.effective import effective_clips, weighted_interval


@dataclass(frozen=True)
class MissEstimate:
    """How much of the kept traffic the cascade got wrong, from a random audit of it.

    Args:
        rate: share of kept clips that are missed (Hájek: Σ miss/π / Σ 1/π).
        low: lower end of the interval on `rate`.
        high: upper end.
        total: how many kept clips of the period are missed: `rate` of `kept`.
        kept: how many clips of the period were kept: counted where that was given, else estimated
            by the same weights (Σ 1/π).
        confidence: of the interval.
        audited: clips that it rests on.
        effective: what they are worth as equally weighted, different clips.
        distinct: how many different ones they are.
    """

    rate: float
    low: float
    high: float
    total: float
    kept: float
    confidence: float
    audited: int
    effective: float
    distinct: int


def miss_rate(
    missed: Values,
    probability: Values,
    *,
    contents: Sequence[Hashable] | None = None,
    kept: int | None = None,
    unaudited: Values | None = None,
    confidence: float = 0.95,
) -> MissEstimate:
    """Estimate the share of missed clips among the kept ones by inverse-probability weighting.

    An audit sends some kept clips through the heavy model as well, each with a known probability π
    that was recorded when it was drawn. Weighting by 1/π undoes that some were likelier to be
    drawn than others (Horvitz & Thompson, 1952; Hájek, 1971). The interval is Wilson's with the
    effective number of clips (see `coefvq.cascade.effective`): with no miss among n it still ends
    near z²/n, not at 0. It is an approximation. In simulations of 95 % intervals with chances that
    differ up to thirtyfold it covers in 94 to 99 of 100, with uploads that repeat by Zipf's law
    (exponents 0.8 to 1.5) in 93 to 97, at an exponent of 2, where the interval is wide, in 91.

    A file that is uploaded again is in the audit again, with the same answers. It says nothing new:
    with `contents` it is one clip that weighs as much as all its uploads.

    Args:
        missed: (n,) bool of the audited clips that were kept: the light model said no and the heavy
            one (or a person) yes.
        probability: (n,) π in (0, 1] with which each was drawn.
        contents: (n,) what each is a copy of, for instance a hash of its file; drawn or not drawn
            together. None: all differ.
        kept: how many clips of the period were kept, audited or not; None: unknown.
        unaudited: (u,) how often each kept content came that is not in the audit: what the rate is
            about and nobody looked at. None: nothing came twice.
        confidence: of the interval, two-sided.

    Raises:
        ValueError: no audited clip, lengths that differ, a probability outside (0, 1], fewer kept
            clips than audited ones, a count below 1.

    >>> miss_rate([True, False, False], [0.5, 0.5, 1.0]).rate
    0.4
    """
    check_share("confidence", confidence, ends=False)
    chance = check_column(probability, "probability")
    miss = check_flags(missed, "missed", len(chance))
    if not len(chance):
        raise ValueError("no audited clip; a miss rate needs a random share that both models saw")
    if not ((chance > 0) & (chance <= 1)).all():
        raise ValueError(
            "probability must be in (0, 1]: the chance with which each audited clip was drawn, as "
            "recorded when it was"
        )
    if kept is not None and kept < len(chance):
        raise ValueError(f"kept counts all kept clips, got {kept} for {len(chance)} audited ones")
    times = check_column(() if unaudited is None else unaudited, "unaudited")
    if (times < 1).any():
        raise ValueError(f"unaudited counts uploads of each content, from 1 on, got {times.min()}")
    names = range(len(chance)) if contents is None else contents
    if len(names) != len(chance):
        raise ValueError(f"contents names each audited clip, got {len(names)} for {len(chance)}")
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    place = [number[name] for name in names]
    weight: Array = np.bincount(place, weights=1 / chance).astype(np.float64)
    share: Array = np.bincount(place, weights=miss / chance).astype(np.float64) / weight
    rate = float(weight @ share) / float(weight.sum())
    there = float(weight.sum()) if kept is None else float(kept)
    # Contents that came once are what any sample leaves out, and Wilson's interval is about.
    unseen = float((times * (times - 1)).sum()) / max(there, float(times.sum()), 1.0) ** 2
    low, high = weighted_interval(weight, share, confidence, unseen=unseen)
    effective = 1 / (1 / effective_clips(weight, share) + unseen)
    return MissEstimate(
        rate, low, high, rate * there, there, confidence, len(chance), effective, len(number)
    )


def recall_from_audit(misses: MissEstimate, found: int) -> tuple[float, float, float]:
    """Return the recall of a period and its interval: found / (found + missed).

    Missed are positives among the clips that the light model *kept*. Where the heavy model is the
    judge, these are all. Where people are, positives that the heavy model denied are missed, too,
    and are not counted here: then this is an upper bound, unless some of the deferred clips are
    audited as well.

    Args:
        misses: of the kept clips of the period.
        found: positives that the cascade answered yes in the same period, confirmed by the same
            judge as the audit; taken as known exactly.

    Returns:
        Recall, its lower and its upper end, in [0, 1]; NaN where nothing was found or missed.

    Raises:
        ValueError: a negative count.
    """
    if found < 0:
        raise ValueError(f"found must be at least 0, got {found}")

    def share(rate: float) -> float:
        there = found + rate * misses.kept
        return found / there if there > 0 else math.nan

    return share(misses.rate), share(misses.high), share(misses.low)


__all__ = [
    "MissEstimate",
    "RateTest",
    "RateWatch",
    "miss_rate",
    "rate_drift",
    "recall_from_audit",
]
