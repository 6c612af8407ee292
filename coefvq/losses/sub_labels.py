"""Hard labels on the side: what was done to a copy, beside whether it is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coefvq.losses._arguments import check_tensor, settled
from coefvq.losses._contract import Reduction, check_logits, check_reduction, check_weight, reduce

if TYPE_CHECKING:
    from coefvq.types import StudentOutput, TeacherOutput


def sub_label_loss(
    student_sub_logits: Tensor,
    sub_labels: Tensor | None,
    *,
    sub_label_mask: Tensor | None = None,
    sample_weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Binary cross-entropy over the sub-labels that a sample has.

    L_i = mean over the labelled s of sample i of −y_is log σ(z_is) − (1 − y_is) log σ(−z_is). As
    `supervised_loss(task="multilabel")`, but a sample may have some labels and lack others
    (MatchLM's and MatchLite's further heads, 2026; the mean over heads is a reconstruction).

    Gradients flow to `student_sub_logits` only. Inside it is float32 (float64 for float64 logits).

    Args:
        student_sub_logits: (B, S).
        sub_labels: (B, S) in [0, 1]; None: nothing is labelled.
        sub_label_mask: (B, S) bool, True where the label counts; None: all. Elsewhere a label is
            never read.
        sample_weight: (B,) finite and not negative. The mean divides by its sum over what counts.
        reduction: over samples. `"none"` gives 0 to a sample without any label.

    Returns:
        A scalar, or (B,) for `"none"`; nats, at least 0. A batch without any label gives 0.

    Raises:
        ValueError: wrong shape or dtype, unknown option, and, on CPU tensors only, a label that
            counts but is outside [0, 1] or NaN.

    >>> logits = torch.tensor([[0.0, 9.0]])
    >>> mask = torch.tensor([[True, False]])
    >>> labels = torch.tensor([[1.0, torch.nan]])
    >>> round(sub_label_loss(logits, labels, sub_label_mask=mask).item(), 4)
    0.6931
    """
    check_reduction(reduction)
    logits = check_logits(student_sub_logits, "multilabel", "student_sub_logits")
    weight = check_weight(sample_weight, logits)
    for name, given in (("sub_labels", sub_labels), ("sub_label_mask", sub_label_mask)):
        if given is not None:
            check_tensor(name, given)
    sub_labels, sub_label_mask = settled(sub_labels), settled(sub_label_mask)
    if sub_labels is None:
        sub_labels = torch.zeros_like(logits)
        sub_label_mask = torch.zeros_like(logits, dtype=torch.bool)
    counts = torch.ones_like(logits, dtype=torch.bool) if sub_label_mask is None else sub_label_mask
    for name, value in (("sub_labels", sub_labels), ("sub_label_mask", counts)):
        if value.shape != logits.shape:
            raise ValueError(
                f"{name} have shape {tuple(value.shape)} but the sub-logits have shape "
                f"{tuple(logits.shape)}; give one for each sub-label of each sample"
            )
    if counts.dtype != torch.bool:
        raise ValueError(
            f"sub_label_mask has dtype {counts.dtype}; give bool, True where it counts"
        )
    labels = torch.where(counts, sub_labels, torch.zeros_like(sub_labels)).to(logits.dtype)
    if labels.device.type == "cpu" and not torch.compiler.is_compiling():
        bad = ~((labels >= 0) & (labels <= 1))
        if bad.any():
            row, column = bad.nonzero()[0].tolist()
            raise ValueError(
                f"sub-label {column} of row {row} is {labels[row, column].item():g}, expected a "
                "number from 0 to 1; correct it, or mask it with sub_label_mask"
            )
    costs = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    values = torch.where(counts, costs, 0.0).sum(-1) / counts.sum(-1).clamp_min(1)
    return reduce(values, reduction, weight, counts.any(-1))


class SubLabelLoss(nn.Module):
    """Module over `sub_label_loss`, which documents the options."""

    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__()
        check_reduction(reduction)
        self.reduction: Reduction = reduction

    def forward(
        self,
        student_sub_logits: Tensor,
        sub_labels: Tensor | None,
        sub_label_mask: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """Call `sub_label_loss` with this module's options."""
        return sub_label_loss(
            student_sub_logits,
            sub_labels,
            sub_label_mask=sub_label_mask,
            sample_weight=sample_weight,
            reduction=self.reduction,
        )

    def select(
        self, student: StudentOutput, teacher: TeacherOutput | None, batch: object
    ) -> dict[str, Tensor | None]:
        """Pick what `forward` reads; no teacher is needed."""
        if student.sub_logits is None:
            raise ValueError(
                "SubLabelLoss needs a student with heads for sub-labels, and this one has none; "
                "leave out the term, or give data with sub-labels"
            )
        return {
            "student_sub_logits": student.sub_logits,
            "sub_labels": getattr(batch, "sub_labels", None),
            "sub_label_mask": getattr(batch, "sub_label_mask", None),
            "sample_weight": getattr(batch, "sample_weight", None),
        }


__all__ = ["SubLabelLoss", "sub_label_loss"]
