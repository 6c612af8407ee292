"""Is this teacher worth listening to: asked on validation clips before any student trains."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torchmetrics.functional.regression import spearman_corrcoef

from coefvq.evaluation.metrics import compute_metrics, higher_is_better, primary_metric
from coefvq.evaluation.scores import Threshold, checked
from coefvq.evaluation.threshold import choose_threshold
from coefvq.types import TaskSpec

SHUFFLES = 100
"""How often the labels are dealt out anew to see what chance gives."""

NOISE = 0.95
"""The share of the shufflings that a teacher has to beat."""

MIN_LABELS = 50
"""Below so many labelled validation clips a useful teacher fails too often to be judged."""

Verdict = Literal["fine", "cannot tell", "near chance", "worse than baseline"]


@dataclass(frozen=True)
class Preflight:
    """What validation clips say of a teacher.

    Args:
        metric: its name, as in `compute_metrics`.
        value: the teacher's, NaN where the split cannot define it.
        chance: mean over shuffled labels.
        bar: what chance alone reaches in one of twenty cases; a teacher has to be above.
        clips: labelled validation clips.
        baseline: the metric of a student without distillation; None where it is not known.
    """

    metric: str
    value: float
    chance: float
    bar: float
    clips: int
    baseline: float | None = None

    @property
    def verdict(self) -> Verdict:
        """What follows from the numbers."""
        if self.clips < MIN_LABELS or math.isnan(self.value) or math.isnan(self.bar):
            return "cannot tell"
        if self.value <= self.bar:
            return "near chance"
        if self.baseline is not None and self.value < self.baseline:
            return "worse than baseline"
        return "fine"

    def line(self) -> str:
        """What to print, whatever the verdict."""
        if math.isnan(self.value):
            return f"teacher  validation {self._words} is undefined on {self.clips} labelled clips"
        beside = "" if math.isnan(self.chance) else f"chance {self.chance:.2f}"
        if self.baseline is not None:
            beside += f"{', ' if beside else ''}student without teacher {self.baseline:.2f}"
        line = f"teacher  validation {self._words} {self.value:.2f}"
        line += f" ({beside})" if beside else ""
        if self.verdict == "cannot tell":
            line += f"; {self.clips} labelled clips are too few to judge it by"
        return line

    def check(self) -> None:
        """Stop a run whose teacher has nothing to teach.

        Raises:
            ValueError: near chance, or worse than the baseline.
        """
        found = f"the teacher's validation {self._words} is {self.value:.3f}"
        way = "train it better, choose another, or go on with teacher.preflight=false"
        if self.verdict == "near chance":
            raise ValueError(
                f"{found} on {self.clips} clips, and shuffled labels give {self.chance:.3f}, up to "
                f"{self.bar:.3f} by luck: it knows nothing that can be told from chance; {way}"
            )
        if self.verdict == "worse than baseline":
            raise ValueError(
                f"{found}, below the {self.baseline:.3f} of a student without a teacher; {way}"
            )

    @property
    def _words(self) -> str:
        return self.metric.replace("_", " ")


def preflight(
    logits: Tensor,
    labels: Tensor,
    task: TaskSpec,
    *,
    label_mask: Tensor | None = None,
    metric: str | None = None,
    baseline: float | None = None,
) -> Preflight:
    """Measure a teacher on validation clips, and what chance would give on the same clips.

    Chance is measured rather than looked up: the labels are shuffled among the labelled clips
    `SHUFFLES` times (always in the same way), so that prevalence, number of clips and the choice of
    the threshold are accounted for. A teacher is near chance if it does not beat `NOISE` of these.
    For `f1` the threshold is chosen on the clips themselves, for the shuffled labels as well.

    Args:
        logits: (N,), (N, C) or (N, L) of the teacher on the validation split.
        labels: (N,), or (N, L) for multilabel.
        task: what both mean.
        label_mask: (N,) bool, True where the label counts.
        metric: where more is better; None: the one that runs are compared by
            (`coefvq.evaluation.metrics.primary_metric`).
        baseline: the same metric of a student without distillation on the same clips.

    Raises:
        ValueError: inputs that do not fit, or a metric that the task has not.

    >>> task = TaskSpec("degraded", "binary", ("clean", "degraded"))
    >>> labels = torch.arange(60) % 2
    >>> preflight(labels * 2.0 - 1, labels, task).verdict
    'fine'
    """
    metric = metric or primary_metric(task)
    logits, labels = checked(logits, labels, task, label_mask)
    if not higher_is_better(metric):
        raise ValueError(f"pre-flight needs a metric of which more is better, got {metric!r}")
    value = _measure(logits, labels, task, metric)
    drawn = []
    generator = torch.Generator().manual_seed(0)
    for _ in range(SHUFFLES if len(labels) and not math.isnan(value) else 0):
        order = torch.randperm(len(labels), generator=generator)
        drawn.append(_measure(logits, labels[order], task, metric))
    drawn.sort()
    return Preflight(
        metric=metric,
        value=value,
        chance=sum(drawn) / len(drawn) if drawn else math.nan,
        bar=drawn[math.ceil(NOISE * len(drawn)) - 1] if drawn else math.nan,
        clips=len(labels),
        baseline=None if baseline is None or math.isnan(baseline) else baseline,
    )


def _measure(logits: Tensor, labels: Tensor, task: TaskSpec, metric: str) -> float:
    """One metric; NaN where there is no clip, or nothing that varies."""
    if len(labels) == 0:
        return math.nan
    if metric == "srcc" and task.kind == "regression":  # the others cost a hundred times as much
        if len(labels) < 2 or (labels == labels[0]).all():
            return math.nan
        if (logits == logits[0]).all():
            return 0.0  # one answer for all: no order, which is what chance has on average
        return float(spearman_corrcoef(logits, labels))
    threshold: Threshold = None
    if metric in ("f1", "accuracy") and task.kind == "binary":
        threshold = _cut(logits, labels, task)
    if metric in ("f1", "accuracy") and task.kind == "multilabel":
        threshold = [
            _cut(logits[:, k], labels[:, k], TaskSpec(name, "binary", (f"not {name}", name)))
            for k, name in enumerate(task.classes)
        ]
    metrics = compute_metrics(logits, labels, task, threshold=threshold)
    if metric not in metrics:
        raise ValueError(f"metric {metric!r} is not one of {', '.join(metrics)}")
    return metrics[metric]


def _cut(logits: Tensor, labels: Tensor, task: TaskSpec) -> float:
    """The threshold of one question; 0.5, without a word in the log, where there is no choice."""
    if (labels == labels[0]).all():
        return 0.5
    cut = choose_threshold(logits, labels, task)
    assert isinstance(cut, float)
    return cut


__all__ = ["MIN_LABELS", "NOISE", "SHUFFLES", "Preflight", "preflight"]
