"""The library's metrics of clips that stand for unequal shares of the traffic."""

from __future__ import annotations

import math

import numpy as np

from coefvq.cascade.arrays import Array, Flags, Values, Whole, probabilities
from coefvq.cascade.decision_cut import DecisionThreshold, decide
from coefvq.evaluation.calibration import NUM_BINS
from coefvq.evaluation.metrics import MIN_PRECISION, mean_of_defined


def weighted_metrics(
    logits: Array, labels: Whole, task: str, threshold: DecisionThreshold, weight: Array
) -> dict[str, float]:
    """`coefvq.evaluation.metrics.compute_metrics` with a weight per clip.

    With whole weights it is that function on clips repeated so often.

    Args:
        logits: (N,) or (N, C), finite.
        labels: (N,).
        task: binary or multiclass.
        threshold: on the probability of a binary task.
        weight: (N,) at least 0, not all 0.

    Returns:
        The same names; `n` is the number of clips.
    """
    p, answers = probabilities(logits, task), decide(logits, task, threshold)
    binary = task == "binary"
    columns = [(p, labels == 1)] if binary else [(p[:, k], labels == k) for k in range(p.shape[1])]
    said = [answers == 1] if binary else [answers == k for k in range(p.shape[1])]
    right = answers == labels
    ranked = [_ranking(score, truth, weight) for score, truth in columns]
    confidence, outcome = (p, labels == 1) if binary else (p.max(axis=1), right)
    found = {
        "f1": mean_of_defined([_f1(a, t, weight) for a, (_, t) in zip(said, columns, strict=True)]),
        "accuracy": float(weight @ right / weight.sum()),
        "average_precision": mean_of_defined([r[0] for r in ranked]),
        "auroc": mean_of_defined([r[1] for r in ranked]),
        "recall_at_precision_80": mean_of_defined([r[2] for r in ranked]),
        "ece": weighted_ece(confidence, outcome, weight),
    }
    if binary:
        found["prevalence"] = float(weight @ (labels == 1) / weight.sum())
    return found | {"n": float(len(labels))}


def weighted_ece(confidence: Values, outcome: Values, weight: Array, bins: int = NUM_BINS) -> float:
    """Expected calibration error over equal bins, in [0, 1]; NaN without weight.

    Args:
        confidence: (N,) in [0, 1].
        outcome: (N,) bool.
        weight: (N,).
        bins: as `coefvq.evaluation.calibration.reliability_bins` cuts them.
    """
    if not weight.sum() > 0:
        return math.nan
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    gap = np.bincount(place, weights=weight * (outcome - np.asarray(confidence)), minlength=bins)
    return float(np.abs(gap).sum() / weight.sum())


def _ranking(score: Array, truth: Flags, weight: Array) -> tuple[float, float, float]:
    """Average precision, area under the ROC, recall at the precision; NaN for one kind only."""
    there, rest = float(weight @ truth), float(weight @ ~truth)
    if not (there > 0 and rest > 0):
        return math.nan, math.nan, math.nan
    _, level = np.unique(-score, return_inverse=True)
    hit, miss = (np.bincount(level, weights=weight * kind) for kind in (truth, ~truth))
    hits, misses = np.cumsum(hit), np.cumsum(miss)
    taken = np.maximum(hits + misses, 1e-300)
    precision, recall = hits / taken, hits / there
    area = float((miss * (hits - hit / 2)).sum() / (there * rest))
    enough = recall[precision >= MIN_PRECISION]
    return float(hit @ precision / there), area, float(enough.max()) if len(enough) else 0.0


def _f1(said: Flags, truth: Flags, weight: Array) -> float:
    if not truth.any():
        return math.nan
    return float(2 * (weight @ (said & truth)) / (weight @ said + weight @ truth))
