"""What a cascade gains with every share of traffic it defers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from coefvq.cascade.arrays import (
    Array,
    Flags,
    Task,
    Values,
    Whole,
    check_column,
    check_labels,
    check_logits,
    check_weight,
    share_of,
)
from coefvq.cascade.cost import Cost
from coefvq.cascade.decision_cut import DecisionThreshold, decide
from coefvq.cascade.learned_gate import probability_of_truth
from coefvq.cascade.thresholds import by_budget
from coefvq.cascade.weighted import weighted_metrics
from coefvq.evaluation.metrics import compute_metrics
from coefvq.types import TaskSpec

BUDGETS = (0.0, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 1.0)
"""Shares of traffic that are reported; 0 is the light model, 1 the heavy one."""


@dataclass(frozen=True)
class CurvePoint:
    """A cascade at one budget.

    Args:
        budget: share of traffic that was allowed.
        deferred: share that was deferred; below the budget where clips tie.
        metrics: of the final scores, as `coefvq.evaluation.metrics.compute_metrics` names them.
        seconds_per_1000: of 1 000 clips at that share; None without costs.
    """

    budget: float
    deferred: float
    metrics: Mapping[str, float]
    seconds_per_1000: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; undefined metrics are None."""
        shown = {k: None if math.isnan(v) else v for k, v in self.metrics.items()}
        return {**dataclasses.asdict(self), "metrics": shown}


def deferral_curve(
    uncertainty: Values,
    light_scores: Values,
    deferred_scores: Values,
    labels: Values,
    *,
    task: Task,
    budgets: Sequence[float] = BUDGETS,
    decision_thresholds: Sequence[DecisionThreshold] | None = None,
    cost: Cost | None = None,
    sample_weight: Values | None = None,
) -> tuple[CurvePoint, ...]:
    """Measure the system at each budget, the most uncertain clips of this split deferred.

    Args:
        uncertainty: (N,) from the gate.
        light_scores: (N,), (N, C) or (N, L) calibrated logits (`Policy.light_scores`).
        deferred_scores: the same shape: what a clip is answered if deferred.
        labels: (N,), or (N, L) for multilabel.
        task: what they mean.
        budgets: shares in [0, 1].
        decision_thresholds: one per budget, chosen on *other* clips; they touch F1 and accuracy
            only. None: 0.5.
        cost: measured seconds.
        sample_weight: (N,) how many clips of the traffic each stands for: budgets, shares, metrics
            and seconds are of that traffic. None: all count alike.

    Raises:
        ValueError: shapes that don't belong together, NaN, a budget outside [0, 1].
    """
    u, light, deferred, y = _checked(uncertainty, light_scores, deferred_scores, labels, task)
    cuts = [None] * len(budgets) if decision_thresholds is None else list(decision_thresholds)
    if len(cuts) != len(budgets):
        raise ValueError(f"got {len(cuts)} decision thresholds for {len(budgets)} budgets")
    points = []
    for budget, cut in zip(budgets, cuts, strict=True):
        routes = u >= by_budget(u, budget, sample_weight=sample_weight)
        final = joined(routes, light, deferred)
        share = share_of(routes, sample_weight)
        seconds = None if cost is None else cost.per_1000(share)
        metrics = system_metrics(final, y, task, cut, sample_weight=sample_weight)
        points.append(CurvePoint(budget, share, metrics, seconds))
    return tuple(points)


def system_metrics(
    final_scores: Values,
    labels: Values,
    task: Task,
    threshold: DecisionThreshold = None,
    *,
    sample_weight: Values | None = None,
) -> dict[str, float]:
    """The library's metrics of (N, …) final logits; −inf is read as a very small logit.

    With `sample_weight`, (N,), they are those of the traffic; of a multilabel task there are none.
    """
    z = np.clip(check_logits(final_scores, task), -1e6, 1e6)
    y = check_labels(labels, z, task)
    if sample_weight is not None and task != "multilabel":
        return weighted_metrics(z, y, task, threshold, check_weight(sample_weight, len(z)))
    names = tuple(str(k) for k in range(2 if task == "binary" else z.shape[1]))
    return compute_metrics(
        torch.from_numpy(z), torch.from_numpy(y), TaskSpec("cascade", task, names),
        threshold=threshold,
    )  # fmt: skip


