"""Fidelity ranking: which of two clips is better, and how surely?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coefvq.losses._arguments import settled
from coefvq.losses._contract import (
    Reduction,
    check_choice,
    check_reduction,
    check_weight,
    readable,
)
from coefvq.losses._scores import (
    check_above_zero,
    check_batch,
    check_groups,
    check_scores,
    check_target,
    differences,
    pick_target,
    query_groups,
    reduce_pairs,
)

if TYPE_CHECKING:
    from coefvq.types import Batch, StudentOutput, TeacherOutput

Choice = Literal["thurstone", "bradley_terry"]
"""How a difference of scores becomes the probability to be preferred."""

CHOICES: Final = get_args(Choice)


def fidelity_rank_loss(
    student_scores: Tensor,
    teacher_scores: Tensor,
    groups: Tensor | None = None,
    *,
    choice: Choice = "thurstone",
    student_std: float = 1.0,
    teacher_std: Tensor | float = 1.0,
    mask: Tensor | None = None,
    sample_weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Prefer, of two clips, the one that the teacher prefers, and as surely.

    ℓ_ij = 1 − √(p_ij q_ij) − √((1 − p_ij)(1 − q_ij)), p the teacher's and q the student's
    probability that i is better than j, and L_i is the mean of ℓ_ij over the partners j of i
    (fidelity: Tsai et al., "FRank", 2007; on quality scores: Zhang et al., "Uncertainty-aware
    blind image quality assessment in the laboratory and wild", 2021, which trains over several
    data sets, pairs within each). With u_ij = (s_i − s_j) / √(σ_i² + σ_j²): p = Φ(u) after
    Thurstone, or p = sigmoid(√2 · u) after Bradley and Terry, so that σ = 1 gives their plain
    Φ((s_i − s_j)/√2) and sigmoid(s_i − s_j).

    Differs from the source: there the student's σ is learned, here it is a constant, and the unit
    of its scores. Computed as ½(√p − √q)² + ½(√(1−p) − √(1−q))², the same number without
    cancellation.

    Ranks are what is handed on, and how sure they are, not the teacher's zero point; calibrate
    before printing a score. Gradients flow to `student_scores` only, and fade for pairs that the
    student is surely wrong about. Inside it is float32 (float64 for float64 scores). Pairs are
    those of the batch (under DDP: of the process); one that stands alone counts for nothing.

    Args:
        student_scores: (B,), higher is better.
        teacher_scores: (B,) finite; or labels, for instance mean opinion scores. Scores of two
            data sets may have two units and are not compared: see `groups`.
        groups: (B,) integers; only pairs within a group are compared, for instance within a data
            set or among the candidates of one query. None: all pairs.
        choice: as above.
        student_std: σ > 0 of each of the student's scores, in their unit.
        teacher_std: σ > 0, a number or (B,), in the teacher's unit: its own uncertainty, or the
            standard deviation of a mean opinion score. For scores from 0 to 100 the default of 1
            makes every preference certain.
        mask: (B,) bool, True where the teacher's score counts. Elsewhere it is never read.
        sample_weight: (B,) finite and not negative; weights partners as well as samples, so that
            0 is as good as absent.
        reduction: over samples. Each pair stands in the L of both.

    Returns:
        A scalar, or (B,) for `"none"`; no unit, in [0, 1]; 0 where all preferences are equal.

    Raises:
        ValueError: unknown option, σ ≤ 0, wrong shape or dtype, fewer than two samples; on CPU
            tensors outside `torch.compile` also a score or a weight that is not as above.

    >>> import torch  # teacher 4 : 1 for the first, student undecided: 1 − (√0.4 + √0.1)
    >>> scores = torch.zeros(2), torch.tensor([4.0, 1.0]).log()
    >>> round(fidelity_rank_loss(*scores, choice="bradley_terry").item(), 4)
    0.0513
    """
    _check_options(choice, student_std, teacher_std, reduction)
    mask = settled(mask)
    student, teacher = check_scores(student_scores, teacher_scores, mask)
    check_batch(student, "fidelity_rank_loss")
    weight = check_weight(sample_weight, student)
    groups = check_groups(groups, student)
    if isinstance(teacher_std, Tensor):
        teacher_std = _check_std(teacher_std, teacher, mask)
    q, q_not = _root_preferences(student, student_std, choice)
    p, p_not = _root_preferences(teacher, teacher_std, choice)
    elements = 0.5 * ((p - q).square() + (p_not - q_not).square())
    return reduce_pairs(elements, reduction, weight, groups, mask)


