"""What a fitted cascade is worth on clips that it was not fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from coefvq.cascade.arrays import share_of
from coefvq.cascade.band_error import band_error
from coefvq.cascade.cost import Cost
from coefvq.cascade.curves import (
    BUDGETS,
    aurc,
    deferral_curve,
    normalised_area,
    system_metrics,
)
from coefvq.cascade.decision_cut import best_cut, decide
from coefvq.cascade.policy import Policy
from coefvq.cascade.remarks import remarks
from coefvq.cascade.scored import judging_weight
from coefvq.cascade.thresholds import by_budget
from coefvq.evaluation.collect import Predictions

Light = Predictions | Sequence[Predictions]
"""What one light model said, or each of several."""


def labelled(light: Light, heavy: Predictions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits of both models and the labels of the clips that have one, float64.

    Args:
        light: of several light models the logits are (M, N, …).
        heavy: of the same clips.

    Raises:
        ValueError: the two did not answer about the same clips in the same order, or none of them
            has a label.
    """
    members = [light] if isinstance(light, Predictions) else list(light)
    for one in members:
        if one.ids != heavy.ids:
            raise ValueError(
                f"the light model answered {len(one.ids)} clips, the heavy one {len(heavy.ids)}, "
                "or in another order; score the same clips with both"
            )
    first = members[0]
    if first.labels is None or first.label_mask is None or not bool(first.label_mask.any()):
        raise ValueError("no clip has a label; a cascade is judged on labelled clips")
    rows = first.label_mask.numpy()
    logits = [one.logits.numpy().astype(np.float64)[rows] for one in members]
    return (
        logits[0] if isinstance(light, Predictions) else np.stack(logits),
        heavy.logits.numpy().astype(np.float64)[rows],
        first.labels.numpy()[rows],
    )


def cascade_figures(
    policy: Policy,
    val: tuple[Light, Predictions],
    test: tuple[Light, Predictions],
    *,
    budgets: Sequence[float] = BUDGETS,
    cost: Cost | None = None,
    precision: float | None = None,
) -> dict[str, Any]:
    """Measure a policy, and every other budget of its gate.

    Decision thresholds of the curve are chosen on `val` at each budget, nothing on `test` but the
    curve's own gate thresholds, which read no labels. Of a policy with a `serving_prevalence` the
    clips of both splits are weighted to it (`coefvq.cascade.scored.judging_weight`), for all
    figures but `area` and `aurc`.

    Args:
        policy: fitted on `val`.
        val: predictions of the light model (or of each of several) and of the heavy one.
        test: likewise, of the clips that the figures are about.
        budgets: shares of traffic for the curve.
        cost: measured seconds.
        precision: that decision thresholds aim at; None: best F1. A budget at which no threshold
            reaches it answers nobody yes.

    Returns:
        `policy` (how it was fitted), `test` (metrics of light, heavy and cascade), `deferred`,
        `curve`, `area` (0: a random order of deferral, 1: an oracle's), `aurc`, `calibration`
        (error everywhere, inside and outside of what is deferred, and that of the light model as it
        was), `seconds_per_1000`, `prevalence` (of both splits; the one that the figures are
        weighted to, or None), `notes` (see `coefvq.cascade.remarks`). Plain values.
    """
    task = policy.task
    v_light, v_heavy, v_labels = labelled(*val)
    light, heavy, labels = labelled(*test)
    routes = policy.decide(light).routes
    everything = np.ones(len(labels), bool)
    weight, v_weight = (
        judging_weight(policy, y, z) for y, z in ((labels, heavy), (v_labels, v_heavy))
    )
    scores = {
        "light": policy.light_scores(light),
        "heavy": policy.combine(light, heavy, everything),
        "cascade": policy.combine(light, heavy, routes),
    }
    u = policy.decide(light).uncertainty
    cuts = None
    if task == "binary":
        v_scores = (
            policy.light_scores(v_light),
            policy.combine(v_light, v_heavy, np.ones(len(v_labels), bool)),
        )
        v_u = policy.decide(v_light).uncertainty
        cuts = []
        for budget in budgets:
            tau = by_budget(v_u, budget, sample_weight=v_weight)
            joined = np.where(v_u >= tau, v_scores[1], v_scores[0])
            cuts.append(_cut(joined, v_labels == 1, precision, v_weight))
    curve = deferral_curve(
        u, scores["light"], scores["heavy"], labels,
        task=task, budgets=budgets, decision_thresholds=cuts, cost=cost,
        sample_weight=weight,
    )  # fmt: skip
    wrong = decide(scores["light"], task, policy.decision_threshold) != labels
    raw = light.mean(axis=0) if policy.gate.several_models else light
    error, before = (
        band_error(z, labels, routes, task=task, sample_weight=weight)
        for z in (scores["light"], raw)
    )
    share = share_of(routes, weight)
    area = {
        name: normalised_area(u, scores["light"], scores["heavy"], labels, task=task, metric=name)
        for name in ("accuracy", "average_precision")
        if name in curve[0].metrics
    }
    metrics = {
        who: system_metrics(found, labels, task, policy.decision_threshold, sample_weight=weight)
        for who, found in scores.items()
    }
    figures = {
        "policy": dict(policy.fitted),
        "gate": policy.gate.to_dict(),
        "deferred": share,
        "test": metrics,
        "curve": [point.to_dict() for point in curve],
        "area": area,
        "aurc": aurc(u, wrong.any(axis=1) if wrong.ndim == 2 else wrong),
        "calibration": {
            "everywhere": error.everywhere,
            "inside": error.inside,
            "outside": error.outside,
            "uncalibrated": before.everywhere,
        },
        "prevalence": {
            "val": _prevalence(v_labels, v_heavy, task),
            "test": _prevalence(labels, heavy, task),
            "weighted_to": None if weight is None else policy.fitted["serving_prevalence"],
        },
        "labelled": _counts(v_labels, v_heavy, task),
        "cost": None if cost is None else cost.to_dict(),
        "seconds_per_1000": None
        if cost is None
        else {
            "light": cost.per_1000(0.0),
            "cascade": cost.per_1000(share),
            "heavy": cost.heavy_alone_per_1000,
        },
    }
    return figures | {"notes": remarks(policy, figures)}


def _counts(labels: np.ndarray, logits: np.ndarray, task: str) -> list[int]:
    """Clips of each class, negatives first; for multilabel those with each label."""
    if task == "multilabel":
        return [int(n) for n in labels.sum(axis=0)]
    width = 2 if task == "binary" else logits.shape[1]
    return [int(n) for n in np.bincount(labels.astype(np.int64), minlength=width)]


def _prevalence(labels: np.ndarray, logits: np.ndarray, task: str) -> list[float]:
    """Share of positives, of each class, or with each label."""
    counts = _counts(labels, logits, task)
    return [n / len(labels) for n in (counts[1:] if task == "binary" else counts)]


def _cut(logits: np.ndarray, positive: np.ndarray, precision: float | None, weight: Any) -> float:
    p = 1 / (1 + np.exp(-np.clip(logits, -500, 500)))
    try:
        return best_cut(p, positive, precision=precision, sample_weight=weight)
    except ValueError:
        if precision is None or not positive.any():
            raise
        return 1.0


__all__ = ["cascade_figures", "labelled"]
