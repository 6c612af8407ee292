"""Relational distillation: distances and angles between the clips of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coefvq.losses._contract import Reduction, check_reduction, check_weight, reduce
from coefvq.losses._features import (
    check_enough,
    check_features,
    need_features,
    rows_of_all_ranks,
    shares,
    unit,
    without_autocast,
)
from coefvq.losses._numbers import check_not_negative

if TYPE_CHECKING:
    from coefvq.types import Batch, StudentOutput, TeacherOutput


def rkd_loss(
    student_features: Tensor,
    teacher_features: Tensor,
    *,
    distance_weight: float = 1.0,
    angle_weight: float = 2.0,
    gather: bool = True,
    sample_weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Match how far clips lie from each other, and at which angles.

    L = λ_D · mean_ij h(d_ij / μ − D_ij / M) + λ_A · mean_ijk h(a_ijk − A_ijk), h the Huber
    function with its corner at 1, d the student's distances, μ their mean over what is not 0, a_ijk
    the cosine at i between the directions to j and k; capitals are the teacher's (Park et al.,
    "Relational knowledge distillation", CVPR 2019, equations 4 to 9; 1 : 2 as in section 4). A
    sample's own value is its mean over j (and k), and L the mean of these.

    As in the authors' code the means are over all B² and B³, the zeros of a sample with itself
    among them. Differs from it by sample weights, which count as repetitions (a sample of weight 2
    is two, in μ as well), and by exact zeros, without gradient, between equal features.

    Gradients flow to `student_features` only, also through μ. Inside it is float32 (float64 for
    float64 features). No label is read. Angles hold B² · D + B³ numbers. Relations cannot be cut
    into micro-batches: gradients accumulated over two halves lack the relations between them.

    Args:
        student_features: (B, D), pooled or flattened.
        teacher_features: (B, D), of any width.
        distance_weight: λ_D from 0.
        angle_weight: λ_A from 0, not 0 as well.
        gather: relate to the rows of all ranks where several processes train. All ranks must call
            it equally often, or none returns.
        sample_weight: (B,) finite and not negative.
        reduction: over samples, which here are the corners i; inside one it is over all partners.

    Returns:
        A scalar, or (B,) for `"none"`; without unit, at least 0, 0 where the student's features are
        the teacher's, turned, moved and scaled as a whole.

    Raises:
        ValueError: unknown option, a weight below 0, wrong shape or dtype, fewer than three
            samples; a bad sample weight on CPU tensors.

    >>> import torch  # distances 1, 1, 2 (mean 4/3) against 1, 1, 0 (mean 1)
    >>> line, fold = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0], [1.0], [0.0]])
    >>> round(rkd_loss(line, fold, angle_weight=0.0).item(), 4)
    0.2361
    """
    _check_options(distance_weight, angle_weight, reduction)
    student, teacher = check_features(student_features, teacher_features)
    weight = check_weight(sample_weight, student)
    student, teacher, weights, own = rows_of_all_ranks(student, teacher, weight, gather)
    check_enough(
        student, 3, "rkd_loss", "of two the one distance is its own mean, and there is no angle"
    )
    share = shares(weights, student)
    values = torch.zeros_like(share[own])
    if distance_weight:
        ours, theirs = (_distances(x, share)[own] for x in (student, teacher))
        elements = F.smooth_l1_loss(ours, theirs, reduction="none")
        values = values + distance_weight * (elements * share).sum(-1)
    if angle_weight:
        ours, theirs = (_angles(x, own) for x in (student, teacher))
        elements = F.smooth_l1_loss(ours, theirs, reduction="none")
        pairs = ((elements * share).sum(-1) * share).sum(-1)
        values = values + angle_weight * pairs
    return reduce(values, reduction, weight)


class RKDLoss(nn.Module):
    """Module over `rkd_loss`, which documents the options.

    `distance_weight` and `angle_weight` may be reassigned during training.
    """

    def __init__(
        self,
        *,
        distance_weight: float = 1.0,
        angle_weight: float = 2.0,
        gather: bool = True,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        _check_options(distance_weight, angle_weight, reduction)
        self.distance_weight = distance_weight
        self.angle_weight = angle_weight
        self.gather = gather
        self.reduction: Reduction = reduction

    def forward(
        self,
        student_features: Tensor,
        teacher_features: Tensor,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """Call `rkd_loss` with this module's options."""
        return rkd_loss(
            student_features,
            teacher_features,
            distance_weight=self.distance_weight,
            angle_weight=self.angle_weight,
            gather=self.gather,
            sample_weight=sample_weight,
            reduction=self.reduction,
        )

    def select(
        self, student: StudentOutput, teacher: TeacherOutput | None, batch: Batch
    ) -> dict[str, Tensor | None]:
        """Pick what `forward` reads; labels aren't needed."""
        ours, theirs = need_features(student, teacher, "RKDLoss")
        return {
            "student_features": ours,
            "teacher_features": theirs,
            "sample_weight": batch.sample_weight,
        }


def _distances(x: Tensor, share: Tensor) -> Tensor:
    """(B, B) distances over their weighted mean; 0 for equal features, and then no gradient."""
    # Not through products: |a|² − 2ab + |b|² makes near duplicates any distance at all.
    distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    pairs = share[:, None] * share
    counted = torch.where(distances > 0, pairs, 0.0).sum()
    mean = (distances * pairs).sum() / torch.where(counted > 0, counted, 1.0)
    return distances / torch.where(mean > 0, mean, 1.0)


def _angles(x: Tensor, own: slice) -> Tensor:
    """(own, B, B) cosines at each own corner between the directions to any two samples."""
    directions = unit(x[None] - x[own][:, None])
    with without_autocast(x):
        return directions @ directions.mT


def _check_options(distance_weight: float, angle_weight: float, reduction: str) -> None:
    check_reduction(reduction)
    check_not_negative("distance_weight", distance_weight)
    check_not_negative("angle_weight", angle_weight)
    if distance_weight == angle_weight == 0:
        raise ValueError(
            "distance_weight and angle_weight are both 0, which leaves nothing of RKD; give one of "
            "them a weight, or drop the term"
        )
