"""Gatekeeper: teach a light model to know when it is wrong."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
    per_sample,
    reduce,
)
from coefvq.losses.supervised import hard_elements

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
        right = logits.argmax(-1) == safe
        # The floor turns 0 * inf of a masked class into 0 * 1e30.
        log_q = F.log_softmax(logits, -1).clamp_min(-IMPOSSIBLE)
        hard = -log_q.gather(-1, safe[:, None])[:, 0]
        most = (logits > -torch.inf).sum(-1).to(logits.dtype).log()
        undecided = most + (log_q.exp() * log_q).sum(-1)
    else:
        right = (logits > 0) == (safe > 0.5)
        hard = hard_elements(logits, safe, task)
        finite = logits.clamp(-IMPOSSIBLE, IMPOSSIBLE)
        yes = finite.sigmoid() * F.logsigmoid(finite)
        undecided = math.log(2) + yes + (-finite).sigmoid() * F.logsigmoid(-finite)
    undecided = undecided.clamp_min(0.0)  # what rounding may leave below
    values = torch.where(right, right_weight * hard, (1 - right_weight) * undecided)
    return reduce(per_sample(values), reduction, weight, label_mask)


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


def _check_options(task: str, right_weight: float, reduction: str) -> None:
    check_task(task)
    check_reduction(reduction)
    check_unit("right_weight", right_weight)