class FidelityRankLoss(nn.Module):
    """Module over `fidelity_rank_loss`, which documents the options.

    `target` says whose scores the student is held against, `"teacher"` or `"labels"`. The two
    standard deviations may be reassigned; `forward` takes one per sample instead of the teacher's.
    """

    def __init__(
        self,
        *,
        choice: Choice = "thurstone",
        student_std: float = 1.0,
        teacher_std: float = 1.0,
        target: Literal["teacher", "labels"] = "teacher",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        _check_options(choice, student_std, teacher_std, reduction)
        check_target(target)
        self.choice: Choice = choice
        self.student_std = student_std
        self.teacher_std = teacher_std
        self.target = target
        self.reduction: Reduction = reduction

    def forward(
        self,
        student_scores: Tensor,
        teacher_scores: Tensor,
        groups: Tensor | None = None,
        teacher_std: Tensor | None = None,
        mask: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """Call `fidelity_rank_loss` with this module's options."""
        return fidelity_rank_loss(
            student_scores,
            teacher_scores,
            groups,
            choice=self.choice,
            student_std=self.student_std,
            teacher_std=self.teacher_std if teacher_std is None else teacher_std,
            mask=mask,
            sample_weight=sample_weight,
            reduction=self.reduction,
        )

    def select(
        self, student: StudentOutput, teacher: TeacherOutput | None, batch: Batch
    ) -> dict[str, Tensor | None]:
        """Pick what `forward` reads; in a batch of pairs, candidates of one query are compared.

        Labels bring their opinions' standard deviations along where they are known and above 0.
        """
        std = getattr(batch, "label_std", None) if self.target == "labels" else None
        if std is not None:
            std = torch.where(std > 0, std, self.teacher_std)  # unknown is NaN, which is not
        return {
            "student_scores": student.logits,
            "groups": query_groups(batch),
            "teacher_std": std,
            "sample_weight": batch.sample_weight,
        } | pick_target(self.target, teacher, batch, "FidelityRankLoss")


def _root_preferences(scores: Tensor, std: Tensor | float, choice: str) -> tuple[Tensor, Tensor]:
    """√p and √(1 − p), (B, B), through log p: the root of an underflow has no gradient."""
    if isinstance(std, Tensor):
        margin = differences(scores) / (std[:, None].square() + std[None, :].square()).sqrt()
    else:
        margin = differences(scores) / (2**0.5 * std)
    if choice == "thurstone":
        yes, no = torch.special.log_ndtr(margin), torch.special.log_ndtr(-margin)
    else:
        yes, no = F.logsigmoid(2**0.5 * margin), F.logsigmoid(-(2**0.5) * margin)
    return (0.5 * yes).exp(), (0.5 * no).exp()


def _check_std(std: Tensor, scores: Tensor, mask: Tensor | None) -> Tensor:
    if std.shape != scores.shape:
        raise ValueError(
            f"teacher_std has shape {tuple(std.shape)} but the scores ask for "
            f"{tuple(scores.shape)}, or one number for all"
        )
    if mask is not None:
        std = torch.where(mask, std, torch.ones_like(std))
    if readable(std):
        bad = ~((std > 0) & (std < torch.inf))
        if bool(bad.any()):
            row = int(bad.nonzero()[0])
            raise ValueError(
                f"teacher_std must be finite and above 0, got {std[row].item()} in row {row}"
            )
    return std.detach().to(scores.dtype)


def _check_options(
    choice: str, student_std: float, teacher_std: Tensor | float, reduction: str
) -> None:
    check_reduction(reduction)
    check_choice("choice", choice, CHOICES)
    check_above_zero("student_std", student_std)
    if not isinstance(teacher_std, Tensor):
        check_above_zero("teacher_std", teacher_std)
