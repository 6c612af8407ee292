"""What the losses on features share: checks, a projection, directions, the rows of all ranks."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable

from coefvq.losses._arguments import check_tensor, settled

if TYPE_CHECKING:
    from coefvq.types import StudentOutput, TeacherOutput

_SHAPES: Final = {2: "(B, D)", 3: "(B, T, D)", 4: "(B, C, H, W)"}


def need_features(
    student: StudentOutput, teacher: TeacherOutput | None, loss: str, field: str = "features"
) -> tuple[Tensor, Tensor]:
    """Both sides' features, or a sentence about the side that has none."""
    if teacher is None:
        raise ValueError(
            f"{loss} needs a teacher's {field} but the run has no teacher; configure one"
        )
    ours: Tensor | None = getattr(student, field, None)
    theirs: Tensor | None = getattr(teacher, field, None)
    if ours is None or theirs is None:
        side = "student" if ours is None else "teacher"
        raise ValueError(
            f"{loss} needs {field} of both sides and the {side} returns none; choose a {side} "
            f"that fills in {field} of its output"
        )
    return ours, theirs


def check_features(
    student: Tensor, teacher: Tensor, dims: tuple[int, ...] = (2,), same_width: bool = False
) -> tuple[Tensor, Tensor]:
    """Check both; return them in the student's precision, at least float32, the teacher's detached.

    `dims` are the numbers of dimensions that the loss can read. The batches are equal; the widths
    D may differ unless `same_width`.
    """
    expected = " or ".join(_SHAPES[n] for n in dims)
    for name, features in (("student_features", student), ("teacher_features", teacher)):
        check_tensor(name, features)
        if not features.is_floating_point():
            raise ValueError(f"{name} must be floating point, got {features.dtype}")
        if features.ndim not in dims or 0 in features.shape[1:]:
            raise ValueError(
                f"{name} have shape {tuple(features.shape)} but {expected} is expected; pool or "
                "flatten what is more, and add a dimension where one is missing"
            )
    shapes = f"student_features have shape {tuple(student.shape)} and teacher_features"
    if student.ndim != teacher.ndim or student.shape[0] != teacher.shape[0]:
        raise ValueError(
            f"{shapes} {tuple(teacher.shape)}; both must be {expected} of the same B samples"
        )
    if same_width and student.shape[-1] != teacher.shape[-1]:
        raise ValueError(
            f"{shapes} {tuple(teacher.shape)}; their widths must agree: project the student's "
            f"first, or make the module with student_width={student.shape[-1]} and "
            f"teacher_width={teacher.shape[-1]}"
        )
    student = student.float() if student.dtype in (torch.float16, torch.bfloat16) else student
    return student, settled(teacher).to(student.dtype)


