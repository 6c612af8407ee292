"""One set of metrics for teacher and student: torchmetrics on checked float64 scores.

A metric of several classes or labels is the plain mean over those on which it is defined (macro). A
metric that this split cannot define, for instance AUROC when every clip has one label, is NaN and
`undefined_notes` says why: never a crash, never a zero that looks like a measurement.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_average_precision,
    binary_f1_score,
    binary_recall_at_fixed_precision,
)

from coefvq.evaluation.calibration import confidence_and_outcome, expected_calibration_error
from coefvq.evaluation.quality import fit_logistic, regression_metrics
from coefvq.evaluation.scores import (
    Column,
    Threshold,
    checked,
    decisions,
    one_against_rest,
    probabilities,
)
from coefvq.types import TaskSpec

MIN_PRECISION = 0.8
"""The precision at which recall is read for `recall_at_precision_80`."""

LOWER_IS_BETTER = frozenset({"ece", "rmse", "rmse_raw", "kl"})
"""Metrics where the smaller number wins."""

OF_CLASSES = (
    "f1", "accuracy", "average_precision", "auroc", "recall_at_precision_80", "ece", "prevalence",
)  # fmt: skip
"""What binary, multiclass and multilabel models are measured by."""

RANKING = ("average_precision", "auroc", "recall_at_precision_80")


def primary_metric(task: TaskSpec) -> str:
    """Name the metric that runs are compared and chosen by.

    >>> primary_metric(TaskSpec("quality", "regression"))
    'srcc'
    """
    return "srcc" if task.kind == "regression" else "f1"


def higher_is_better(metric: str) -> bool:
    """Say whether more of this metric is better."""
    return metric not in LOWER_IS_BETTER


def compute_metrics(
    logits: Tensor,
    labels: Tensor,
    task: TaskSpec,
    *,
    label_mask: Tensor | None = None,
    threshold: Threshold = None,
) -> dict[str, float]:
    """Measure one model on one split.

    Args:
        logits: (N,) for binary and regression, (N, C) multiclass, (N, L) multilabel.
        labels: (N,), or (N, L) of 0 and 1 for multilabel.
        task: what both mean.
        label_mask: (N,) bool, True where the label counts; None: all count.
        threshold: on the probability, chosen on *validation* data by
            `coefvq.evaluation.threshold.choose_threshold`. It
            touches `f1` and `accuracy` only. None: 0.5. Multiclass decides by argmax.

    Returns:
        Binary, multiclass and multilabel, all in [0, 1] (several classes: macro):

        - `f1` at the threshold, `accuracy` (multilabel: share of right label decisions);
        - `average_precision`, `auroc`, `recall_at_precision_80` (the largest recall of any
          threshold with precision of at least 0.8; 0 if there is none);
        - `ece`: expected calibration error over 15 equal bins: of p(positive) for binary and, as
          a mean over labels, multilabel; of the top class for multiclass;
        - `prevalence`: share of positives (multilabel: mean over labels; multiclass: left out).

        Regression: see `coefvq.evaluation.quality.regression_metrics`. Always `n`, the labelled
        clips. Undefined values are NaN.

    Raises:
        ValueError: shapes, logits, labels or threshold that do not fit the task.

    >>> task = TaskSpec("degraded", "binary", ("clean", "degraded"))
    >>> metrics = compute_metrics(torch.tensor([-2.0, 1.0, 3.0]), torch.tensor([0, 0, 1]), task)
    >>> round(metrics["f1"], 4)
    0.6667
    """
    logits, labels = checked(logits, labels, task, label_mask)
    if task.kind == "regression":
        found = regression_metrics(logits.numpy(), labels.numpy(), task.label_range)
        return {**found, "n": float(len(labels))}
    probability = probabilities(logits, task)
    columns = one_against_rest(probability, labels, task)
    decided = decisions(probability, task, threshold)
    shown = (
        torch.nn.functional.one_hot(decided, task.num_outputs)
        if task.kind == "multiclass"
        else decided
    )
    metrics = {
        "f1": mean_of_defined(_f1(c) for c in one_against_rest(shown, labels, task)),
        "accuracy": (decided == labels).double().mean().item(),
        "average_precision": _macro(columns, binary_average_precision),
        "auroc": _macro(columns, binary_auroc),
        "recall_at_precision_80": _macro(columns, _recall_at_precision),
        "ece": _ece(logits, labels, task),
    }
    if task.kind != "multiclass":
        metrics["prevalence"] = labels.double().mean().item()
    return {**metrics, "n": float(len(labels))}


def undefined_notes(
    labels: Tensor, task: TaskSpec, *, label_mask: Tensor | None = None
) -> list[str]:
    """Say, a sentence each, which metrics this split leaves undefined or narrows, and why.

    Args:
        labels: (N,), or (N, L) for multilabel.
        task: what they mean.
        label_mask: (N,) bool, True where the label counts.
    """
    filler = torch.zeros((len(labels), task.num_outputs)).squeeze(-1)
    if task.kind in ("multiclass", "multilabel"):
        filler = filler.reshape(len(labels), task.num_outputs)
    scores, labels = checked(filler, labels, task, label_mask)
    if len(labels) == 0:
        return ["no labelled clip in this split: every metric is undefined"]
    if task.kind == "regression":
        if (labels == labels[0]).all():
            return [f"every label is {labels[0].item():g}: srcc, plcc and krcc are undefined"]
        return []
    notes = []
    several = task.kind != "binary"
    for name, _, truth in one_against_rest(scores, labels, task):
        if truth.any() and not truth.all():
            continue
        affected = RANKING if truth.all() else ("f1", *RANKING)
        effect = "leave it out of their mean" if several else "are undefined"
        amount = "every" if truth.all() else "no"
        notes.append(f"{amount} clip of this split is {name!r}: {', '.join(affected)} {effect}")
    return notes


def fit_notes(
    scores: Tensor, labels: Tensor, task: TaskSpec, *, label_mask: Tensor | None = None
) -> list[str]:
    """Say why a regression's PLCC and RMSE are those of raw scores, where they are.

    Args:
        scores: (N,) of one model.
        labels: (N,).
        task: what both mean; others than a regression have nothing to fit.
        label_mask: (N,) bool, True where the label counts.
    """
    if task.kind != "regression":
        return []
    scores, labels = checked(scores, labels, task, label_mask)
    fit = fit_logistic(scores.numpy(), labels.numpy())
    if fit.converged:
        return []
    return [f"plcc and rmse are of raw scores, the logistic was not fitted: {fit.reason}"]


def mean_of_defined(values: Iterable[float]) -> float:
    """Mean over the defined values; NaN when there is none."""
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def _macro(columns: list[Column], metric: Callable[[Tensor, Tensor], Tensor]) -> float:
    """Mean of a ranking metric over the columns that hold both answers (others rank nothing)."""
    return mean_of_defined(
        float(metric(probability, truth.long()))
        for _, probability, truth in columns
        if truth.any() and not truth.all()
    )


def _recall_at_precision(probability: Tensor, truth: Tensor) -> Tensor:
    return recall_at(MIN_PRECISION, probability, truth)[0]


def recall_at(precision: float, probability: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """The largest recall of any threshold that has a precision, and that threshold.

    Args:
        precision: met exactly counts: torchmetrics compares in float32, where .9 is less than .9.
        probability: (N,) float.
        truth: (N,) int, 0 or 1.
    """
    least = precision - 1e-6
    return binary_recall_at_fixed_precision(probability, truth, min_precision=least)


def _f1(column: Column) -> float:
    _, decided, truth = column
    return float(binary_f1_score(decided, truth.long())) if truth.any() else math.nan


def _ece(logits: Tensor, labels: Tensor, task: TaskSpec) -> float:
    if task.kind != "multilabel":
        return expected_calibration_error(*confidence_and_outcome(logits, labels, task))
    # A pooled error would let one label's overconfidence hide another's underconfidence.
    return mean_of_defined(
        expected_calibration_error(probability, truth)
        for _, probability, truth in one_against_rest(logits.sigmoid(), labels, task)
    )
