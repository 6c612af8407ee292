"""What each way of calibrating is worth: one policy per calibrator, all else the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from coefvq.cascade.arrays import Task, Values, share_of
from coefvq.cascade.band_error import band_error
from coefvq.cascade.curves import system_metrics
from coefvq.cascade.decision_cut import DecisionThreshold
from coefvq.cascade.fitting import fit_policy
from coefvq.cascade.scored import judging_weight

KINDS: Mapping[str, tuple[str, ...]] = {
    "binary": ("none", "temperature", "affine", "isotonic"),
    "multilabel": ("none", "temperature", "affine", "isotonic"),
    "multiclass": ("none", "temperature", "vector", "matrix"),
}
"""Calibrators that are compared, by task."""


def calibration_ablation(
    val: Sequence[Values],
    test: Sequence[Values],
    *,
    task: Task,
    budget: float = 0.1,
    gate: str = "entropy",
    gate_options: Mapping[str, Any] | None = None,
    deferred: str = "replace",
    serving_prevalence: Values | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Fit one policy per calibrator on `val` at one budget, and measure each on `test`.

    Both models are calibrated the same way. Decision thresholds aim at the best F1 on `val`.

    Args:
        val: logits of the light model, of the heavy one, and labels; as `fit_policy` takes them.
        test: likewise, of other clips.
        task: what the logits mean.
        budget: share of traffic, in (0, 1).
        gate: see `coefvq.cascade.gates`.
        gate_options: of its function.
        deferred: replace or stack.
        serving_prevalence: see `fit_policy`; where the test clips have every class, they are
            weighted to it, too.
        seed: of the fit.

    Returns:
        A row per calibrator: `calibrator`, `budget`, `deferred`, `metrics` of the cascade on test
        clips, and the expected calibration error `everywhere` and `inside` of what is deferred.
        A calibrator that these clips cannot fit has `problem`, one sentence, instead.
    """
    rows: list[dict[str, Any]] = []
    light, heavy, labels = test
    for kind in KINDS[task]:
        words: dict[str, Any] = {
            "budget": budget, "gate": gate, "gate_options": gate_options, "deferred": deferred,
            "serving_prevalence": serving_prevalence, "seed": seed,
        }  # fmt: skip
        try:
            policy = fit_policy(*val, task=task, calibrator=kind, **words)  # type: ignore[arg-type]
        except ValueError as error:
            rows.append({"calibrator": kind, "budget": budget, "problem": str(error)})
            continue
        routes = policy.decide(light).routes
        final = policy.combine(light, heavy, routes)
        cut: DecisionThreshold = policy.decision_threshold
        weight = judging_weight(policy, labels, heavy)
        metrics = system_metrics(final, labels, task, cut, sample_weight=weight)
        errors = band_error(
            policy.light_scores(light), labels, routes, task=task, sample_weight=weight
        )
        rows.append(
            {
                "calibrator": kind,
                "budget": budget,
                "deferred": share_of(routes, weight),
                "weighted": weight is not None,
                "metrics": {k: None if math.isnan(v) else v for k, v in metrics.items()},
                "everywhere": None if math.isnan(errors.everywhere) else errors.everywhere,
                "inside": None if math.isnan(errors.inside) else errors.inside,
            }
        )
    return rows