def check_mask(mask: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Refuse a mask that is not bool of `shape`; return it fit for backward."""
    check_tensor("mask", mask)
    if mask.dtype != torch.bool:
        raise ValueError(f"mask must be bool with True where a position counts, got {mask.dtype}")
    if tuple(mask.shape) != shape:
        raise ValueError(
            f"mask has shape {tuple(mask.shape)} but the features ask for {shape}: one word per "
            "position of each sample"
        )
    return settled(mask)


def check_enough(features: Tensor, least: int, loss: str, reason: str) -> None:
    """Refuse a batch so small that a loss on relations could only say 0."""
    if features.shape[0] < least:
        raise ValueError(
            f"{loss} needs at least {least} samples at once and got {features.shape[0]}: {reason}; "
            "leave out the short last batch of an epoch (drop_last=True), or choose a batch size "
            "that leaves no such rest"
        )


def make_projection(student_width: int | None, teacher_width: int | None) -> nn.Linear | None:
    """A layer from the student's width to the teacher's; None where no width is given.

    Made at once and never lazily: an optimizer must find its weights before the first batch.
    """
    if student_width is None and teacher_width is None:
        return None
    if student_width is None or teacher_width is None:
        raise ValueError(
            f"student_width is {student_width} and teacher_width is {teacher_width}; give both for "
            "a learned projection, or neither where the widths agree"
        )
    if student_width < 1 or teacher_width < 1:
        raise ValueError(
            f"widths must be at least 1, got student_width={student_width} and "
            f"teacher_width={teacher_width}"
        )
    return nn.Linear(student_width, teacher_width)


def project(projection: nn.Linear | None, features: Tensor, teacher: Tensor) -> Tensor:
    """Bring the student's features to the width of the teacher's."""
    check_tensor("student_features", features)
    check_tensor("teacher_features", teacher)
    if projection is None:
        return features
    made = projection.in_features, projection.out_features
    found = features.shape[-1:], teacher.shape[-1:]
    for name, width, (own,) in zip(("student", "teacher"), made, found, strict=True):
        if own != width:
            raise ValueError(
                f"{name}_features have width {own} but the projection was made with "
                f"{name}_width={width}; make the module with {name}_width={own}"
            )
    projected: Tensor = projection(features.to(projection.weight.dtype))
    return projected


def without_autocast(features: Tensor) -> AbstractContextManager[Any]:
    """Matrix products in the features' own precision, whatever autocast would make of them."""
    return torch.autocast(features.device.type, enabled=False)


def unit(vectors: Tensor) -> Tensor:
    """Vectors along the last dimension brought to length 1; 0 stays 0, and its gradient finite.

    Divided by the largest number first, so that no square can overflow or vanish. The result does
    not depend on a vector's length: the divisor needs no gradient.
    """
    largest = vectors.detach().abs().amax(-1, keepdim=True)
    vectors = vectors / torch.where(largest > 0, largest, 1.0)
    square = vectors.square().sum(-1, keepdim=True)
    return vectors * torch.where(square > 0, square, 1.0).rsqrt()


def cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """1 − cos along the last dimension, as ½ |a/|a| − b/|b||²: exactly 0 for a = b.

    Where one of the two is 0 and has no direction it is ½, where both are, 0.
    """
    return 0.5 * (unit(a) - unit(b)).square().sum(-1)


def rows_of_all_ranks(
    student: Tensor, teacher: Tensor, weight: Tensor | None, gather: bool
) -> tuple[Tensor, Tensor, Tensor | None, slice]:
    """The whole batch of a distributed step, and which of its rows are this rank's own.

    The student's rows keep their gradient, which comes back summed over ranks. A rank that
    averages over its own rows and a DDP that averages over ranks then make the whole batch's
    gradient. Ranks may hold different numbers of rows. All must call, forward and backward.
    """
    if not gather or not _is_distributed():
        return student, teacher, weight, slice(None)
    here = torch.tensor([student.shape[0]], device=student.device)
    parts = [torch.empty_like(here) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, here)
    sizes = torch.cat(parts).tolist()
    start = sum(sizes[: distributed.get_rank()])
    everyone: Tensor = _AllRows.apply(student, sizes)  # type: ignore[no-untyped-call]
    weights = None if weight is None else _all_rows(weight, sizes)
    return everyone, _all_rows(teacher, sizes), weights, slice(start, start + student.shape[0])


class _AllRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        return _all_rows(rows, sizes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        total = upstream.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        rank = distributed.get_rank()
        start = sum(ctx.sizes[:rank])
        return total[start : start + ctx.sizes[rank]], None


def _all_rows(rows: Tensor, sizes: list[int]) -> Tensor:
    padded = rows.new_zeros(max(sizes), *rows.shape[1:])
    padded[: len(rows)] = rows.detach()
    parts = [torch.empty_like(padded) for _ in sizes]
    distributed.all_gather(parts, padded)
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


def _is_distributed() -> bool:
    if not distributed.is_available() or not distributed.is_initialized():
        return False
    return distributed.get_world_size() > 1


def shares(weight: Tensor | None, features: Tensor) -> Tensor:
    """(B,) weights of the samples as shares of 1; a sample of weight 2 is as good as two."""
    if weight is None:
        return features.new_full((features.shape[0],), 1 / features.shape[0])
    total = weight.sum()
    return weight / torch.where(total > 0, total, 1.0)
