"""Does a probability of 0.8 mean eight in ten: reliability bins, their error, and one fix."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from coefvq.evaluation.scores import checked, probabilities
from coefvq.types import TaskSpec

log = logging.getLogger(__name__)

NUM_BINS = 15


@dataclass(frozen=True)
class ReliabilityBins:
    """What was promised and what came, over equal bins of [0, 1].

    Args:
        edges: bins + 1 borders; a bin holds its upper border, the first also 0.
        counts: clips per bin.
        confidence: mean confidence per bin, NaN where empty.
        accuracy: share of positive outcomes per bin, NaN where empty.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]

    @property
    def ece(self) -> float:
        """Σ (count / n) · |accuracy − confidence|, in [0, 1]; NaN without clips."""
        n = sum(self.counts)
        if n == 0:
            return math.nan
        bins = zip(self.counts, self.confidence, self.accuracy, strict=True)
        return sum(c * abs(a - p) for c, p, a in bins if c) / n


def confidence_and_outcome(
    logits: Tensor, labels: Tensor, task: TaskSpec, *, label_mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return what a model promised and whether it came: the two columns of a reliability picture.

    Binary: p(positive) and whether the clip is positive. Multiclass: the top class' probability and
    whether it is right. Multilabel: the binary pair of every clip and label, flattened (pooled).

    Args:
        logits: (N,), (N, C) or (N, L).
        labels: (N,), or (N, L) for multilabel.
        task: what both mean; regression has no confidence and is refused.
        label_mask: (N,) bool, True where the label counts.

    Returns:
        float64 confidences in [0, 1] and bool outcomes, both (n,), or (n·L,) for multilabel.

    Raises:
        ValueError: inputs that do not fit, or a regression.
    """
    logits, labels = checked(logits, labels, task, label_mask)
    probability = probabilities(logits, task)
    if task.kind == "multiclass":
        top, decided = probability.max(dim=-1)
        return top, decided == labels
    return probability.flatten(), labels.flatten().bool()


def reliability_bins(
    confidence: Tensor, outcome: Tensor, *, bins: int = NUM_BINS
) -> ReliabilityBins:
    """Sort (n,) confidences in [0, 1] and (n,) bool outcomes into equal bins.

    Raises:
        ValueError: fewer than one bin.
    """
    if bins < 1:
        raise ValueError(f"got {bins} bins; expected at least 1")
    confidence, outcome = confidence.double().contiguous(), outcome.double().contiguous()
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    index = (torch.bucketize(confidence, edges) - 1).clamp(0, bins - 1)
    counts = torch.bincount(index, minlength=bins)
    mean_confidence = torch.bincount(index, weights=confidence, minlength=bins) / counts
    accuracy = torch.bincount(index, weights=outcome, minlength=bins) / counts
    return ReliabilityBins(
        tuple(edges.tolist()),
        tuple(counts.tolist()),
        tuple(mean_confidence.tolist()),
        tuple(accuracy.tolist()),
    )


def expected_calibration_error(confidence: Tensor, outcome: Tensor, bins: int = NUM_BINS) -> float:
    """Return the expected calibration error (L1, equal bins), in [0, 1]; NaN without clips.

    Source: Naeini et al., AAAI 2015; Guo et al., ICML 2017, equation 3.

    >>> expected_calibration_error(torch.tensor([0.75, 0.75]), torch.tensor([True, False]))
    0.25
    """
    return reliability_bins(confidence, outcome, bins=bins).ece


def fit_temperature(
    logits: Tensor, labels: Tensor, task: TaskSpec, *, label_mask: Tensor | None = None
) -> float:
    """Find the temperature that minimises the negative log-likelihood of logits / temperature.

    The likelihood is convex in 1 / temperature, so bisecting its slope finds the one minimum
    without a learning rate. It changes no decision at 0.5 and no ranking within a class, and it
    cannot move a bias, which serving at another prevalence needs.

    Args:
        logits: (N,), (N, C) or (N, L) of *validation* clips.
        labels: (N,), or (N, L) for multilabel.
        task: what both mean; regression is refused.
        label_mask: (N,) bool, True where the label counts.

    Returns:
        The temperature in [0.01, 100]. An end of that range, with a warning in the log, when the
        logits separate the labels perfectly, or say nothing or the opposite about them.

    Raises:
        ValueError: a regression, no labelled clip, or inputs that do not fit.
    """
    logits, labels = checked(logits, labels, task, label_mask)
    if len(labels) == 0:
        raise ValueError(
            "no labelled clip to fit a temperature on; give a validation split with labels"
        )
    if task.kind == "multiclass":
        target = torch.nn.functional.one_hot(labels, task.num_outputs).double()
    else:
        target = labels.double()

    def slope(beta: float) -> float:
        return ((probabilities(beta * logits, task) - target) * logits).sum().item()

    low, high = math.log(0.01), math.log(100.0)
    if slope(math.exp(low)) >= 0 or slope(math.exp(high)) <= 0:
        end = low if slope(math.exp(low)) >= 0 else high
        temperature = math.exp(-end)
        log.warning(
            "the temperature of task %r stops at the end of its range, %g: these logits %s",
            task.name,
            temperature,
            "say nothing about the labels" if end == low else "separate the labels perfectly",
        )
        return temperature
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(math.exp(middle)) < 0 else (low, middle)
    return math.exp(-(low + high) / 2)
