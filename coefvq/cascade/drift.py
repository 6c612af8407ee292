"""Does a cascade still defer what it was fitted to: a window of traffic, or a running watch."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from coefvq.cascade.arrays import Values, check_column, check_flags, check_share
from coefvq.cascade.binomial import at_least, cdf, limits, two_sample_tails


@dataclass(frozen=True)
class RateTest:
    """Whether a window's deferral rate is the one that was fitted.

    Args:
        rate: share deferred in the window.
        expected: share that the policy was fitted to.
        p_value: exact, two-sided (twice the smaller tail).
        drifted: whether it is below the level that was asked for.
        calibration: clips that `expected` is known from; 0: taken as exact.
    """

    rate: float
    expected: float
    p_value: float
    drifted: bool
    calibration: int = 0


def rate_drift(
    deferred: int, clips: int, expected: float, *, calibration: int = 0, level: float = 0.001
) -> RateTest:
    """Test one window of traffic, taken as independent clips.

    A threshold that is chosen on n clips defers another share of the traffic than of these: with
    500 of them and a budget of 10 % between 7.6 and 12.9 % in 19 of 20 fits. With `calibration` the
    window and those clips are compared as two samples (Fisher's exact test), so that this is no
    drift. It is exact for a threshold that is a quantile or fixed, and nearly so for one that was
    chosen otherwise or behind a calibrator fitted on the same clips.

    Looking often needs a small level; for a running watch use `RateWatch`, which is made for it.
    With very many clips any small change is significant: look at the rate too.

    Args:
        deferred: how many of the window were deferred.
        clips: in the window, at least 1.
        expected: the fitted share, in (0, 1).
        calibration: clips that it was fitted on (`Policy.expected["clips"]`); 0: the share is taken
            as exact, which flags ever smaller differences as windows grow.
        level: of the test, in (0, 1).

    Raises:
        ValueError: counts or shares that are none.

    >>> rate_drift(10, 100, 0.1).drifted, rate_drift(40, 100, 0.1).drifted
    (False, True)
    """
    check_share("expected", expected, ends=False)
    check_share("level", level, ends=False)
    _check_calibration(calibration)
    if clips < 1 or not 0 <= deferred <= clips:
        raise ValueError(f"expected 0 <= deferred <= clips and clips >= 1, got {deferred}, {clips}")
    if calibration:
        fitted = round(expected * calibration), calibration
        tails = two_sample_tails(fitted, (deferred, clips))
    else:
        tails = float(cdf(clips, expected)[deferred]), at_least(clips, expected, deferred)
    p_value = min(1.0, 2 * min(tails))
    return RateTest(deferred / clips, expected, p_value, p_value < level, calibration)


@dataclass(frozen=True)
class RateWatch:
    """A running two-sided CUSUM of the deferral rate: sums the evidence for a change, forgets none.

    Each clip adds the log likelihood ratio of a changed rate (`expected` × or ÷ `ratio`) to the
    unchanged one; a sum below 0 starts again at 0 (Page, 1954). It alarms at
    log(2 · `false_alarm_every`), so that false alarms are on average at least that many clips
    apart (Lorden, 1971).

    With `calibration` every rate is unchanged that those clips leave possible (`tolerated`, 99 %
    exact limits), and evidence is counted against the nearest of them: the promise then holds in
    99 of 100 fits. A change that stays inside is not found, so few clips make it a slow watch.

    Args:
        expected: the fitted share, in (0, 1).
        ratio: change to be found soonest, above 1.
        false_alarm_every: clips.
        up: evidence for a higher rate, nats.
        down: for a lower one.
        clips: seen since the start.
        alarm: the clip (from 1) at which it first alarmed; None: not yet.
        direction: `"up"`, `"down"` or empty.
        calibration: clips that `expected` was fitted on; 0: taken as exact.
    """

    expected: float
    ratio: float = 1.5
    false_alarm_every: int = 100_000
    up: float = 0.0
    down: float = 0.0
    clips: int = 0
    alarm: int | None = None
    direction: str = ""
    calibration: int = 0

    def __post_init__(self) -> None:
        check_share("expected", self.expected, ends=False)
        _check_calibration(self.calibration)
        if not self.ratio > 1 or self.false_alarm_every < 1:
            raise ValueError(
                f"ratio must be above 1 and false_alarm_every at least 1, got {self.ratio} and "
                f"{self.false_alarm_every}"
            )

    @property
    def limit(self) -> float:
        """Evidence at which it alarms, nats."""
        return math.log(2 * self.false_alarm_every)

    @property
    def tolerated(self) -> tuple[float, float]:
        """Rates that count as unchanged, from the lowest to the highest."""
        if not self.calibration:
            return self.expected, self.expected
        return limits(self.calibration, round(self.expected * self.calibration), 0.005)

    def update(self, routes: Values) -> Self:
        """Return the watch after these clips, in the order in which they came.

        Args:
            routes: (n,) bool, True where deferred.
        """
        column = check_column(routes, "routes")
        went = check_flags(column, "routes", len(column))
        if not len(went):
            return self
        sums, first = {"up": 0.0, "down": 0.0}, {}
        lowest, highest = self.tolerated
        for side, p, changed in (
            ("up", highest, min(highest * self.ratio, (1 + highest) / 2)),
            ("down", lowest, lowest / self.ratio),
        ):
            if not 0 < p < 1:  # nothing lies beyond
                continue
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


def _check_calibration(clips: int) -> None:
    if isinstance(clips, bool) or not isinstance(clips, int) or clips < 0:
        raise ValueError(f"calibration is a number of clips, or 0 where unknown, got {clips!r}")
