"""The contract that every loss keeps: what it accepts, and how it reduces.

Shapes and dtypes are always checked. The *values* of labels and weights are checked only on CPU
tensors outside `torch.compile`, because reading them would make a GPU wait for the host.

What is not checked is the logits' values. NaN in a row of logits, +inf, or a row of a softmax that
masks every class by −inf, gives NaN for that row, in "none", and for the whole mean or sum: it is
never replaced by a number, so that a loop that looks at its loss finds out. Rows of weight 0 are no
exception, except where a loss says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal, TypeVar, get_args

import torch
from torch import Tensor

from coefvq.losses._arguments import check_between, check_positive, check_tensor, settled

Task = Literal["binary", "multiclass", "multilabel", "regression"]
"""What logits mean: (B,), (B, C), (B, L), (B,)."""

Reduction = Literal["none", "mean", "sum"]
"""Over samples, never over classes."""

CLASS_TASKS: Final[tuple[Task, ...]] = ("binary", "multiclass", "multilabel")

IMPOSSIBLE: Final = 1e30
"""Nats charged for what a mask of −inf logits made impossible: finite, so that weight 0 gives 0."""

_SHAPES: Final = {
    "binary": "(B,)",
    "multiclass": "(B, C)",
    "multilabel": "(B, L)",
    "regression": "(B,)",
}

_T = TypeVar("_T")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Refuse a word that is not among `choices`."""
    if value not in choices:
        raise ValueError(f"{name} {value!r} is unknown; choose one of {', '.join(choices)}")


def check_task(task: str, allowed: tuple[Task, ...] = CLASS_TASKS) -> None:
    """Refuse unknown tasks, and tasks that have no class probabilities where those are needed."""
    check_choice("task", task, get_args(Task))
    if task not in allowed:
        raise ValueError(
            f"task {task!r} has no class probabilities to compare; "
            f"choose one of {', '.join(allowed)}"
        )


def check_reduction(reduction: str) -> None:
    """Refuse anything but none, mean and sum."""
    check_choice("reduction", reduction, get_args(Reduction))


def check_unit(name: str, value: float) -> None:
    """Refuse a number outside [0, 1]."""
    check_between(name, value, 0.0, 1.0, "a number in [0, 1]")


def check_temperature(temperature: float) -> None:
    """Refuse a temperature that is not a positive finite number."""
    check_positive("temperature", temperature)


def check_logits(logits: Tensor, task: str, name: str = "student_logits") -> Tensor:
    """Check shape and dtype; return the logits in float32, or float64 if they came so."""
    check_tensor(name, logits)
    shape = tuple(logits.shape)
    if not logits.is_floating_point():
        raise ValueError(
            f"{name} must be floating point, got {logits.dtype}; pass the scores before argmax"
        )
    if len(shape) != (2 if task in ("multiclass", "multilabel") else 1):
        hint = "; squeeze the last dimension" if shape[1:] == (1,) else ""
        raise ValueError(
            f"{name} have shape {shape} but task {task!r} expects {_SHAPES[task]}{hint}"
        )
    if task == "multiclass" and shape[1] < 2:
        raise ValueError(
            f"{name} have shape {shape} but task 'multiclass' needs at least two classes; "
            "use task 'binary' with logits of shape (B,)"
        )
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def check_pair(student_logits: Tensor, teacher_logits: Tensor, task: str) -> tuple[Tensor, Tensor]:
    """Check both logits; return them in the student's precision, the teacher's detached."""
    check_tensor("student_logits", student_logits)
    check_tensor("teacher_logits", teacher_logits)
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student_logits have shape {tuple(student_logits.shape)} and teacher_logits "
            f"{tuple(teacher_logits.shape)}; task {task!r} expects both to be {_SHAPES[task]}"
        )
    student = check_logits(student_logits, task, "student_logits")
    teacher = check_logits(teacher_logits, task, "teacher_logits")
    return student, settled(teacher).to(student.dtype)


def check_labels(
    labels: Tensor | None, label_mask: Tensor | None, logits: Tensor, task: str
) -> tuple[Tensor, Tensor | None]:
    """Check labels; return them safe to compute with, and the mask (None: all count).

    Where `label_mask` is False the label is replaced by 0 before anything reads it. `labels=None`
    means that no sample is labelled.
    """
    batch = logits.shape[0]
    if label_mask is not None:
        check_tensor("label_mask", label_mask)
        label_mask = settled(label_mask)
        if label_mask.dtype != torch.bool:
            raise ValueError(
                f"label_mask must be bool with True where a label counts, got {label_mask.dtype}"
            )
        each = label_mask.ndim == 2 and label_mask.shape == logits.shape
        hint = "; labels are missing sample by sample, not one label of a sample" if each else ""
        _check_shape("label_mask", label_mask, (batch,), hint)
    if labels is None:
        if label_mask is not None and readable(label_mask) and bool(label_mask.any()):
            raise ValueError(
                f"labels is None but label_mask marks {int(label_mask.sum())} of {batch} samples "
                "as labelled; pass the labels or a mask that is False everywhere"
            )
        dtype = torch.long if task == "multiclass" else logits.dtype
        shape = (batch,) if task == "multiclass" else logits.shape
        nothing = torch.zeros(batch, dtype=torch.bool, device=logits.device)
        return torch.zeros(shape, dtype=dtype, device=logits.device), nothing
    check_tensor("labels", labels)
    labels = settled(labels)
    _check_shape("labels", labels, (batch,) if task == "multiclass" else tuple(logits.shape))
    if task == "multiclass" and labels.is_floating_point():
        raise ValueError(f"multiclass labels must be integer class indices, got {labels.dtype}")
    if label_mask is not None:
        counts = label_mask if labels.ndim == 1 else label_mask[:, None]
        labels = torch.where(counts, labels, labels.new_zeros(()))
    if readable(labels):
        _check_values(labels, logits, task)
    return (labels.long() if task == "multiclass" else labels.to(logits.dtype)), label_mask


def check_weight(sample_weight: Tensor | None, logits: Tensor) -> Tensor | None:
    """Check sample weights: (B,), finite, not negative; return them in the logits' dtype."""
    if sample_weight is None:
        return None
    check_tensor("sample_weight", sample_weight)
    _check_shape("sample_weight", sample_weight, (logits.shape[0],))
    if readable(sample_weight):
        bad = ~(sample_weight >= 0) | sample_weight.isinf()
        if bool(bad.any()):
            row = int(bad.nonzero()[0])
            raise ValueError(
                f"sample_weight must be finite and not negative, got {sample_weight[row].item()} "
                f"in row {row}"
            )
    return settled(sample_weight).to(logits.dtype)


def need_teacher(teacher: _T | None, loss: str) -> _T:
    """Return the teacher's output, or say that there is none."""
    if teacher is None:
        raise ValueError(
            f"{loss} needs a teacher's logits but the run has no teacher; configure one"
        )
    return teacher


def readable(tensor: Tensor) -> bool:
    """Whether values can be looked at without making a GPU wait or breaking a graph."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def per_sample(elements: Tensor) -> Tensor:
    """(B,) from (B,), or from (B, L) by the mean over labels."""
    # Not mean(-1), whose gradient is a pass over everything.
    return elements.sum(-1) / elements.shape[-1] if elements.ndim == 2 else elements


def log_classes(logits: Tensor) -> Tensor:
    """Log of the number of classes (B, C) that are not masked by −inf; () where none can be."""
    if readable(logits) and logits.numel() > 0 and bool(logits.detach().amin() > -torch.inf):
        return logits.new_tensor(math.log(logits.shape[-1]))
    return (logits > -torch.inf).sum(-1).to(logits.dtype).log()


def reduce(
    values: Tensor, reduction: str, sample_weight: Tensor | None = None, mask: Tensor | None = None
) -> Tensor:
    """Reduce (B,) values over samples.

    The mean divides by what was really summed over: the weights of the samples in `mask`, or
    their number where there are no weights. An empty mean is 0.
    """
    if mask is not None:
        values = torch.where(mask, values, 0.0)
    if sample_weight is not None:
        values = values * sample_weight
    if reduction == "none":
        return values
    if reduction == "sum":
        return values.sum()
    if mask is None and sample_weight is None:
        return values.sum() / max(values.shape[0], 1)
    counted = torch.ones_like(values) if sample_weight is None else sample_weight
    if mask is not None:
        counted = torch.where(mask, counted, 0.0)
    total = counted.sum()
    return values.sum() / torch.where(total > 0, total, 1.0)


def _check_shape(name: str, tensor: Tensor, expected: tuple[int, ...], hint: str = "") -> None:
    if tuple(tensor.shape) != expected:
        verb, asking = ("have", "logits ask") if name == "labels" else ("has", "samples ask")
        raise ValueError(
            f"{name} {verb} shape {tuple(tensor.shape)} but the {asking} for {expected}{hint}"
        )


def _check_values(labels: Tensor, logits: Tensor, task: str) -> None:
    if task != "regression" and labels.numel() > 0:
        last = logits.shape[1] - 1 if task == "multiclass" else 1
        low, high = labels.aminmax()  # NaN if there is one; a sixth of what the masks below cost
        if bool(low >= 0) and bool(high <= last):
            return
    if task == "multiclass":
        bad = (labels < 0) | (labels >= logits.shape[1])
        expected = f"a class index from 0 to {logits.shape[1] - 1} (C = {logits.shape[1]})"
    elif task == "regression":
        bad = ~labels.isfinite()
        expected = "a finite number"
    else:
        bad = ~((labels >= 0) & (labels <= 1))  # also true for NaN
        expected = "a number in [0, 1]"
    if bool(bad.any()):
        where = bad.nonzero()[0]
        value = labels[tuple(where)].item()
        raise ValueError(
            f"label {value} in row {int(where[0])} is not {expected} as task {task!r} expects; "
            "correct it, or mark the sample as unlabelled in label_mask"
            + (", which leaves out all its labels" if task == "multilabel" else "")
        )
