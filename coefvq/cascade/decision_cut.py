"""Where the final score is cut into yes and no, on clips that stand for unequal traffic."""

from __future__ import annotations

import math

import numpy as np

from coefvq.cascade.arrays import (
    Array,
    Flags,
    Values,
    Whole,
    check_column,
    check_flags,
    check_weight,
    probabilities,
)

DecisionThreshold = float | tuple[float, ...] | None
"""On the final probability: one, one per label, or None (0.5; multiclass: argmax)."""


def best_cut(
    probability: Values,
    truth: Values,
    *,
    precision: float | None = None,
    sample_weight: Values | None = None,
) -> float:
    """Choose the threshold with the best F1, or with the most recall at a precision.

    `coefvq.evaluation.threshold` does this for a plain validation split; here each clip may stand
    for several of the traffic, so that precision is that of the serving prevalence.

    Args:
        probability: (N,).
        truth: (N,) bool.
        precision: in (0, 1); None: best F1.
        sample_weight: (N,), finite and at least 0; None: all count alike.

    Returns:
        A threshold in [0, 1], half-way to the next clip; decide with `probability >= threshold`.

    Raises:
        ValueError: no positive clip, or a precision that no threshold reaches.

    >>> best_cut([0.1, 0.4, 0.8], [False, True, True])
    0.25
    """
    p = check_column(probability, "probability")
    positive = check_flags(truth, "truth", len(p))
    weight = check_weight(sample_weight, len(p))
    if not (weight * positive).sum() > 0:
        raise ValueError("no labelled clip is positive; a decision threshold needs some")
    levels, inverse = np.unique(-p, return_inverse=True)
    hits = np.cumsum(np.bincount(inverse, weights=weight * positive))
    taken = np.cumsum(np.bincount(inverse, weights=weight))
    levels = -levels
    if precision is None:
        best = int((2 * hits / (taken + hits[-1])).argmax())
    else:
        good = np.flatnonzero((hits >= precision * taken - 1e-12 * taken) & (hits > 0))
        if not len(good):
            reached = float((hits / np.maximum(taken, 1e-300)).max())
            raise ValueError(
                f"no threshold reaches a precision of {precision:g} on the calibration clips (best "
                f"{reached:.3f}); ask for less, or give a decision threshold"
            )
        best = int(good[-1])
    upper = float(levels[best])
    lower = float(levels[best + 1]) if best + 1 < len(levels) else 0.0
    middle = (upper + lower) / 2
    return middle if lower < middle < upper else upper


def decide(final_logits: Array, task: str, threshold: DecisionThreshold) -> Whole:
    """Answers: the largest class, or `probability >= threshold`; int64 (N,) or (N, L)."""
    if task == "multiclass":
        return np.asarray(final_logits.argmax(axis=1)).astype(np.int64)
    cut = np.asarray(0.5 if threshold is None else threshold, dtype=np.float64)
    return (probabilities(final_logits, task) >= cut).astype(np.int64)


def answer_figures(answers: Whole, labels: Whole, task: str, weight: Array) -> dict[str, float]:
    """Accuracy, and for binary recall, precision and F1; weighted; NaN where undefined."""
    right = answers == labels
    each = right.mean(axis=1) if right.ndim == 2 else right.astype(np.float64)
    figures = {"accuracy": _ratio(float((weight * each).sum()), float(weight.sum()))}
    if task != "binary":
        return figures
    yes: Flags = answers == 1
    hits = float((weight * (yes & right)).sum())
    called, there = float((weight * yes).sum()), float((weight * (labels == 1)).sum())
    figures["recall"] = _ratio(hits, there)
    figures["precision"] = _ratio(hits, called)
    figures["f1"] = _ratio(2 * hits, called + there)
    return figures


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan
