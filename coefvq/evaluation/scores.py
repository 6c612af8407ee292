"""From logits and labels to checked float64 scores: what every metric starts from.

Scores are computed in float64, because in float32 the sigmoid of every logit above 17 is exactly 1
and a ranking of confident answers turns into ties.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from coefvq.types import TaskSpec

Threshold = float | Sequence[float] | None
"""On the probability, in [0, 1]: one number (binary), one per label (multilabel), or None (0.5)."""

Column = tuple[str, Tensor, Tensor]
"""One class against the rest: its name, (N,) probabilities, (N,) bool labels."""


def checked_logits(logits: Tensor, task: TaskSpec, *, whose: str = "logits") -> Tensor:
    """Return the logits as float64 on the CPU, refusing wrong shapes and numbers.

    Args:
        logits: (N,) for binary and regression, (N, C) or (N, L) otherwise.
        task: what the logits mean.
        whose: the word for them in an error.

    Raises:
        ValueError: another shape than the task's, or a NaN or infinite value.
    """
    wide = task.kind in ("multiclass", "multilabel")
    if logits.ndim != 1 + wide or (wide and logits.shape[1] != task.num_outputs):
        expected = f"(N, {task.num_outputs})" if wide else "(N,)"
        raise ValueError(
            f"{whose} of shape {tuple(logits.shape)} do not fit the {task.kind} task "
            f"{task.name!r}, which expects {expected}; give one row per clip"
        )
    logits = logits.detach().to("cpu", torch.float64)
    good = logits.isfinite().all(dim=1) if wide else logits.isfinite()
    if not good.all():
        raise ValueError(
            f"{whose} of {int((~good).sum())} of {len(logits)} clips are NaN or infinite (first at "
            f"row {int((~good).nonzero()[0])}), expected finite numbers; look at the training loss "
            "and the inputs of that clip"
        )
    return logits


def checked_labels(labels: Tensor, logits: Tensor, task: TaskSpec) -> Tensor:
    """Return the labels on the CPU as int64 (float64 for regression), refusing bad values.

    Args:
        labels: (N,) or, for multilabel, (N, L).
        logits: what they are held against; only its shape is read.
        task: what the labels mean.

    Raises:
        ValueError: another shape, a NaN, or a value outside the classes.
    """
    expected = logits.shape if task.kind == "multilabel" else logits.shape[:1]
    if labels.shape != expected:
        raise ValueError(
            f"labels of shape {tuple(labels.shape)} do not fit logits of shape "
            f"{tuple(logits.shape)} of the {task.kind} task {task.name!r}; "
            f"expected {tuple(expected)}"
        )
    labels = labels.detach().to("cpu", torch.float64)
    if task.kind == "regression":
        good, allowed = labels.isfinite(), "finite numbers"
    else:
        top = task.num_outputs - 1 if task.kind == "multiclass" else 1
        good = (labels >= 0) & (labels <= top) & (labels == labels.round())
        allowed = f"whole numbers from 0 to {top}"
    if not good.all():
        row = int((~good).nonzero()[0, 0])
        raise ValueError(
            f"label {labels[row].tolist()} at row {row} does not fit the {task.kind} task "
            f"{task.name!r}, which expects {allowed}; correct it, or mask the row with label_mask"
        )
    return labels if task.kind == "regression" else labels.long()


def checked(
    logits: Tensor, labels: Tensor, task: TaskSpec, label_mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Keep the labelled rows and check them; the value of an unlabelled row is never read.

    Args:
        logits: (N,) or (N, C) or (N, L).
        labels: (N,) or, for multilabel, (N, L).
        task: what both mean.
        label_mask: (N,) bool, True where the label counts; None: all count.

    Returns:
        float64 logits and int64 labels (float64 for regression) of the n labelled rows.

    Raises:
        ValueError: see `checked_logits` and `checked_labels`; or a mask of another length.
    """
    logits = checked_logits(logits, task)
    if label_mask is not None:
        if label_mask.shape != logits.shape[:1] or labels.shape[:1] != logits.shape[:1]:
            raise ValueError(
                f"label_mask of shape {tuple(label_mask.shape)}, labels of shape "
                f"{tuple(labels.shape)} and logits of shape {tuple(logits.shape)} do not belong "
                "together; give one row per clip in each"
            )
        keep = label_mask.detach().to("cpu", torch.bool)
        logits, labels = logits[keep], labels.detach().cpu()[keep]
    return logits, checked_labels(labels, logits, task)


def probabilities(logits: Tensor, task: TaskSpec) -> Tensor:
    """Return (N,), (N, C) or (N, L) probabilities in [0, 1]; a regression has none.

    Raises:
        ValueError: for a regression.
    """
    if task.kind == "regression":
        raise ValueError(f"the regression task {task.name!r} has no probabilities; use its scores")
    return logits.softmax(dim=-1) if task.kind == "multiclass" else logits.sigmoid()


def decisions(probability: Tensor, task: TaskSpec, threshold: Threshold = None) -> Tensor:
    """Decide: the largest class, or `probability >= threshold`.

    Args:
        probability: (N,), (N, C) or (N, L), from `probabilities`.
        task: what they mean.
        threshold: see `Threshold`; must be None for multiclass, whose decision is the argmax.

    Returns:
        int64 (N,), or (N, L) of 0 and 1.

    Raises:
        ValueError: a threshold outside [0, 1], of the wrong length, or for a multiclass task.
    """
    if task.kind == "multiclass":
        if threshold is not None:
            raise ValueError(
                f"the multiclass task {task.name!r} decides by argmax, got threshold {threshold}; "
                "leave it None"
            )
        return probability.argmax(dim=-1)
    cut = torch.as_tensor(0.5 if threshold is None else threshold, dtype=torch.float64)
    if cut.ndim and (task.kind == "binary" or len(cut) != task.num_outputs):
        raise ValueError(
            f"got {len(cut)} thresholds for the {task.kind} task {task.name!r}; expected "
            f"{'one number' if task.kind == 'binary' else f'one, or {task.num_outputs}'}"
        )
    if not ((cut >= 0) & (cut <= 1)).all():
        raise ValueError(f"threshold {threshold} is outside [0, 1]; it is cut on the probability")
    return (probability >= cut).long()


def one_against_rest(probability: Tensor, labels: Tensor, task: TaskSpec) -> list[Column]:
    """Split a task into yes/no questions: one for binary, one per class or label otherwise.

    Args:
        probability: (N,), (N, C) or (N, L); int decisions of the same shapes pass too.
        labels: (N,), or (N, L) for multilabel.
        task: what they mean.
    """
    if task.kind == "binary":
        return [(task.classes[1], probability, labels.bool())]
    if task.kind == "multiclass":
        return [(name, probability[:, k], labels == k) for k, name in enumerate(task.classes)]
    return [(name, probability[:, k], labels[:, k].bool()) for k, name in enumerate(task.classes)]
