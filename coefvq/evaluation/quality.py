"""How well scores follow people's: rank correlations as they are, PLCC and RMSE after a logistic.

SRCC and KRCC read the raw scores. PLCC and RMSE follow the video-quality field's protocol: a
four-parameter logistic first brings the scores to the labels' unit. Where that curve cannot be
fitted the raw numbers are given, and `logistic_fit` says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEVELS: Final = ("bad", "poor", "fair", "good", "excellent")
"""Words of the five equal fifths of a range, from its lower end (ITU-R BT.500, ITU-T P.910)."""

MIN_FIT: Final = 5
"""Fewer clips than this give the logistic's four parameters nothing to be wrong about."""

OF_SCORES: Final = (
    "srcc", "krcc", "plcc", "rmse", "plcc_raw", "rmse_raw", "logistic_fit", "level_accuracy",
)  # fmt: skip
"""What models of scores are measured by; the last only where the labels' range is known."""

_ITERATIONS = 1000
_MORE_STARTS = ((0.0, 0.25), (0.0, 3.0), (-1.0, 0.5), (1.0, 0.5))
_CREEP = 50
_BLOCK = 1024


def srcc(scores: Array, labels: Array) -> float:
    """Spearman's rank correlation in [-1, 1], ties at mean rank; NaN where a side is constant.

    Args:
        scores: (n,).
        labels: (n,).

    >>> srcc(np.array([1.0, 2.0, 2.0, 5.0]), np.array([1.0, 2.0, 3.0, 4.0])).__round__(4)
    0.9487
    """
    return pearson(_ranks(scores), _ranks(labels))


def krcc(scores: Array, labels: Array) -> float:
    """Kendall's rank correlation, variant b, in [-1, 1]; NaN where a side is constant.

    (pairs in the same order − pairs in opposite order) / √(pairs that differ in scores · pairs that
    differ in labels). All n² pairs are looked at, a block of rows at a time.

    >>> round(krcc(np.array([1.0, 2.0, 2.0, 5.0]), np.array([1.0, 2.0, 3.0, 4.0])), 4)
    0.9129
    """
    agree = by_score = by_label = 0.0
    for start in range(0, len(scores), _BLOCK):
        rows = slice(start, start + _BLOCK)
        a = np.sign(scores[rows, None] - scores[None, :])
        b = np.sign(labels[rows, None] - labels[None, :])
        agree += float((a * b).sum())
        by_score += float(np.abs(a).sum())
        by_label += float(np.abs(b).sum())
    if not by_score or not by_label:
        return math.nan
    return agree / math.sqrt(by_score * by_label)


