"""From two columns of scores to a policy that can be defended."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from coefvq.cascade.arrays import (
    Array,
    Flags,
    Task,
    Values,
    Whole,
    as_array,
    probabilities,
    share_of,
)
from coefvq.cascade.calibrate import Kind, fit_calibrator
from coefvq.cascade.cost import Cost
from coefvq.cascade.decision_cut import DecisionThreshold, answer_figures, best_cut, decide
from coefvq.cascade.effective import effective_clips
from coefvq.cascade.fit_stack import fit_stack
from coefvq.cascade.fit_words import check_positives, check_prices, check_rule
from coefvq.cascade.joint import recall_and_false_alarms
from coefvq.cascade.learned_gate import fit_learned_gate
from coefvq.cascade.policy import Deferred, Policy
from coefvq.cascade.recall import (
    RecallOf,
    by_expected_recall,
    by_recall,
    check_alike,
    critical_values,
)
from coefvq.cascade.routing import Gate, GateName
from coefvq.cascade.scored import ScoredClips, scored_clips
from coefvq.cascade.thresholds import by_budget, by_cost


def fit_policy(
    light_logits: Values,
    heavy_logits: Values,
    labels: Values | None = None,
    *,
    task: Task,
    budget: float | None = None,
    recall: float | None = None,
    confidence: float = 0.95,
    expected_recall: float | None = None,
    recall_of: RecallOf = "system",
    false_alarms: float | None = None,
    cost: Cost | None = None,
    miss_price: float = 0.0,
    false_alarm_price: float = 0.0,
    threshold: float | None = None,
    gate: GateName = "entropy",
    gate_options: Mapping[str, Any] | None = None,
    calibrator: Kind = "affine",
    heavy_calibrator: Kind | None = None,
    train_prevalence: Values | None = None,
    serving_prevalence: Values | None = None,
    deferred: Deferred = "replace",
    decision_threshold: DecisionThreshold = None,
    precision: float | None = None,
    label_mask: Values | None = None,
    sample_weight: Values | None = None,
    light_fingerprint: str = "",
    heavy_fingerprint: str = "",
    data: str = "",
    seed: int = 0,
) -> Policy:
    """Fit calibrators, gate, thresholds and answers on clips that both models scored.

    Exactly one rule chooses the threshold of the gate: `budget`, `recall` (a promise, with
    `confidence`), `expected_recall` (a mean), `cost` (with prices of wrong answers), or `threshold`
    itself (0 for a band as it is given). The two recall rules hold only if everything else was
    fixed on other clips: they use a random half (seeded, both kinds of labels halved) for
    calibrators, gate, stack and decision threshold, and the other half's positives for the floor;
    twice as many labelled positives are needed as the floor counts. They count clips, so all
    positives (with `false_alarms` also all negatives) must have one `sample_weight`;
    `serving_prevalence` keeps that. All other rules use all clips for everything.

    The decision threshold is the given one; else the one with the most recall at `precision`; else
    the one with the best F1 (0.5 without labels). It is chosen on the cascade's final scores for
    `budget` and `threshold`, and on the heavy model's alone for the rules that need it first.

    Args:
        light_logits: (N,), (N, C) or (N, L), raw; (M, N, …) of M light models for the gate
            `disagreement`. From clips that neither model was trained on.
        heavy_logits: (N,), (N, C) or (N, L), raw, of the same clips.
        labels: (N,), or (N, L) for multilabel; None only with a budget or threshold, calibrators
            `none` or `prior_shift`, and nothing else to fit.
        task: what they mean; the recall rules are for binary.
        budget: share of traffic to defer, in [0, 1].
        recall: in (0, 1), see `coefvq.cascade.recall`.
        confidence: of that promise, in (0, 1).
        expected_recall: in (0, 1).
        recall_of: `"system"`, `"heavy"` or `"gate"`.
        false_alarms: in (0, 1), with `recall`: at most this share of negatives is answered yes, and
            the confidence is that of both promises together; chooses the decision threshold, too
            (see `coefvq.cascade.joint`; needs MAPIE).
        cost: seconds per clip.
        miss_price: of one missed positive (multiclass: one wrong answer), in the unit of `cost`.
        false_alarm_price: of one negative answered yes, likewise.
        threshold: on the uncertainty.
        gate: see `coefvq.cascade.gates`.
        gate_options: of the gate's function.
        calibrator: of the light model, see `coefvq.cascade.calibrate`; for multiclass give vector,
            temperature, … .
        heavy_calibrator: None: the same kind.
        train_prevalence: for prior_shift.
        serving_prevalence: one share (binary) or C shares: the clips are weighted to it, and
            calibrators with a bias are moved there. L shares for multilabel move calibrators only.
            None: the clips are like the traffic.
        deferred: `"replace"` or `"stack"`.
        decision_threshold: on the final probability.
        precision: in (0, 1), binary.
        label_mask: (N,) bool, True where the label counts. Other clips are only read for a budget
            without `serving_prevalence`.
        sample_weight: (N,) how many clips of the traffic each stands for; see above for recall.
        light_fingerprint: of the light model, for `Policy.check_models`.
        heavy_fingerprint: of the heavy model.
        data: identity of these clips.
        seed: of the halves.

    Raises:
        ValueError: none or several rules; inputs that don't belong together; what a rule, a
            calibrator or a gate refuses.
    """
    rule = check_rule(
        task, {"budget": budget, "recall": recall, "expected_recall": expected_recall, "cost": cost,
               "threshold": threshold},
        confidence=confidence, recall_of=recall_of, false_alarms=false_alarms, precision=precision,
        decision_threshold=decision_threshold,
    )  # fmt: skip
    if deferred not in ("replace", "stack"):
        raise ValueError(f"deferred must be replace or stack, got {deferred!r}")
    clips = scored_clips(
        light_logits, heavy_logits, labels, task=task, several_models=gate == "disagreement",
        label_mask=label_mask, sample_weight=sample_weight, serving_prevalence=serving_prevalence,
    )  # fmt: skip
    level = expected_recall if recall is None else recall
    if promised := level is not None:
        assert level is not None
        positive = clips.labelled & (clips.truth(np.ones_like(clips.labelled)) == 1)
        check_alike(clips.weight[positive], "positive")
        counted = int(positive.sum())
        check_positives(counted, rule, level, confidence=confidence)
    fit, judge = clips.halves(seed) if promised else (clips.labelled, clips.labelled)
    truth = None if clips.labels is None else clips.labels[fit]
    maps: dict[str, Any] = {
        "task": task, "train_prevalence": train_prevalence,
        "serving_prevalence": serving_prevalence,
        "sample_weight": None if sample_weight is None else clips.own_weight[fit],
    }  # fmt: skip
    light_map = fit_calibrator(calibrator, clips.mean[fit], truth, **maps)
    heavy_map = fit_calibrator(heavy_calibrator or calibrator, clips.heavy[fit], truth, **maps)
    light, heavy = light_map(clips.mean), heavy_map(clips.heavy)
    options = dict(gate_options or {})
    if gate == "learned":
        if set(options) - {"ridge"}:
            raise ValueError(f"gate 'learned' has one option, ridge; got {sorted(options)}")
        learned = fit_learned_gate(
            light[fit], heavy[fit], truth, task=task, sample_weight=clips.weight[fit], **options
        )
        router = Gate(gate, task, learned=learned)
    else:
        router = Gate(gate, task, options)
    stack, answer = None, heavy
    if deferred == "stack":
        stack = fit_stack(light[fit], heavy[fit], truth, task=task, sample_weight=clips.weight[fit])
        answer = stack(light, heavy)
    several = router.several_models
    u = router(np.stack([light_map(z) for z in clips.light]) if several else light)

    cut = decision_threshold
    chosen = cut is not None or task == "multiclass" or clips.labels is None
    if not chosen and rule not in ("budget", "threshold") and false_alarms is None:
        cut = _cut(clips, answer, fit, precision)
        chosen = True
    says = decide(light, task, cut), decide(answer, task, cut)
    details: dict[str, Any] = {"rule": rule}
    if budget is not None:
        rows = clips.traffic
        tau = by_budget(u[rows], budget, sample_weight=clips.weight[rows])
        details["level"] = budget
    elif threshold is not None:
        tau = float(threshold)
    elif cost is not None:
        y, prices = clips.truth(judge), (miss_price, false_alarm_price)
        kept, asked = (_loss(a[judge], y, task, *prices) for a in says)
        tau = by_cost(u[judge], kept, asked, cost, sample_weight=clips.weight[judge])
        details |= {"cost": cost.to_dict(), "miss_price": miss_price,
                    "false_alarm_price": false_alarm_price}  # fmt: skip
    elif false_alarms is not None:
        assert recall is not None
        everyone = clips.truth(np.ones_like(judge))
        pair = recall_and_false_alarms(
            u, light, answer, everyone, fit, judge, recall=recall, false_alarms=false_alarms,
            confidence=confidence, sample_weight=clips.weight,
        )  # fmt: skip
        tau, cut, chosen = pair.threshold, pair.decision_threshold, True
        details |= {"level": recall, "false_alarms": false_alarms, "confidence": confidence,
                    "candidates": pair.candidates, "accepted": pair.accepted,
                    "seed": seed}  # fmt: skip
    else:
        there = judge & (clips.truth(np.ones_like(judge)) == 1)
        critical = critical_values(u[there], *(a[there] == 1 for a in says), of=recall_of)
        if recall_of == "heavy":
            assert level is not None
            found = len(critical), int(there.sum())
            check_positives(counted, rule, level, confidence=confidence, heavy_found=found)
        if recall is not None:
            floor = by_recall(critical, recall, confidence=confidence)
            details |= {"level": recall, "confidence": confidence}
        else:
            assert expected_recall is not None
            floor = by_expected_recall(critical, expected_recall)
            details["level"] = expected_recall
        tau = floor.threshold
        details |= {"of": recall_of, "positives": floor.positives, "seed": seed,
                    "tolerated": floor.tolerated, "missed": floor.missed}  # fmt: skip
    routes = u >= tau
    final = np.where(routes if task == "binary" else routes[:, None], answer, light)
    if not chosen:
        cut = _cut(clips, final, judge, precision)
    details |= {"clips": len(u), "labelled": int(clips.labelled.sum())}
    if clips.labels is not None and task == "binary":
        details["labelled_positives"] = int((clips.labels[clips.labelled] == 1).sum())
    if serving_prevalence is not None:
        details["serving_prevalence"] = as_array(serving_prevalence, "serving_prevalence").tolist()
    scores = {"cascade": final, "light": light, "heavy": heavy}
    return Policy(
        task, clips.outputs, router, tau, light_map, heavy_map, deferred, stack, cut,
        light_fingerprint, heavy_fingerprint, data, details,
        _expected(clips, routes, scores, cut, judge, cost),
    )  # fmt: skip


def _cut(
    clips: ScoredClips, final: Array, rows: Flags, precision: float | None
) -> DecisionThreshold:
    p, y, weight = probabilities(final[rows], clips.task), clips.truth(rows), clips.weight[rows]
    if clips.task == "binary":
        return best_cut(p, y, precision=precision, sample_weight=weight)
    return tuple(
        best_cut(column, truth, sample_weight=weight)
        for column, truth in zip(p.T, y.T, strict=True)
    )


def _loss(answers: Whole, truth: Whole, task: str, miss: float, false_alarm: float) -> Array:
    """Price of each clip's answer; labels of a multilabel clip add up."""
    check_prices(miss_price=miss, false_alarm_price=false_alarm)
    if task == "multiclass":
        return np.asarray(miss * (answers != truth))
    price = miss * ((truth == 1) & (answers == 0)) + false_alarm * ((truth == 0) & (answers == 1))
    return np.asarray(price.sum(axis=1) if price.ndim == 2 else price).astype(np.float64)


def _expected(
    clips: ScoredClips,
    routes: Flags,
    scores: Mapping[str, Array],
    cut: DecisionThreshold,
    rows: Flags,
    cost: Cost | None,
) -> dict[str, Any]:
    """Figures on the clips that the threshold was chosen by, in the traffic's prevalence."""
    weight = clips.weight * clips.traffic
    share = share_of(routes, weight)
    known = effective_clips(weight[clips.traffic], routes[clips.traffic].astype(np.float64))
    found: dict[str, Any] = {"deferred": share, "clips": int(known + 1e-6)}
    if cost is not None:
        found["seconds_per_1000"] = cost.per_1000(share)
    if clips.labels is None:
        return found
    for who, logits in scores.items():
        answers = decide(logits[rows], clips.task, cut)
        figures = answer_figures(answers, clips.truth(rows), clips.task, clips.weight[rows])
        found[who] = {k: None if math.isnan(v) else v for k, v in figures.items()}
    return found
