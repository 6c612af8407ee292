"""What the losses on scores share: one number per sample, and comparisons of two samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from coefvq.losses._arguments import check_positive, check_tensor, settled
from coefvq.losses._contract import check_choice, readable, reduce

if TYPE_CHECKING:
    from coefvq.types import Batch, TeacherOutput

TARGETS = ("teacher", "labels")
"""Where a module takes the scores from that the student is held against."""


def check_above_zero(name: str, value: float, otherwise: str = "") -> None:
    """Refuse anything but a finite number above 0."""
    check_positive(name, value, otherwise)


def check_target(target: str) -> None:
    """Refuse anything but teacher and labels."""
    check_choice("target", target, TARGETS)


def check_scores(
    student: Tensor,
    teacher: Tensor,
    mask: Tensor | None = None,
    noun: str = "scores",
    *,
    names: tuple[str, str] | None = None,
) -> tuple[Tensor, Tensor]:
    """Check both; return them in the student's precision, at least float32, the teacher's detached.

    Where `mask` is False the teacher's score is replaced by 0 before anything reads it. That the
    others are finite is checked on CPU tensors outside `torch.compile` only. `names` are for
    errors, where the two are not the student's and the teacher's `noun`.
    """
    first, second = names or (f"student_{noun}", f"teacher_{noun}")
    for name, scores in ((first, student), (second, teacher)):
        check_tensor(name, scores)
        if not scores.is_floating_point():
            raise ValueError(f"{name} must be floating point, got {scores.dtype}")
    if student.ndim != 1 or student.shape != teacher.shape:
        raise ValueError(
            f"{first} have shape {tuple(student.shape)} and {second} "
            f"{tuple(teacher.shape)}; both are expected to be (B,), one number per sample; "
            "squeeze a last dimension of 1"
        )
    teacher = settled(teacher)
    if mask is not None:
        check_tensor("mask", mask)
        mask = settled(mask)
        if mask.dtype != torch.bool:
            raise ValueError(f"mask must be bool with True where a score counts, got {mask.dtype}")
        _check_rows("mask", mask, student)
        teacher = torch.where(mask, teacher, torch.zeros_like(teacher))
    if readable(teacher) and not bool(teacher.isfinite().all()):
        row = int((~teacher.isfinite()).nonzero()[0])
        raise ValueError(
            f"{second} must be finite, got {teacher[row].item()} in row {row}; correct it, "
            "or leave the sample out"
        )
    student = student.float() if student.dtype in (torch.float16, torch.bfloat16) else student
    return student, teacher.to(student.dtype)


def check_groups(groups: Tensor | None, scores: Tensor) -> Tensor | None:
    """Refuse groups that are not (B,) integers."""
    if groups is None:
        return None
    check_tensor("groups", groups)
    if groups.is_floating_point() or groups.dtype == torch.bool:
        raise ValueError(f"groups must be integers, one per sample, got {groups.dtype}")
    _check_rows("groups", groups, scores)
    return settled(groups)


def check_batch(scores: Tensor, what: str) -> None:
    """Refuse a batch in which there is nothing to compare."""
    if scores.shape[0] < 2:
        raise ValueError(
            f"{what} compares samples of a batch, got {scores.shape[0]} sample; use batches of "
            "more than one (drop_last=True)"
        )


def differences(scores: Tensor) -> Tensor:
    """(B, B), entry i, j the score of i less the score of j."""
    return scores[:, None] - scores[None, :]


def reduce_pairs(
    elements: Tensor,
    reduction: str,
    sample_weight: Tensor | None,
    groups: Tensor | None,
    mask: Tensor | None = None,
) -> Tensor:
    """Reduce (B, B) values of comparisons: each sample over its partners, then over samples.

    Partners are the other samples of the same group that count, weighted by their weights; who
    has none counts for nothing. So a group of ten weighs five times what a group of two does,
    and not 45 times.
    """
    comparable = ~torch.eye(elements.shape[0], dtype=torch.bool, device=elements.device)
    if groups is not None:
        comparable = comparable & (groups[:, None] == groups[None, :])
    if mask is not None:
        comparable = comparable & mask[:, None] & mask[None, :]
    weight = comparable.to(elements.dtype)
    if sample_weight is not None:
        weight = weight * sample_weight
    total = weight.sum(-1)
    values = (weight * torch.where(comparable, elements, 0.0)).sum(-1)
    values = values / torch.where(total > 0, total, 1.0)
    return reduce(values, reduction, sample_weight, total > 0)


def query_groups(batch: Batch) -> Tensor | None:
    """(B,) one number per query of a `PairBatch`; None for clips, which have no query."""
    query = getattr(batch, "query", None)
    if query is None:
        return None
    first: dict[str, int] = {}
    numbers = [first.setdefault(name, len(first)) for name in query.ids]
    return torch.tensor(numbers, device=batch.device)


def pick_target(
    target: str, teacher: TeacherOutput | None, batch: Batch, loss: str
) -> dict[str, Tensor | None]:
    """The scores to hold the student against, and which of them count."""
    if target == "teacher":
        if teacher is None:
            raise ValueError(
                f"{loss} needs a teacher's scores but the run has no teacher; configure one, or "
                "target='labels'"
            )
        return {"teacher_scores": teacher.logits, "mask": None}
    if batch.labels is None:
        raise ValueError(f"{loss} with target='labels' got a batch without labels")
    return {"teacher_scores": batch.labels, "mask": batch.label_mask}


def _check_rows(name: str, tensor: Tensor, scores: Tensor) -> None:
    if tensor.shape != scores.shape:
        raise ValueError(
            f"{name} have shape {tuple(tensor.shape)} but the scores ask for {tuple(scores.shape)}"
        )