def pearson(a: Array, b: Array) -> float:
    """Pearson's correlation in [-1, 1]; NaN for fewer than two rows or where a side is constant."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    # Divided by the largest deviation first, whose square could overflow or vanish.
    a, b = a - a.mean(), b - b.mean()
    a, b = a / np.abs(a).max(), b / np.abs(b).max()
    return float(np.clip((a @ b) / math.sqrt((a @ a) * (b @ b)), -1.0, 1.0))


def _ranks(values: Array) -> Array:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count).astype(np.float64)
    mean: Array = last - (count - 1) / 2
    return mean[place.reshape(-1)]


@dataclass(frozen=True)
class Logistic:
    """f(x) = b2 + (b1 − b2) / (1 + exp(−(x − b3) / |b4|)), from scores to the labels' unit.

    Args:
        b1: what it tends to for large scores.
        b2: what it tends to for small ones.
        b3: score half-way between.
        b4: width, in the unit of the scores.
        converged: whether least squares came to an end, at a rising curve, for scores that rise
            with the labels.
        reason: why not, as a phrase; empty where it did.
        iterations: steps that were tried.
    """

    b1: float
    b2: float
    b3: float
    b4: float
    converged: bool
    reason: str = ""
    iterations: int = 0

    def __call__(self, scores: Array) -> Array:
        """Map scores; the scores themselves where the fit did not converge."""
        if not self.converged:
            return scores
        return _curve(np.array([self.b1, self.b2, self.b3, self.b4]), scores)


def fit_logistic(scores: Array, labels: Array) -> Logistic:
    """Fit the four-parameter logistic by least squares (Levenberg–Marquardt).

    The field's start values: b1 = max y, b2 = min y, b3 = mean x, b4 = 0.5. On a scale of
    0 to 100 that start is a step, in which least squares can get stuck; so a second start with b4
    = the standard deviation of the scores is tried as well, and the better curve is taken. Where
    neither comes to a rising curve, wider, narrower and shifted starts are tried.

    It has converged when a step no longer lowers the squared error by a billionth of the labels'
    variance, or the last fifty of a thousand by a hundred-thousandth: where labels show no upper
    or lower end, a parameter may creep away for ever while the curve stays. A falling curve does
    not count as converged, nor any curve where SRCC is not above 0: either would turn scores that
    rank clips upside down into a PLCC above 0.

    Args:
        scores: (n,) finite.
        labels: (n,) finite.

    >>> x = np.linspace(-3, 3, 40)
    >>> fit = fit_logistic(x, 1 + 4 / (1 + np.exp(-(x - 0.5) / 0.8)))
    >>> [round(b, 3) for b in (fit.b1, fit.b2, fit.b3, fit.b4)]
    [5.0, 1.0, 0.5, 0.8]
    """
    nothing = (math.nan,) * 4
    if len(scores) < MIN_FIT:
        return Logistic(*nothing, False, f"{len(scores)} clips are fewer than {MIN_FIT}")
    if np.ptp(scores) == 0 or np.ptp(labels) == 0:
        return Logistic(*nothing, False, "scores or labels are constant")
    # In standard units, so that the damping means the same for each parameter.
    centre, scale = float(scores.mean()), float(scores.std())
    low, width = float(labels.min()), float(np.ptp(labels))
    if scale == 0 or not math.isfinite(scale):
        return Logistic(*nothing, False, "the scores differ by less than rounding")
    x, y = (scores - centre) / scale, (labels - low) / width
    tries = [_least_squares(np.array([1.0, 0.0, *start]), x, y) for start in _starts(scale)]
    rising = srcc(x, y) > 0  # otherwise a rising curve would hide that the scores are wrong
    if rising and not any(map(_rises, tries)):
        tries += [_least_squares(np.array([1.0, 0.0, *start]), x, y) for start in _MORE_STARTS]
    kept = [found for found in tries if rising and _rises(found)]
    kept = kept or [found for found in tries if found[2]] or tries
    b, _, done, steps = min(kept, key=lambda found: found[1])
    b1, b2 = low + width * b[:2]
    reason = ""
    if not done:
        reason = f"least squares did not come to an end in {_ITERATIONS} steps"
    elif b1 <= b2:
        reason = "the fitted curve falls: the scores rank clips upside down"
    elif not rising:  # it rises over a few clips, against the order of the rest
        reason = "the scores rank clips upside down: SRCC is not above 0"
    elif np.ptp(_curve(b, x)) < 1e-9:
        reason = "the fitted curve is flat over these scores"
    values = (float(b1), float(b2), centre + scale * float(b[2]), scale * abs(float(b[3])))
    return Logistic(*values, not reason, reason, steps)


def regression_metrics(
    scores: Array, labels: Array, label_range: tuple[float, float] | None = None
) -> dict[str, float]:
    """All that is said of scores.

    Args:
        scores: (n,) finite.
        labels: (n,) finite.
        label_range: lowest and highest possible label; adds `level_accuracy`.

    Returns:
        - `srcc`, `krcc`: on the raw scores;
        - `plcc`, `rmse`: after the logistic, `rmse` in the unit of the labels;
        - `plcc_raw`, `rmse_raw`: without it. `rmse_raw` counts a score's unit, which the logistic
          would repair;
        - `logistic_fit`: 1 where the curve was fitted, 0 where it could not be: `plcc` and `rmse`
          are then the raw ones;
        - `level_accuracy`: share of raw scores in the same fifth of the range as the label.

        Undefined values are NaN.
    """
    names = OF_SCORES[:-1]
    if len(labels) == 0:
        found = dict.fromkeys(names, math.nan)
        return found if label_range is None else {**found, "level_accuracy": math.nan}
    fit = fit_logistic(scores, labels)
    mapped = fit(scores)
    values = (
        srcc(scores, labels),
        krcc(scores, labels),
        pearson(mapped, labels),
        _rmse(mapped, labels),
        pearson(scores, labels),
        _rmse(scores, labels),
        float(fit.converged),
    )
    found = dict(zip(names, values, strict=True))
    if label_range is not None:
        same = level_index(scores, label_range) == level_index(labels, label_range)
        found["level_accuracy"] = float(same.mean())
    return found


def level_index(scores: Array, label_range: tuple[float, float]) -> NDArray[np.int64]:
    """Which of `LEVELS` each score is in; what lies outside the range counts to its end.

    >>> [LEVELS[i] for i in level_index(np.array([1.0, 3.0, 9.0]), (1.0, 5.0))]
    ['bad', 'fair', 'excellent']
    """
    low, high = label_range
    fifth = np.floor((scores - low) / (high - low) * len(LEVELS))
    return np.clip(fifth, 0, len(LEVELS) - 1).astype(np.int64)


def _rmse(a: Array, b: Array) -> float:
    return float(np.sqrt(np.mean((a - b) ** 2)))


def _curve(b: Array, x: Array) -> Array:
    values: Array = b[1] + (b[0] - b[1]) * _sigmoid((x - b[2]) / max(abs(b[3]), 1e-12))
    return values


def _sigmoid(x: Array) -> Array:
    # tanh neither overflows nor warns.
    values: Array = 0.5 * (1 + np.tanh(0.5 * x))
    return values


def _starts(scale: float) -> tuple[tuple[float, float], ...]:
    """Values of b3 and b4 in standard units: the field's, and one that fits any scale."""
    return (0.0, 0.5 / scale), (0.0, 1.0)


