"""Gatekeeper: teach a light model to know when it is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coefvq.losses import _bernoulli
from coefvq.losses._contract import (
    IMPOSSIBLE,
    Reduction,
    Task,
    check_labels,
    check_logits,
    check_reduction,
    check_task,
    check_unit,
    check_weight,
    log_classes,
    reduce,
)
from coefvq.losses._known_gradient import wants_gradient, with_slope

if TYPE_CHECKING:
    from coefvq.types import Batch, StudentOutput, TeacherOutput


def gatekeeper_loss(
    student_logits: Tensor,
    labels: Tensor | None,
    *,
    task: Task,
    right_weight: float = 0.5,
    label_mask: Tensor | None = None,
    sample_weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Be sure where you are right, and undecided where you are wrong.

    L_i = α · CE_i where the decision is right, (1 − α) · KL(q ‖ uniform) where it is wrong
    (Rabanser et al., "Gatekeeper: improving model cascades through confidence tuning", 2025), with
    KL(q ‖ uniform) = log C − H(q). For the light model of a cascade, as a second stage after
    ordinary training: what it cannot do it then hands on, because its entropy is high there.

    Both parts divide by the number of all labelled samples, as in the source, not each by its own.
    Binary has two classes, q = (σ(z), σ(−z)); multilabel decides label by label and takes the mean
    over labels. Uniform means over the classes that are not masked by −inf. A decision is argmax,
    or z > 0; soft binary labels are read as y > ½. No teacher is needed.

    Gradients flow to `student_logits` only, and not through the decision. A sample that changes
    sides makes the loss jump. Inside it is float32 (float64 for float64 logits).

    Args:
        student_logits: (B,) binary, (B, C) multiclass, (B, L) multilabel. −inf masks a class.
        labels: (B,) class indices for multiclass; else shaped like the logits, in [0, 1]. None: no
            sample is labelled, and the loss is 0.
        task: what the logits mean; regression has no decision and is refused.
        right_weight: α in [0, 1]. Smaller values give up more samples, to be surer of the rest; 0
            only ever makes the model less sure.
        label_mask: (B,) bool, True where the label counts. Elsewhere it is never read.
        sample_weight: (B,) finite and not negative. The mean divides by its sum over what counts.
        reduction: over samples, never over classes. `"none"` gives 0 where unlabelled.

    Returns:
        A scalar, or (B,) for `"none"`; nats, at least 0; 0 where the model is certain and right,
        or wrong and undecided.

    Raises:
        ValueError: unknown option, α outside [0, 1], wrong shape or dtype, and, on CPU tensors
            outside `torch.compile` only, a label out of range or NaN.

    >>> import torch  # says 0.8, which is wrong: ½ · (log 2 − H(0.8))
    >>> round(gatekeeper_loss(torch.tensor([4.0]).log(), torch.zeros(1), task="binary").item(), 4)
    0.0964
    """
    _check_options(task, right_weight, reduction)
    logits = check_logits(student_logits, task)
    safe, label_mask = check_labels(labels, label_mask, logits, task)
    weight = check_weight(sample_weight, logits)
    if task == "multiclass":
        values = _of_classes(logits, safe, right_weight)
    else:
        values = _of_decisions(logits, safe, right_weight)
    return reduce(values, reduction, weight, label_mask)


class GatekeeperLoss(nn.Module):
    """Module over `gatekeeper_loss`, which documents the options.

    `right_weight` may be reassigned during training.
    """

    def __init__(
        self, *, task: Task, right_weight: float = 0.5, reduction: Reduction = "mean"
    ) -> None:
        super().__init__()
        _check_options(task, right_weight, reduction)
        self.task: Task = task
        self.right_weight = right_weight
        self.reduction: Reduction = reduction

    def forward(
        self,
        student_logits: Tensor,
        labels: Tensor | None,
        label_mask: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """Call `gatekeeper_loss` with this module's options."""
        return gatekeeper_loss(
            student_logits,
            labels,
            task=self.task,
            right_weight=self.right_weight,
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


def _of_classes(logits: Tensor, labels: Tensor, right_weight: float) -> Tensor:
    """(B,) from (B, C)."""
    z, own = logits.detach(), labels[:, None]
    right = z.argmax(-1, keepdim=True) == own
    known, lost = _shares(right, right_weight, z)
    log_q = _log_softmax(z)
    lack = log_q.exp().mul_(log_q).sum(-1, keepdim=True)  # −H(q)
    undecided = (log_classes(z) + lack[:, 0]).clamp_min(0.0)  # what rounding may leave below
    values = torch.where(right, -known * log_q.gather(-1, own), lost * undecided[:, None])[:, 0]
    if not wants_gradient(logits):
        return values
    return with_slope(logits, values, _slope_of_classes, log_q, lack, own, known, lost)


def _slope_of_classes(
    logits: Tensor, log_q: Tensor, lack: Tensor, own: Tensor, known: Tensor, lost: Tensor
) -> Tensor:
    """α (q − [y]) where right, (1 − α) q (log q + H(q)) where wrong."""
    q = logits.softmax(-1)
    if not torch.is_grad_enabled():
        slope = torch.addcmul(known - lost * lack, lost, log_q).mul_(q)
        return slope.scatter_add_(-1, own, -known)
    log_q = _log_softmax(logits)
    lack = (q * log_q).sum(-1, keepdim=True)
    return (q * (known + lost * (log_q - lack))).scatter_add(-1, own, -known)


def _shares(right: Tensor, right_weight: float, like: Tensor) -> tuple[Tensor, Tensor]:
    yes = right.to(like.dtype)
    return right_weight * yes, (1 - right_weight) * (1 - yes)


def _log_softmax(logits: Tensor) -> Tensor:
    """With a floor that turns 0 · ∞ of a masked class into 0 · 1e30."""
    log_q = F.log_softmax(logits, -1)
    return log_q.clamp_min(-IMPOSSIBLE) if log_q.requires_grad else log_q.clamp_min_(-IMPOSSIBLE)


def _of_decisions(logits: Tensor, labels: Tensor, right_weight: float) -> Tensor:
    """(B,) from (B,), or from (B, L) by the mean over labels."""
    z = logits.detach()
    right = (z > 0) == (labels > 0.5)
    known, lost = _shares(right, right_weight, z)
    values = _bernoulli.cross_entropy(z, labels, None).mul_(known)
    values.addcmul_(_bernoulli.undecided(z), lost)
    total = values.sum(-1) if values.ndim == 2 else values
    if wants_gradient(logits):
        total = with_slope(logits, total, _slope_of_decisions, labels, known, lost)
    return total / values.shape[1] if values.ndim == 2 else total


def _slope_of_decisions(logits: Tensor, labels: Tensor, known: Tensor, lost: Tensor) -> Tensor:
    hard = _bernoulli.cross_entropy_slope(logits, labels, None, known)
    return hard + lost * _bernoulli.undecided_slope(logits)


def _check_options(task: str, right_weight: float, reduction: str) -> None:
    check_task(task)
    check_reduction(reduction)
    check_unit("right_weight", right_weight)
