"""Is the cascade still what was fitted: what it misses, from audited clips, and what it defers."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Self

import numpy as np

from coefvq.cascade.arrays import Values, check_column, check_flags, check_share
from coefvq.cascade.binomial import at_least, cdf


@dataclass(frozen=True)
class MissEstimate:
    """How much of the kept traffic the cascade got wrong, from a random audit of it.

    Args:
        rate: share of kept clips that are missed (Hájek: Σ miss/π / Σ 1/π).
        low: lower end of the interval on `rate`.
        high: upper end.
        total: how many kept clips of the period are missed (Horvitz–Thompson: Σ miss/π).
        kept: how many clips of the period were kept, by the same weights (Σ 1/π).
        confidence: of the interval.
        audited: clips that it rests on.
        effective: what they are worth with their unequal weights, (Σ w)² / Σ w².
    """

    rate: float
    low: float
    high: float
    total: float
    kept: float
    confidence: float
    audited: int
    effective: float


def miss_rate(missed: Values, probability: Values, *, confidence: float = 0.95) -> MissEstimate:
    """Estimate the share of missed clips among the kept ones by inverse-probability weighting.

    An audit sends some kept clips through the heavy model as well, each with a known probability π
    that was recorded when it was drawn. Weighting by 1/π undoes that some were likelier to be
    drawn than others (Horvitz & Thompson, 1952; Hájek, 1971). The interval is Wilson's with the
    effective number of clips: with no miss among n it still ends near z²/n, not at 0. It is an
    approximation; with few and very unequal weights read it as a guide.

    Args:
        missed: (n,) bool of the audited clips that were kept: the light model said no and the heavy
            one (or a person) yes.
        probability: (n,) π in (0, 1] with which each was drawn.
        confidence: of the interval, two-sided.

    Raises:
        ValueError: no audited clip, lengths that differ, a probability outside (0, 1].

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
    weight = 1 / chance
    effective = float(weight.sum() ** 2 / (weight**2).sum())
    total = float((weight * miss).sum())
    kept = float(weight.sum())
    rate = total / kept
    low, high = _wilson(rate, effective, confidence)
    return MissEstimate(rate, low, high, total, kept, confidence, len(chance), effective)


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


@dataclass(frozen=True)
class RateTest:
    """Whether a window's deferral rate is the one that was fitted.

    Args:
        rate: share deferred in the window.
        expected: share that the policy was fitted to.
        p_value: exact binomial, two-sided (twice the smaller tail).
        drifted: whether it is below the level that was asked for.
    """

    rate: float
    expected: float
    p_value: float
    drifted: bool


def rate_drift(deferred: int, clips: int, expected: float, *, level: float = 0.001) -> RateTest:
    """Test one window of traffic, taken as independent clips.

    Looking often needs a small level; for a running watch use `RateWatch`, which is made for it.
    With very many clips any small change is significant: look at the rate too.

    Args:
        deferred: how many of the window were deferred.
        clips: in the window, at least 1.
        expected: the fitted share, in (0, 1).
        level: of the test, in (0, 1).

    Raises:
        ValueError: counts or shares that are none.

    >>> rate_drift(10, 100, 0.1).drifted, rate_drift(40, 100, 0.1).drifted
    (False, True)
    """
    check_share("expected", expected, ends=False)
    check_share("level", level, ends=False)
    if clips < 1 or not 0 <= deferred <= clips:
        raise ValueError(f"expected 0 <= deferred <= clips and clips >= 1, got {deferred}, {clips}")
    tails = float(cdf(clips, expected)[deferred]), at_least(clips, expected, deferred)
    p_value = min(1.0, 2 * min(tails))
    return RateTest(deferred / clips, expected, p_value, p_value < level)


@dataclass(frozen=True)
class RateWatch:
    """A running two-sided CUSUM of the deferral rate: sums the evidence for a change, forgets none.

    Each clip adds the log likelihood ratio of a changed rate (`expected` × or ÷ `ratio`) to the
    unchanged one; a sum below 0 starts again at 0 (Page, 1954). It alarms at
    log(2 · `false_alarm_every`), so that false alarms are on average at least that many clips
    apart (Lorden, 1971).

    Args:
        expected: the fitted share, in (0, 1).
        ratio: change to be found soonest, above 1.
        false_alarm_every: clips.
        up: evidence for a higher rate, nats.
        down: for a lower one.
        clips: seen since the start.
        alarm: the clip (from 1) at which it first alarmed; None: not yet.
        direction: `"up"`, `"down"` or empty.
    """

    expected: float
    ratio: float = 1.5
    false_alarm_every: int = 100_000
    up: float = 0.0
    down: float = 0.0
    clips: int = 0
    alarm: int | None = None
    direction: str = ""

    def __post_init__(self) -> None:
        check_share("expected", self.expected, ends=False)
        if not self.ratio > 1 or self.false_alarm_every < 1:
            raise ValueError(
                f"ratio must be above 1 and false_alarm_every at least 1, got {self.ratio} and "
                f"{self.false_alarm_every}"
            )

    @property
    def limit(self) -> float:
        """Evidence at which it alarms, nats."""
        return math.log(2 * self.false_alarm_every)

    def update(self, routes: Values) -> Self:
        """Return the watch after these clips, in the order in which they came.

        Args:
            routes: (n,) bool, True where deferred.
        """
        column = check_column(routes, "routes")
        went = check_flags(column, "routes", len(column))
        if not len(went):
            return self
        sums, first = {}, {}
        p = self.expected
        for side, changed in (
            ("up", min(p * self.ratio, (1 + p) / 2)),
            ("down", p / self.ratio),
        ):
            step = np.where(went, math.log(changed / p), math.log((1 - changed) / (1 - p)))
            path = getattr(self, side) + np.cumsum(step)
            path = path - np.minimum(np.minimum.accumulate(path), 0.0)
            sums[side] = float(path[-1])
            over = np.flatnonzero(path >= self.limit)
            if len(over):
                first[side] = self.clips + int(over[0]) + 1
        alarm, direction = self.alarm, self.direction
        if alarm is None and first:
            direction = min(first, key=lambda side: first[side])
            alarm = first[direction]
        return dataclasses.replace(
            self, up=sums["up"], down=sums["down"], clips=self.clips + len(went), alarm=alarm,
            direction=direction,
        )  # fmt: skip


def _wilson(rate: float, n: float, confidence: float) -> tuple[float, float]:
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