def normalised_area(
    uncertainty: Values,
    light_scores: Values,
    deferred_scores: Values,
    labels: Values,
    *,
    task: Task,
    metric: str = "accuracy",
    decision_threshold: DecisionThreshold = None,
    steps: int = 20,
    draws: int = 10,
    seed: int = 0,
) -> float:
    """How good the gate's order is: 0 as a random one, 1 as an oracle's; below 0 it misleads.

    (A − A_random) / (A_oracle − A_random), A the area under the metric against the share deferred,
    from 0 to 1. Random: for accuracy the straight line between the two models, exactly; else the
    mean over seeded orders. The oracle sees labels and both models: first what the heavy model
    corrects, last what it spoils, within each by the gain in the probability of the truth. For
    accuracy that is the best order there is; for ranking metrics only a strong one.

    Args:
        uncertainty: (N,) from the gate; clips that tie keep their order.
        light_scores: calibrated logits.
        deferred_scores: the same shape.
        labels: (N,), or (N, L).
        task: what they mean.
        metric: a name of `compute_metrics` where higher is better.
        decision_threshold: on the probability, for F1 and accuracy.
        steps: of the share.
        draws: random orders.
        seed: of them.

    Returns:
        At most 1 for accuracy; NaN where the oracle gains nothing over random.
    """
    u, light, deferred, y = _checked(uncertainty, light_scores, deferred_scores, labels, task)
    if steps < 1 or draws < 1:
        raise ValueError(f"steps and draws must be at least 1, got {steps} and {draws}")
    n = len(u)
    counts = np.round(np.linspace(0, n, steps + 1)).astype(np.int64)

    def area(order: Whole) -> float:
        values = []
        for k in counts:
            routes = np.zeros(n, dtype=np.bool_)
            routes[order[:k]] = True
            final = joined(routes, light, deferred)
            if metric == "accuracy":
                values.append(float((decide(final, task, decision_threshold) == y).mean()))
            else:
                found = system_metrics(final, y, task, decision_threshold)
                if metric not in found:
                    raise ValueError(f"metric must be one of {', '.join(found)}, got {metric!r}")
                values.append(found[metric])
        return float(np.trapezoid(values, counts / n))

    right = [decide(z, task, decision_threshold) == y for z in (light, deferred)]
    gain_right = right[1].astype(np.float64) - right[0]
    gain_right = gain_right.mean(axis=1) if gain_right.ndim == 2 else gain_right
    gain = probability_of_truth(deferred, y, task) - probability_of_truth(light, y, task)
    oracle = area(np.lexsort((-gain, -gain_right)))
    own = area(np.argsort(-u, kind="stable"))
    if metric == "accuracy":
        chance = float(right[0].mean() + right[1].mean()) / 2
    else:
        draw = np.random.default_rng(seed)
        chance = float(np.mean([area(draw.permutation(n)) for _ in range(draws)]))
    return (own - chance) / (oracle - chance) if oracle > chance + 1e-12 else math.nan


def aurc(uncertainty: Values, wrong: Values) -> float:
    """Area under the risk–coverage curve of a model that keeps its most certain clips first.

    Mean over k of the error among the k most certain (Geifman & El-Yaniv, ICLR 2018), in [0, 1],
    lower is better. Clips that tie count as in a random order.

    Args:
        uncertainty: (N,) from a gate.
        wrong: (N,) bool, or losses.

    >>> aurc([0.1, 0.9], [False, True])
    0.25
    """
    u = check_column(uncertainty, "uncertainty")
    loss = check_column(wrong, "wrong", len(u))
    if not len(u):
        return math.nan
    _, inverse, counts = np.unique(u, return_inverse=True, return_counts=True)
    level = np.bincount(inverse, weights=loss) / counts
    risk = np.cumsum(np.repeat(level, counts)) / np.arange(1, len(u) + 1)
    return float(risk.mean())


def joined(routes: Flags, light: Array, deferred: Array) -> Array:
    """Scores of the system: (N, …), `deferred` where routes is True."""
    return np.where(routes if light.ndim == 1 else routes[:, None], deferred, light)


def _checked(
    uncertainty: Values, light_scores: Values, deferred_scores: Values, labels: Values, task: Task
) -> tuple[Array, Array, Array, Whole]:
    light = check_logits(light_scores, task, what="light_scores")
    deferred = check_logits(deferred_scores, task, what="deferred_scores")
    if light.shape != deferred.shape or not len(light):
        raise ValueError(
            f"light_scores of shape {light.shape} and deferred_scores of shape {deferred.shape} "
            "must be of the same clips, at least one"
        )
    u = check_column(uncertainty, "uncertainty", len(light))
    return u, light, deferred, check_labels(labels, light, task)
