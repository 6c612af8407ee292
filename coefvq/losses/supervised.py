"""The hard term: a loss between logits and labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, get_args

import torch
from torch import Tensor, nn

from coefvq.losses._arguments import settled
from coefvq.losses._contract import (
    Reduction,
    Task,
    check_labels,
    check_logits,
    check_reduction,
    check_task,
    check_unit,
    check_weight,
    readable,
    reduce,
)
from coefvq.losses._hard import hard_values
from coefvq.losses._numbers import check_not_negative

if TYPE_CHECKING:
    from coefvq.types import Batch, StudentOutput, TeacherOutput


def supervised_loss(
    student_logits: Tensor,
    labels: Tensor | None,
    *,
    task: Task,
    class_weights: Tensor | Sequence[float] | None = None,
    positive_weight: Tensor | Sequence[float] | float | None = None,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    label_mask: Tensor | None = None,
    sample_weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Compare logits with labels.

    multiclass: −log softmax(z)[y]. binary: −y log σ(z) − (1−y) log σ(−z). multilabel: the mean of
    the binary loss over the L labels, so that the mean over samples is what
    `BCEWithLogitsLoss()` gives. regression: (z − y)². Label smoothing ε (Szegedy et al., 2016,
    section 7) mixes the label with the uniform distribution over the classes that aren't masked.
    Focal γ (Lin et al., "Focal loss for dense object detection", ICCV 2017, equation 4) multiplies
    each −log p by (1 − p)^γ, p the probability of the class it belongs to; with label smoothing,
    or a soft label, this happens to the −log p of every class before the label mixes them.

    Differs from the focal paper: its α is `positive_weight` or `class_weights` here. Differs from
    `torch.nn.functional.cross_entropy` in two points: with smoothing, the class
    weight is that of the sample's own class for the whole smoothed loss; a batch without any
    labelled sample gives 0 and not NaN.

    Gradients flow to `student_logits` only. Inside it is float32 (float64 for float64 logits).

    Args:
        student_logits: (B,) binary and regression, (B, C) multiclass, (B, L) multilabel. −inf
            masks a class.
        labels: (B,) class indices for multiclass; else shaped like the logits, in [0, 1] for
            binary and multilabel. None: no sample is labelled.
        task: what the logits mean.
        class_weights: (C,), multiclass only. Acts as a sample weight w[y]: the mean divides by the
            sum of the weights, as in torch.
        positive_weight: a number, or (L,) for multilabel; multiplies the loss of positives and is
            not divided out, as `pos_weight` in torch.
        label_smoothing: ε in [0, 1]; not for regression.
        focal_gamma: γ from 0, usually 2; 0 leaves every sample as it is, to the bit; not for
            regression.
        label_mask: (B,) bool, True where the label counts. Elsewhere it is never read.
        sample_weight: (B,) finite and not negative. The mean divides by its sum over what counts.
        reduction: over samples, never over classes. `"none"` gives 0 where unlabelled.

    Returns:
        A scalar, or (B,) for `"none"`; nats (squared units for regression), at least 0; 0 for a
        certain and right answer. A label whose class is masked costs 1e30.

    Raises:
        ValueError: unknown option, wrong shape or dtype, and, on CPU tensors outside
            `torch.compile` only, a label out of range or NaN.

    >>> round(supervised_loss(torch.tensor([0.0]), torch.tensor([1]), task="binary").item(), 4)
    0.6931
    """
    _check_options(task, class_weights, positive_weight, label_smoothing, focal_gamma, reduction)
    logits = check_logits(student_logits, task)
    labels, label_mask = check_labels(labels, label_mask, logits, task)
    weight = check_weight(sample_weight, logits)
    if positive_weight is not None:
        positive_weight = _as_weight("positive_weight", positive_weight, logits)
        if positive_weight.ndim and tuple(positive_weight.shape) != tuple(logits.shape[1:]):
            raise ValueError(
                f"positive_weight has shape {tuple(positive_weight.shape)} but the logits have "
                f"shape {tuple(logits.shape)}; give one number, or one per label"
            )
    if class_weights is not None:
        class_weights = _as_weight("class_weights", class_weights, logits)
        if tuple(class_weights.shape) != tuple(logits.shape[1:]):
            raise ValueError(
                f"class_weights have shape {tuple(class_weights.shape)} but there are "
                f"{logits.shape[1]} classes; give one weight per class"
            )
        weight = class_weights[labels] * (1.0 if weight is None else weight)
    values = hard_values(logits, labels, task, label_smoothing, positive_weight, focal_gamma)
    return reduce(values, reduction, weight, label_mask)


