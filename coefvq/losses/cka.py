"""Linear CKA: the student's features hold what the teacher's hold, in whatever coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from coefvq.losses._contract import Reduction, check_reduction, check_weight
from coefvq.losses._features import (
    check_enough,
    check_features,
    cosine_distance,
    need_features,
    rows_of_all_ranks,
    shares,
    without_autocast,
)

if TYPE_CHECKING:
    from coefvq.types import Batch, StudentOutput, TeacherOutput


def cka_loss(
    student_features: Tensor,
    teacher_features: Tensor,
    *,
    gather: bool = True,
    sample_weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Align the batch's centred Gram matrices: 1 − linear CKA.

    L = 1 − ⟨K, H⟩ / (|K| |H|), K = F Fᵀ of the student's features less their mean, H the teacher's,
    ⟨·,·⟩ and |·| Frobenius (Kornblith et al., "Similarity of neural network representations
    revisited", ICML 2019, equation 4 and section 3, linear kernel). Unchanged by turning, moving
    and scaling either side, so that no projection is needed.

    Differs from the source by sample weights: a sample of weight 2 is two. This is the plain
    estimate, which leans towards 1 (a loss towards 0) where B is small against the widths: compare
    values of one batch size only.

    Gradients flow to `student_features` only. Inside it is float32 (float64 for float64 features).
    No label is read. Relations cannot be cut into micro-batches: gradients accumulated over two
    halves lack the relations between them.

    Args:
        student_features: (B, D), pooled or flattened.
        teacher_features: (B, D), of any width.
        gather: relate to the rows of all ranks where several processes train. All ranks must call
            it equally often, or none returns.
        sample_weight: (B,) finite and not negative.
        reduction: `"mean"` only: CKA is one number of the batch and no sample has its own.

    Returns:
        A scalar in [0, 1]; 0 for features equal up to the changes above. Where one side is the same
        for all samples there is no CKA, and it is ½; where both are, 0.

    Raises:
        ValueError: another reduction, wrong shape or dtype, fewer than three samples; a bad weight
            on CPU tensors.

    >>> import torch  # x and x² of three points: centred (−1, 0, 1) and (1, −2, 1) / 3
    >>> x = torch.tensor([[-1.0], [0.0], [1.0]])
    >>> cka_loss(x, x.square()).item()
    1.0
    """
    _check_options(reduction)
    student, teacher = check_features(student_features, teacher_features)
    weight = check_weight(sample_weight, student)
    student, teacher, weights, _ = rows_of_all_ranks(student, teacher, weight, gather)
    check_enough(student, 3, "cka_loss", "any two points are a line, and all lines are alike")
    share = shares(weights, student)[:, None]
    with without_autocast(student):
        ours, theirs = (_gram(x, share).flatten() for x in (student, teacher))
    return cosine_distance(ours, theirs)


class CKALoss(nn.Module):
    """Module over `cka_loss`, which documents the options."""

    def __init__(self, *, gather: bool = True, reduction: Reduction = "mean") -> None:
        super().__init__()
        _check_options(reduction)
        self.gather = gather
        self.reduction: Reduction = reduction

    def forward(
        self,
        student_features: Tensor,
        teacher_features: Tensor,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """Call `cka_loss` with this module's options."""
        return cka_loss(
            student_features,
            teacher_features,
            gather=self.gather,
            sample_weight=sample_weight,
            reduction=self.reduction,
        )

    def select(
        self, student: StudentOutput, teacher: TeacherOutput | None, batch: Batch
    ) -> dict[str, Tensor | None]:
        """Pick what `forward` reads; labels aren't needed."""
        ours, theirs = need_features(student, teacher, "CKALoss")
        return {
            "student_features": ours,
            "teacher_features": theirs,
            "sample_weight": batch.sample_weight,
        }


def _gram(x: Tensor, share: Tensor) -> Tensor:
    """(B, B) products of the centred rows, each row by the root of its share."""
    x = x - x[:1].detach()  # first this, so that equal rows are centred to 0 without rounding
    x = (x - (x * share).sum(0)) * share.sqrt()
    largest = x.detach().abs().amax()
    x = x / torch.where(largest > 0, largest, 1.0)
    return x @ x.mT


def _check_options(reduction: str) -> None:
    check_reduction(reduction)
    if reduction != "mean":
        raise ValueError(
            f"reduction {reduction!r} is over samples, but CKA is one number of the whole batch; "
            "use 'mean'"
        )