def _rises(found: tuple[Array, float, bool, int]) -> bool:
    return found[2] and found[0][0] > found[0][1]


def _least_squares(b: Array, x: Array, y: Array) -> tuple[Array, float, bool, int]:
    """Levenberg–Marquardt on the curve: parameters, squared error, whether it ended, steps."""
    rest = y - _curve(b, x)
    error, damping = float(rest @ rest), 1e-3
    total = float(((y - y.mean()) ** 2).sum())
    enough, earlier = 1e-9 * total, error
    for step in range(1, _ITERATIONS + 1):
        width = max(abs(b[3]), 1e-12)
        z = (x - b[2]) / width
        s = _sigmoid(z)
        slope = (b[0] - b[1]) * s * (1 - s) / width
        jacobian = np.stack([s, 1 - s, -slope, -slope * z * np.sign(b[3] or 1.0)], axis=1)
        normal, right = jacobian.T @ jacobian, jacobian.T @ rest
        damped = normal + damping * np.diag(np.maximum(np.diag(normal), 1e-9))
        change = np.linalg.solve(damped, right)
        trial = b + change
        new_rest = y - _curve(trial, x)
        new_error = float(new_rest @ new_rest)
        if np.isfinite(new_error) and new_error <= error:
            gained = error - new_error
            b, rest, error, damping = trial, new_rest, new_error, max(damping / 3, 1e-12)
            if gained <= enough and damping < 1:
                return b, error, True, step
        else:
            damping *= 4
            if damping > 1e12:  # nothing near is better: the bottom, as well as it can be told
                return b, error, True, step
        if step == _ITERATIONS - _CREEP:
            earlier = error
    return b, error, _ITERATIONS > _CREEP and earlier - error <= 1e-5 * total, _ITERATIONS


__all__ = [
    "LEVELS",
    "MIN_FIT",
    "Logistic",
    "fit_logistic",
    "krcc",
    "level_index",
    "pearson",
    "regression_metrics",
    "srcc",
]