class SupervisedLoss(nn.Module):
    """Module over `supervised_loss`, which documents the options.

    `label_smoothing` and `focal_gamma` may be reassigned during training. Class and positive
    weights are buffers: they follow the module to its device and stay out of the checkpoint.
    """

    class_weights: Tensor | None
    positive_weight: Tensor | None

    def __init__(
        self,
        *,
        task: Task,
        class_weights: Tensor | Sequence[float] | None = None,
        positive_weight: Tensor | Sequence[float] | float | None = None,
        label_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        _check_options(
            task, class_weights, positive_weight, label_smoothing, focal_gamma, reduction
        )
        self.task: Task = task
        self.label_smoothing = label_smoothing
        self.focal_gamma = focal_gamma
        self.reduction: Reduction = reduction
        for name, value in (("class_weights", class_weights), ("positive_weight", positive_weight)):
            buffer = None if value is None else _as_weight(name, value, torch.empty(0))
            self.register_buffer(name, buffer, persistent=False)

    def forward(
        self,
        student_logits: Tensor,
        labels: Tensor | None,
        label_mask: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """Call `supervised_loss` with this module's options."""
        return supervised_loss(
            student_logits,
            labels,
            task=self.task,
            class_weights=self.class_weights,
            positive_weight=self.positive_weight,
            label_smoothing=self.label_smoothing,
            focal_gamma=self.focal_gamma,
            label_mask=label_mask,
            sample_weight=sample_weight,
            reduction=self.reduction,
        )

    def select(
        self, student: StudentOutput, teacher: TeacherOutput | None, batch: Batch
    ) -> dict[str, Tensor | None]:
        """Pick what `forward` reads; the teacher isn't needed."""
        return {
            "student_logits": student.logits,
            "labels": batch.labels,
            "label_mask": batch.label_mask,
            "sample_weight": batch.sample_weight,
        }


def _as_weight(name: str, value: Tensor | Sequence[float] | float, like: Tensor) -> Tensor:
    """Weights in dtype and place of `like`; refused where one is negative, infinite or NaN."""
    weight = settled(torch.as_tensor(value, dtype=like.dtype, device=like.device))
    if readable(weight) and not bool(((weight >= 0) & (weight < torch.inf)).all()):
        bad = weight[~((weight >= 0) & (weight < torch.inf))].flatten()[0].item()
        raise ValueError(f"{name} must be finite and not negative, got {bad}")
    return weight


def _check_options(
    task: str,
    class_weights: object,
    positive_weight: object,
    smoothing: float,
    focal_gamma: float,
    reduction: str,
) -> None:
    check_task(task, get_args(Task))
    check_reduction(reduction)
    check_unit("label_smoothing", smoothing)
    check_not_negative("focal_gamma", focal_gamma)
    if class_weights is not None and task != "multiclass":
        raise ValueError(
            f"class_weights are for task 'multiclass', got task {task!r}; use positive_weight "
            "for binary and multilabel, sample_weight for regression"
        )
    if positive_weight is not None and task not in ("binary", "multilabel"):
        raise ValueError(
            f"positive_weight is for tasks binary and multilabel, got task {task!r}; use "
            "class_weights for multiclass, sample_weight for regression"
        )
    if smoothing and task == "regression":
        raise ValueError("label_smoothing has no meaning for task 'regression'; leave it at 0")
    if focal_gamma and task == "regression":
        raise ValueError(
            "focal_gamma has no meaning for task 'regression', which has no probabilities; leave "
            "it at 0"
        )
