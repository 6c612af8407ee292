"""Attention transfer: the student looks where the teacher looks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from coefvq.losses._contract import Reduction, check_reduction, check_weight, reduce
from coefvq.losses._features import check_features, check_mask, need_features, unit

if TYPE_CHECKING:
    from coefvq.types import Batch, StudentOutput, TeacherOutput


def attention_transfer_loss(
    student_features: Tensor,
    teacher_features: Tensor,
    *,
    power: float = 2.0,
    mask: Tensor | None = None,
    sample_weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Match where features have their energy, whatever the features are.

    L_i = |Q_i / |Q_i| − P_i / |P_i||², Q the student's map of energies, Σ_c |f_c|^power at each
    position, P the teacher's, |·| Euclidean (Zagoruyko and Komodakis, "Paying more attention to
    attention", ICLR 2017, section 3.1, activation-based).

    Differs from the source: equation 2 has the norm, which has no slope at 0, the authors' code the
    mean of the squares over positions, which shrinks with the size of the map. This is the sum of
    the squares, twice one minus the cosine of the maps; times β / 2 of the source is up to the
    term's weight. The widths C or D may differ, the positions may not.

    Gradients flow to `student_features` only. Inside it is float32 (float64 for float64 features).
    No label is read: every sample counts.

    Args:
        student_features: (B, C, H, W) maps or (B, T, D) tokens.
        teacher_features: the same, with the same positions; C or D may differ.
        power: from 1; larger looks at the strongest features only.
        mask: bool, True where a position counts: (B, H, W) for maps, (B, T) for tokens. Elsewhere
            features are never read; a sample without any position is left out.
        sample_weight: (B,) finite and not negative. The mean divides by its sum.
        reduction: over samples, never over positions.

    Returns:
        A scalar, or (B,) for `"none"`; a number in [0, 2], 0 for maps that are multiples of each
        other.

    Raises:
        ValueError: unknown option, power below 1, wrong shape or dtype; a bad weight on CPU
            tensors.

    >>> import torch  # energies (9, 16) / √337 against (1, 0)
    >>> student, teacher = torch.tensor([[[3.0], [4.0]]]), torch.tensor([[[2.0], [0.0]]])
    >>> round(attention_transfer_loss(student, teacher).item(), 4)
    1.0195
    """
    _check_options(power, reduction)
    student, teacher = check_features(student_features, teacher_features, (3, 4))
    weight = check_weight(sample_weight, student)
    channels = -1 if student.ndim == 3 else 1
    ours, theirs = (list(x.shape) for x in (student, teacher))
    ours.pop(channels)
    theirs.pop(channels)
    if ours != theirs:
        raise ValueError(
            f"student_features have shape {tuple(student.shape)} and teacher_features "
            f"{tuple(teacher.shape)}; their positions must agree: pool the larger map, for "
            "instance with torch.nn.functional.adaptive_avg_pool2d"
        )
    if mask is not None:
        mask = check_mask(mask, tuple(ours))
    maps = [unit(_energies(x, mask, channels, power)) for x in (student, teacher)]
    values = (maps[0] - maps[1]).square().sum(-1)
    return reduce(values, reduction, weight, None if mask is None else mask.flatten(1).any(-1))


class AttentionTransferLoss(nn.Module):
    """Module over `attention_transfer_loss`, which documents the options.

    `power` may be reassigned during training.
    """

    def __init__(self, *, power: float = 2.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        _check_options(power, reduction)
        self.power = power
        self.reduction: Reduction = reduction

    def forward(
        self,
        student_features: Tensor,
        teacher_features: Tensor,
        mask: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """Call `attention_transfer_loss` with this module's options."""
        return attention_transfer_loss(
            student_features,
            teacher_features,
            power=self.power,
            mask=mask,
            sample_weight=sample_weight,
            reduction=self.reduction,
        )

    def select(
        self, student: StudentOutput, teacher: TeacherOutput | None, batch: Batch
    ) -> dict[str, Tensor | None]:
        """Pick what `forward` reads: `token_features`, as pooled features have no positions."""
        ours, theirs = need_features(student, teacher, "AttentionTransferLoss", "token_features")
        return {
            "student_features": ours,
            "teacher_features": theirs,
            "mask": getattr(teacher, "token_mask", None),
            "sample_weight": batch.sample_weight,
        }


def _energies(features: Tensor, mask: Tensor | None, channels: int, power: float) -> Tensor:
    """(B, positions). Only their proportions are used, so no power of them needs to overflow."""
    if mask is not None:
        counts = mask.unsqueeze(channels)
        features = torch.where(counts, features, torch.zeros_like(features))
    size = features.abs()
    largest = size.detach().flatten(1).amax(-1).view(-1, *[1] * (features.ndim - 1))
    scaled = size / torch.where(largest > 0, largest, 1.0)
    return scaled.pow(power).sum(channels).flatten(1)


def _check_options(power: float, reduction: str) -> None:
    check_reduction(reduction)
    if not 1.0 <= power < math.inf:
        raise ValueError(
            f"power must be a finite number from 1, got {power}; below 1 features near 0 would "
            "have no bounded gradient"
        )
