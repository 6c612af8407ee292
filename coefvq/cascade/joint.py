"""Two thresholds, two promises: recall and false alarms together, by Learn-then-Test."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from coefvq.cascade.arrays import Array, Flags, Values, Whole, check_weight, sigmoid
from coefvq.cascade.learn_then_test import Risk, learn_then_test
from coefvq.cascade.recall import check_alike
from coefvq.cascade.thresholds import by_budget

BUDGETS = (0.0, 0.05, 0.1, 0.2, 0.4, 1.0)
"""Candidates of the gate's threshold."""

SHARES = (0.8, 0.5, 0.25)
"""Candidates of the decision threshold: it spends this share of the tolerated false alarms."""


@dataclass(frozen=True)
class JointChoice:
    """Both thresholds and how they were found.

    Args:
        threshold: of the gate.
        decision_threshold: on the final probability.
        candidates: pairs that were tested.
        accepted: how many of them are proven.
    """

    threshold: float
    decision_threshold: float
    candidates: int
    accepted: int


def recall_and_false_alarms(
    uncertainty: Array,
    light: Array,
    answer: Array,
    labels: Whole,
    fit: Flags,
    judge: Flags,
    *,
    recall: float,
    false_alarms: float,
    confidence: float = 0.95,
    sample_weight: Values | None = None,
) -> JointChoice:
    """Choose the cheapest pair of thresholds that keeps both promises, with one confidence.

    At most 1 − recall of the positives are answered no, and at most `false_alarms` of the
    negatives yes, by the whole cascade; the chance that either is broken is at most 1 − confidence.
    One order statistic cannot promise two things, so a few pairs, fixed on `fit`, are tested on
    `judge` (see `coefvq.cascade.learn_then_test`).

    Args:
        uncertainty: (N,) from the gate.
        light: (N,) calibrated logits of a kept clip's answer.
        answer: (N,) of a deferred one's.
        labels: (N,) of 0 and 1.
        fit: (N,) bool, clips that the candidates are made from.
        judge: (N,) bool, others, that they are tested on.
        recall: in (0, 1).
        false_alarms: in (0, 1).
        confidence: of both together, in (0, 1).
        sample_weight: (N,) how many clips of the traffic each stands for, equal among the positives
            and among the negatives: the candidates and their prices are of that traffic.

    Raises:
        ValueError: no pair is proven, no positive or negative clip, weights that differ within a
            kind, or MAPIE is missing.
    """
    weight = check_weight(sample_weight, len(labels))
    for name, rows in (("fit", fit), ("test", judge)):
        if len(np.unique(labels[rows])) < 2:
            raise ValueError(
                f"the half of the clips that thresholds are to {name} on has clips of one kind "
                "only; give more labelled clips of both"
            )
    for value, kind in ((1, "positive"), (0, "negative")):
        check_alike(weight[(fit | judge) & (labels == value)], kind)
    gates = [by_budget(uncertainty[fit], b, sample_weight=weight[fit]) for b in BUDGETS]
    negatives = sigmoid(answer[fit & (labels == 0)])
    cuts = sorted({float(np.quantile(negatives, 1 - share * false_alarms)) for share in SHARES})
    pairs = list(product(gates, cuts))
    missed, alarmed = [], []
    for gate, cut in pairs:
        yes = sigmoid(np.where(uncertainty >= gate, answer, light)) >= cut
        missed.append(~yes[judge & (labels == 1)])
        alarmed.append(yes[judge & (labels == 0)])
    risks = (
        Risk("missed positives", np.stack(missed), 1 - recall),
        Risk("false alarms", np.stack(alarmed), false_alarms),
    )
    prices = [float(weight[fit] @ (uncertainty[fit] >= gate)) for gate, _ in pairs]
    best, accepted = learn_then_test(risks, prices, confidence=confidence)
    return JointChoice(*pairs[best], len(pairs), len(accepted))
