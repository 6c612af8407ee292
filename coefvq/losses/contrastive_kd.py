"""Contrastive distillation: of all clips, the teacher's view of the same one is the nearest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coefvq.losses._contract import (
    Reduction,
    check_reduction,
    check_temperature,
    check_weight,
    reduce,
)
from coefvq.losses._features import (
    check_enough,
    check_features,
    make_projection,
    need_features,
    project,
    rows_of_all_ranks,
    unit,
    without_autocast,
)

if TYPE_CHECKING:
    from coefvq.types import Batch, StudentOutput, TeacherOutput


def contrastive_kd_loss(
    student_features: Tensor,
    teacher_features: Tensor,
    *,
    temperature: float = 0.1,
    symmetric: bool = False,
    gather: bool = True,
    sample_weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Tell by the student's features which of the teacher's belong to the same clip.

    L_i = −log exp(cos(f_i, h_i) / T) / Σ_j exp(cos(f_i, h_j) / T), f the student's features, h the
    teacher's, j over all clips of the batch: InfoNCE (van den Oord et al., "Representation learning
    with contrastive predictive coding", 2018, equation 4) between the two models, in the spirit of
    CRD (Tian et al., "Contrastive representation distillation", ICLR 2020). `symmetric` averages
    it with the search the other way, for f_i among all f_j by h_i, as CLIP does.

    Differs from CRD, which draws thousands of negatives from a memory of the whole data set and
    estimates by noise contrast: here the negatives are the batch, of all ranks. A copy of a clip in
    the batch is a negative like any other.

    Gradients flow to `student_features` only, of all ranks: with a mean on each rank, averaged by
    DDP, they are those of one process with the whole batch. Inside it is float32 (float64 for
    float64 features). No label is read. It cannot be cut into micro-batches: gradients accumulated
    over two halves lack the other half's negatives.

    Args:
        student_features: (B, D), in the teacher's width (`ContrastiveKDLoss` learns a projection).
        teacher_features: (B, D).
        temperature: T > 0, of the cosines; a tensor without dimensions may be learned.
        symmetric: also search among the students.
        gather: the negatives are the clips of all ranks where several processes train. All ranks
            must call it equally often, or none returns.
        sample_weight: (B,) finite and not negative, of the clip that is searched for; whatever its
            weight it is a negative to the others. The mean divides by the sum of the weights.
        reduction: over samples.

    Returns:
        A scalar, or (B,) for `"none"`; nats, above 0. log B is chance. It is no divergence: for
        equal features it is as low as the clips are unlike each other, near 0 for small T.

    Raises:
        ValueError: T ≤ 0, unknown option, wrong shape or dtype, one sample, which needs no
            telling apart; a bad weight on CPU tensors.

    >>> import torch  # log(1 + e⁻¹)
    >>> round(contrastive_kd_loss(torch.eye(2), torch.eye(2), temperature=1.0).item(), 4)
    0.3133
    """
    _check_options(temperature, reduction)
    student, teacher = check_features(student_features, teacher_features, same_width=True)
    weight = check_weight(sample_weight, student)
    student, teacher, _, own = rows_of_all_ranks(student, teacher, None, gather)
    check_enough(student, 2, "contrastive_kd_loss", "one has nobody to be told apart from")
    ours, theirs = unit(student), unit(teacher)
    target = torch.arange(student.shape[0], device=student.device)[own]
    with without_autocast(student):
        values = F.cross_entropy(ours[own] @ theirs.mT / temperature, target, reduction="none")
        if symmetric:
            back = F.cross_entropy(theirs[own] @ ours.mT / temperature, target, reduction="none")
            values = (values + back) / 2
    return reduce(values, reduction, weight)


class ContrastiveKDLoss(nn.Module):
    """Module over `contrastive_kd_loss`, which documents the options, with a learned projection.

    `temperature` may be reassigned during training.

    Args:
        student_width: D of the student's features.
        teacher_width: D of the teacher's, to which a linear layer brings the student's. Both None:
            no layer; the widths agree.
    """

    def __init__(
        self,
        student_width: int | None = None,
        teacher_width: int | None = None,
        *,
        temperature: float = 0.1,
        symmetric: bool = False,
        gather: bool = True,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        _check_options(temperature, reduction)
        self.projection = make_projection(student_width, teacher_width)
        self.temperature = temperature
        self.symmetric = symmetric
        self.gather = gather
        self.reduction: Reduction = reduction

    @property
    def student_width(self) -> int | None:
        """Width that the projection takes; None without one."""
        return None if self.projection is None else self.projection.in_features

    @property
    def teacher_width(self) -> int | None:
        """Width that the projection gives; None without one."""
        return None if self.projection is None else self.projection.out_features

    def forward(
        self,
        student_features: Tensor,
        teacher_features: Tensor,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """Project the student's features and call the function with this module's options."""
        return contrastive_kd_loss(
            project(self.projection, student_features, teacher_features),
            teacher_features,
            temperature=self.temperature,
            symmetric=self.symmetric,
            gather=self.gather,
            sample_weight=sample_weight,
            reduction=self.reduction,
        )

    def select(
        self, student: StudentOutput, teacher: TeacherOutput | None, batch: Batch
    ) -> dict[str, Tensor | None]:
        """Pick what `forward` reads; labels aren't needed."""
        ours, theirs = need_features(student, teacher, "ContrastiveKDLoss")
        return {
            "student_features": ours,
            "teacher_features": theirs,
            "sample_weight": batch.sample_weight,
        }


def _check_options(temperature: float, reduction: str) -> None:
    check_reduction(reduction)
    # Unlike a divergence's, it may be learned: nothing here is a closed form without it.
    check_temperature(temperature.detach() if isinstance(temperature, Tensor) else temperature)
