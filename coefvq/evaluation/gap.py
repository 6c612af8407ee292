"""Statistics over seeds: intervals, paired differences, share of the teacher–student gap closed.

Every interval is a 95 % interval over *seeds*: it covers what another seed would change, not what
another test split would.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Interval(NamedTuple):
    """A mean and the half-width of its interval; the half-width of one value is NaN."""

    mean: float
    half_width: float


class Difference(NamedTuple):
    """Mean paired difference, the half-width of its interval, and the seeds both sides had."""

    mean: float
    half_width: float
    seeds: tuple[int, ...]


class GapClosed(NamedTuple):
    """Share of the gap closed with its interval; `reason` says why something is NaN."""

    value: float
    low: float
    high: float
    seeds: tuple[int, ...]
    reason: str = ""


def student_t_quantile(confidence: float, degrees: int) -> float:
    """Return t such that |T| <= t with this probability, for Student's T with `degrees` freedom.

    Bisects the finite series for whole degrees of freedom (Abramowitz and Stegun, 26.7.3 and
    26.7.4), which spares the package a dependency on SciPy.

    >>> round(student_t_quantile(0.95, 4), 4)
    2.7764
    """
    low, high = 0.0, math.pi / 2
    for _ in range(100):
        angle = (low + high) / 2
        low, high = (angle, high) if _central_mass(angle, degrees) < confidence else (low, angle)
    return math.sqrt(degrees) * math.tan((low + high) / 2)


def _central_mass(angle: float, degrees: int) -> float:
    """P(|T| <= √degrees · tan(angle))."""
    cosine = math.cos(angle)
    odd = degrees % 2
    term = total = 0.0 if degrees == 1 else (cosine if odd else 1.0)
    for k in range(3 if odd else 2, degrees - 1, 2):
        term *= cosine**2 * (k - 1) / k
        total += term
    mass = math.sin(angle) * total
    return 2 / math.pi * (angle + mass) if odd else mass


def mean_interval(values: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """Return the mean over seeds and the half-width of its t-interval.

    Args:
        values: one number per seed. NaN is refused: leave an undefined value out yourself and say
            so.
        confidence: in (0, 1).

    Returns:
        NaN for both without values; a NaN half-width for a single value.

    Raises:
        ValueError: a NaN among the values, or a confidence outside (0, 1).

    >>> mean_interval([0.5, 0.6, 0.7]).mean
    0.6
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; expected a number between 0 and 1")
    if any(math.isnan(value) for value in values):
        raise ValueError(f"{list(values)} holds NaN; leave undefined seeds out and say how many")
    n = len(values)
    if n == 0:
        return Interval(math.nan, math.nan)
    mean = math.fsum(values) / n
    if n == 1:
        return Interval(mean, math.nan)
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return Interval(mean, student_t_quantile(confidence, n - 1) * math.sqrt(variance / n))


def paired_difference(
    a: Mapping[int, float], b: Mapping[int, float], *, confidence: float = 0.95
) -> Difference:
    """Return the mean of a − b over the seeds that both have, and the half-width of its interval.

    Args:
        a: value by seed.
        b: value by seed. A NaN counts as a missing seed on either side.
        confidence: in (0, 1).

    >>> paired_difference({1: 0.6, 2: 0.7, 3: 0.9}, {1: 0.5, 2: 0.6}).seeds
    (1, 2)
    """
    seeds = _common(a, b)
    return Difference(*mean_interval([a[s] - b[s] for s in seeds], confidence=confidence), seeds)


def gap_closed(
    baseline: float, student: float, teacher: float, *, higher_is_better: bool = True
) -> float:
    """Return (student − baseline) / (teacher − baseline): 0 the baseline, 1 the teacher.

    NaN where `gap_reason` gives a reason; below 0 or above 1 is possible and meant.

    >>> gap_closed(0.5, 0.75, 1.0)
    0.5
    """
    if gap_reason(baseline, teacher, higher_is_better=higher_is_better) or math.isnan(student):
        return math.nan
    return (student - baseline) / (teacher - baseline)


def gap_reason(baseline: float, teacher: float, *, higher_is_better: bool = True) -> str:
    """Say why there is no gap to close; the empty string when there is one."""
    if math.isnan(baseline) or math.isnan(teacher):
        return "the metric of the teacher or of the baseline is undefined"
    if (teacher > baseline) if higher_is_better else (teacher < baseline):
        return ""
    return f"the teacher ({teacher:.4g}) is not better than the baseline ({baseline:.4g})"


def gap_closed_over_seeds(
    baseline: Mapping[int, float],
    student: Mapping[int, float],
    teacher: Mapping[int, float],
    *,
    higher_is_better: bool = True,
    confidence: float = 0.95,
) -> GapClosed:
    """Return mean(student − baseline) / mean(teacher − baseline) over the seeds all three have.

    The ratio of means, not the mean of ratios: one seed whose teacher is hardly better than its
    baseline would swamp the latter. The interval is Fieller's (1954), the exact one for a ratio of
    paired normal means; it is not symmetric. Where the teacher's lead is not clearly different from
    zero over these seeds, no finite interval exists and `low` and `high` are NaN with a reason.

    Args:
        baseline: value by seed, for instance of `supervised`; NaN counts as a missing seed.
        student: value by seed.
        teacher: value by seed.
        higher_is_better: the direction of the metric.
        confidence: in (0, 1).

    >>> round(gap_closed_over_seeds({1: 0.5, 2: 0.4}, {1: 0.6, 2: 0.6}, {1: 0.8, 2: 0.7}).value, 4)
    0.5
    """
    seeds = _common(baseline, student, teacher)
    nan = math.nan
    if not seeds:
        return GapClosed(
            nan, nan, nan, seeds, "no seed has the student, the baseline and the teacher"
        )
    n = len(seeds)
    gain = [student[s] - baseline[s] for s in seeds]
    lead = [teacher[s] - baseline[s] for s in seeds]
    reason = gap_reason(
        math.fsum(baseline[s] for s in seeds) / n,
        math.fsum(teacher[s] for s in seeds) / n,
        higher_is_better=higher_is_better,
    )
    if reason:
        return GapClosed(nan, nan, nan, seeds, reason)
    x, y = math.fsum(gain) / n, math.fsum(lead) / n
    if n == 1:
        return GapClosed(x / y, nan, nan, seeds, "one seed has no interval")
    scale = student_t_quantile(confidence, n - 1) ** 2 / (n * (n - 1))
    xx = scale * math.fsum((g - x) ** 2 for g in gain)
    yy = scale * math.fsum((v - y) ** 2 for v in lead)
    xy = scale * math.fsum((g - x) * (v - y) for g, v in zip(gain, lead, strict=True))
    # {r : (x − r·y)² <= xx − 2·r·xy + r²·yy}, a quadratic in r that is bounded only if y² > yy.
    a, b, c = y * y - yy, x * y - xy, x * x - xx
    if a <= 0:
        return GapClosed(
            x / y, nan, nan, seeds, "the teacher's lead varies too much over seeds for an interval"
        )
    root = math.sqrt(max(b * b - a * c, 0.0))
    return GapClosed(x / y, (b - root) / a, (b + root) / a, seeds)


def _common(*sides: Mapping[int, float]) -> tuple[int, ...]:
    seeds = set.intersection(*(set(side) for side in sides))
    return tuple(sorted(s for s in seeds if not any(math.isnan(side[s]) for side in sides)))
