"""Where to cut a probability: chosen on validation data, used on test data and when serving."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from coefvq.evaluation.scores import checked, one_against_rest, probabilities
from coefvq.types import TaskSpec

log = logging.getLogger(__name__)


def choose_threshold(
    logits: Tensor,
    labels: Tensor,
    task: TaskSpec,
    *,
    label_mask: Tensor | None = None,
    warn: bool = True,
) -> float | list[float] | None:
    """Choose the threshold on the probability that gives the largest F1 on these clips.

    Give it the validation split. Candidates lie half-way between neighbouring probabilities, so
    that rounding cannot move a clip across; where several share the best F1, the one nearest to
    0.5 is taken, and of two equally near the higher. Decide with `probability >= threshold`.

    Args:
        logits: (N,) for binary, (N, L) for multilabel.
        labels: the same shape, 0 and 1.
        task: what both mean.
        label_mask: (N,) bool, True where the label counts; None: all count.
        warn: say so where there is nothing to choose by.

    Returns:
        One number in [0, 1] for binary, L of them for multilabel, None for multiclass (decided by
        argmax) and regression. 0.5, with a warning in the log, where all clips share one answer
        and there is nothing to choose by.

    Raises:
        ValueError: shapes, logits or labels that do not fit the task.

    >>> task = TaskSpec("degraded", "binary", ("clean", "degraded"))
    >>> choose_threshold(torch.tensor([-1.0, 1.0]), torch.tensor([0, 1]), task)
    0.5
    """
    if task.kind in ("multiclass", "regression"):
        return None
    logits, labels = checked(logits, labels, task, label_mask)
    columns = one_against_rest(probabilities(logits, task), labels, task)
    chosen = []
    for name, probability, truth in columns:
        if truth.any() and not truth.all():
            chosen.append(_best_cut(probability, truth))
            continue
        chosen.append(0.5)
        if warn:
            log.warning(
                "the threshold of %r in task %r stays at 0.5: %s of the %d validation clips is "
                "positive, and F1 needs both kinds",
                name,
                task.name,
                "every one" if len(truth) and truth.all() else "none",
                len(truth),
            )
    return chosen[0] if task.kind == "binary" else chosen


def _best_cut(probability: Tensor, truth: Tensor) -> float:
    """Best cut of (N,) probabilities against (N,) bool answers, in O(N log N)."""
    order = probability.argsort(descending=True)
    probability, truth = probability[order], truth[order].double()
    hits, taken = truth.cumsum(0), torch.arange(1, len(truth) + 1, dtype=torch.float64)
    f1 = 2 * hits / (taken + truth.sum())
    below = torch.cat([probability[1:], probability.new_zeros(1)])
    middle = (probability + below) / 2
    # Between adjacent float64 numbers, or at 0, there is no middle: cut at the upper one itself.
    cut = torch.where(middle > below, middle, probability)
    real = torch.cat([probability[1:] < probability[:-1], torch.ones(1, dtype=torch.bool)])
    best = real & (f1 >= f1[real].max() - 1e-12)
    candidates: list[float] = cut[best].tolist()
    return min(candidates, key=lambda value: (round(abs(value - 0.5), 9), -value))
