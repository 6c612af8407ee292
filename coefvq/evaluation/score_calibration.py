"""A score with a unit: from what a model says to 0–100, with an interval and a word."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from coefvq.evaluation.quality import LEVELS, Array, fit_logistic, level_index

COVERAGE = 0.9
"""Share of clips whose label the interval is meant to hold."""

MIN_CLIPS = 20
"""Fewer validation clips than this give no interval of that coverage worth printing."""

_FOLDS = 5
_KEPT = 199


@dataclass(frozen=True)
class ScoreCalibration:
    """A rising map from scores to the labels' range, and how far off it was on validation clips.

    Args:
        kind: `"logistic"` (the four-parameter curve) or `"linear"`.
        parameters: b1, b2, b3, b4; or slope (not below 0) and offset.
        label_range: lowest and highest label.
        half_width: half of the interval on the labels' scale: at least `coverage` of the validation
            clips were within it, each with a map that had not seen it.
        coverage: what was aimed at, in (0, 1).
        residuals: sorted errors (label − mapped score) of those clips, or quantiles of them.
        rmse: root mean square of those errors.
        clips: labelled validation clips.
    """

    kind: str
    parameters: tuple[float, ...]
    label_range: tuple[float, float]
    half_width: float
    coverage: float
    residuals: tuple[float, ...]
    rmse: float
    clips: int

    def __post_init__(self) -> None:
        for name in ("parameters", "label_range", "residuals"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def label_scale(self, scores: Array) -> Array:
        """Scores in the unit of the labels, within their range."""
        return np.clip(_apply(self.kind, self.parameters, scores), *self.label_range)

    def percent(self, scores: Array) -> Array:
        """Scores from 0 (lowest label) to 100 (highest)."""
        return self._percent(self.label_scale(scores))

    def interval(self, scores: Array) -> tuple[Array, Array]:
        """Lower and upper end of each score's interval, from 0 to 100."""
        middle = self.label_scale(scores)
        low, high = self.label_range
        ends = (np.clip(middle + sign * self.half_width, low, high) for sign in (-1, 1))
        lower, upper = (self._percent(end) for end in ends)
        return lower, upper

    def words(self, scores: Array) -> list[str]:
        """One of `bad`, `poor`, `fair`, `good`, `excellent` for each score."""
        return [LEVELS[i] for i in level_index(self.label_scale(scores), self.label_range)]

    def better(self, first: float, second: float) -> float:
        """Probability that people would score the first clip higher than the second, in (0, 1).

        The difference of the mapped scores, and errors drawn for both from the validation
        residuals, all pairs of them; ties count half. It holds for two clips whose errors are as
        independent as those of two validation clips; two encodings of one film may be closer to
        each other, so it is careful there. Two equal scores give 0.5, and never is it 0 or 1.
        """
        a, b = self.label_scale(np.array([first, second], dtype=np.float64))
        errors = np.array(self.residuals)
        gap = (a - b) + errors[:, None] - errors[None, :]
        wins = float((gap > 0).sum()) + 0.5 * float((gap == 0).sum())
        return (wins + 0.5) / (gap.size + 1)

    def on(self, scores: Array, labels: Array) -> dict[str, float]:
        """How the calibrated scores of other clips, such as test clips, fit their labels.

        Args:
            scores: (n,) raw.
            labels: (n,) in the labels' unit, n at least 1.

        Returns:
            `rmse` and `mean_difference` (score − label) in the labels' unit; `coverage`, the share
            of labels inside the interval; `words`, the share of words that are the label's; `n`.
        """
        shown = self.label_scale(scores)
        away = shown - labels
        same = level_index(shown, self.label_range) == level_index(labels, self.label_range)
        return {
            "rmse": float(np.sqrt((away**2).mean())),
            "mean_difference": float(away.mean()),
            "coverage": float((np.abs(away) <= self.half_width).mean()),
            "words": float(same.mean()),
            "n": float(len(labels)),
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` is the way back."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make it from what `to_dict` gave."""
        return cls(**values)

    def _percent(self, labels: Array) -> Array:
        low, high = self.label_range
        return 100 * (labels - low) / (high - low)


def calibrate_scores(
    scores: Array, labels: Array, label_range: Sequence[float], *, coverage: float = COVERAGE
) -> ScoreCalibration:
    """Fit the map on validation clips, and find its error on clips that it has not seen.

    The map is the four-parameter logistic where it fits, otherwise a line that does not fall. Its
    error is measured in five folds: each clip is mapped by a curve that was fitted to the others.
    The interval is the split-conformal quantile of those errors, ⌈(n + 1) · coverage⌉ / n (Vovk et
    al., 2005): for new clips of the same kind it holds the label about as often as it says.

    Args:
        scores: (n,) raw scores of validation clips.
        labels: (n,) in `label_range`.
        label_range: lowest and highest label.
        coverage: of the interval, in (0, 1).

    Raises:
        ValueError: fewer than `MIN_CLIPS` clips, one score for all of them, or a coverage outside
            (0, 1).
    """
    n = len(scores)
    if n < MIN_CLIPS:
        raise ValueError(
            f"{n} labelled validation clips are fewer than the {MIN_CLIPS} that a score's interval "
            "needs; enlarge the validation split"
        )
    if not 0 < coverage < 1:
        raise ValueError(f"the coverage of an interval is between 0 and 1, got {coverage}")
    if np.ptp(scores) == 0:
        raise ValueError(
            f"the model gives every validation clip the score {scores[0]:g}; train it better "
            "before its scores are given a unit"
        )
    low, high = (float(end) for end in label_range)
    kind, parameters = _fit(scores, labels)
    fold = np.random.default_rng(0).permutation(n) % _FOLDS
    unseen = np.empty(n)
    for k in range(_FOLDS):
        inside = fold != k
        unseen[~inside] = _apply(*_fit(scores[inside], labels[inside]), scores[~inside])
    errors = np.sort(labels - np.clip(unseen, low, high))
    place = min(math.ceil((n + 1) * coverage), n)
    kept = errors
    if n > _KEPT:
        kept = np.quantile(errors, (np.arange(_KEPT) + 0.5) / _KEPT)
    return ScoreCalibration(
        kind=kind,
        parameters=parameters,
        label_range=(low, high),
        half_width=float(np.sort(np.abs(errors))[place - 1]),
        coverage=coverage,
        residuals=tuple(kept.tolist()),
        rmse=float(np.sqrt((errors**2).mean())),
        clips=n,
    )


def _fit(scores: Array, labels: Array) -> tuple[str, tuple[float, ...]]:
    fit = fit_logistic(scores, labels)
    if fit.converged:
        return "logistic", (fit.b1, fit.b2, fit.b3, fit.b4)
    spread = float(((scores - scores.mean()) ** 2).sum())
    slope = float(((scores - scores.mean()) * (labels - labels.mean())).sum()) / (spread or 1.0)
    slope = max(slope, 0.0)  # a model that ranks upside down says nothing, rather than the opposite
    return "linear", (slope, float(labels.mean() - slope * scores.mean()))


def _apply(kind: str, parameters: Sequence[float], scores: Array) -> Array:
    if kind == "linear":
        return parameters[0] * scores + parameters[1]
    b1, b2, b3, b4 = parameters
    values: Array = b2 + (b1 - b2) * 0.5 * (1 + np.tanh(0.5 * (scores - b3) / abs(b4)))
    return values


__all__ = ["COVERAGE", "MIN_CLIPS", "ScoreCalibration", "calibrate_scores"]
