"""Label cells to numbers: what a cell may say under each task, and which classes there are."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
import statistics
from collections.abc import Sequence
from typing import Any

from coefvq.types import Clip, TaskKind, TaskSpec

NO_LABELS = "none"
"""What a multilabel cell says when no label applies; an empty cell means that nobody looked."""

_TRUE = {"true": 1, "false": 0}


class LabelError(ValueError):
    """A cell that is no label; the message is the remedy, the cell is named by the caller."""


def derive_classes(values: Sequence[Any], kind: TaskKind) -> tuple[str, ...]:
    """Name the classes that occur in the training labels, sorted.

    Args:
        values: label cells of the training split; None where unlabelled.
        kind: the task.

    Returns:
        Binary: `("0", "1")` as soon as one label is a number or true/false. Integer classes are
        sorted as numbers, others as text. Regression: empty.
    """
    if kind == "regression":
        return ()
    cells = [value for value in values if value is not None]
    if kind == "multilabel":
        cells = [name for value in cells for name in label_names(value)]
    tokens = {token for cell in cells if (token := _token(cell)) is not None}
    if kind == "binary" and (not tokens or any(_as_integer(t) is not None for t in tokens)):
        return ("0", "1")
    numbers = {_as_integer(token) for token in tokens}
    if None not in numbers:
        return tuple(str(n) for n in sorted(n for n in numbers if n is not None))
    return tuple(sorted(tokens))


def parse_label(
    value: Any, kind: TaskKind, classes: Sequence[str]
) -> float | int | tuple[int, ...]:
    """Turn one cell that is not empty into a label.

    Args:
        value: the cell; for multilabel a list of names, names joined by `|`, or `"none"`.
        kind: the task.
        classes: names of the classes, see `coefvq.types.TaskSpec`.

    Returns:
        float for binary and regression, int for multiclass, tuple of 0/1 for multilabel.

    Raises:
        LabelError: the cell is NaN or no label of this task.

    >>> parse_label("true", "binary", ("0", "1"))
    1.0
    >>> parse_label("cat|dog", "multilabel", ("bird", "cat", "dog"))
    (0, 1, 1)
    """
    if _is_nan(value):
        raise LabelError(
            "is not a number (NaN); leave the cell empty for an unlabelled training clip"
        )
    if kind == "regression":
        try:
            number = float(value)
        except (TypeError, ValueError):
            comma = isinstance(value, str) and re.fullmatch(r"\s*[-+]?\d+,\d+\s*", value)
            how = "with a point for its comma" if comma else "as a number"
            raise LabelError(f"is not a number; give the score {how}") from None
        if not math.isfinite(number):
            raise LabelError("is not finite; give the score as a finite number")
        return number
    if kind == "multilabel":
        found = {_index(name, classes) for name in label_names(value)}
        return tuple(int(index in found) for index in range(len(classes)))
    index = _index(value, classes)
    return float(index) if kind == "binary" else index


def label_names(value: Any) -> list[Any]:
    """Split a multilabel cell into names."""
    if isinstance(value, list | tuple):
        return list(value)
    names = [name.strip() for name in str(value).split("|") if name.strip()]
    return [] if names == [NO_LABELS] else names


def summarise_labels(clips: Sequence[Clip], task: TaskSpec) -> dict[str, Any]:
    """Count clips and labels, for a report.

    Returns:
        `clips`, `labelled`, and where there are labels: `classes` (counts by name) and for binary
        tasks `prevalence` (share of class 1 among the labelled), or for regression `mean`, `std`.
    """
    labels: list[Any] = [clip.label for clip in clips if clip.label is not None]
    summary: dict[str, Any] = {"clips": len(clips), "labelled": len(labels)}
    if not labels:
        return summary
    if task.kind == "regression":
        return {**summary, "mean": statistics.fmean(labels), "std": statistics.pstdev(labels)}
    if task.kind == "multilabel":
        counts = [sum(marks) for marks in zip(*labels, strict=True)]
    else:
        counts = [sum(label == index for label in labels) for index in range(len(task.classes))]
    summary["classes"] = dict(zip(task.classes, counts, strict=True))
    if task.kind == "binary":
        summary["prevalence"] = counts[1] / len(labels)
    return summary


def unseen_classes(train: Sequence[Clip], task: TaskSpec) -> str | None:
    """Say which classes no labelled training clip has; None where each has one.

    Of a multilabel task, a label that applies to every clip is as unlearnable as one to none.
    """
    if task.kind == "regression":
        return None
    summary = summarise_labels(train, task)
    counts, labelled = summary.get("classes", {}), summary["labelled"]
    unlearnable = [name for name, count in counts.items() if count == 0]
    if task.kind == "multilabel":
        unlearnable += [name for name, count in counts.items() if count == labelled]
    if not unlearnable:
        return None
    found = ", ".join(f"{name} ({count})" for name, count in counts.items())
    return (
        f"of the {labelled} labelled training clips each class has: {found}; nothing can be "
        f"learned about {', '.join(unlearnable)}, so check the labels and the splits"
    )


def _index(value: Any, classes: Sequence[str]) -> int:
    token = _token(value)
    if token in classes:
        return classes.index(token)
    number = _as_integer(token) if token is not None else None
    if number is not None:
        if str(number) in classes:
            return classes.index(str(number))
        # Numbers may stand for named classes: 0 is the first name.
        named = not any(_as_integer(name) is not None for name in classes)
        if named and 0 <= number < len(classes):
            return number
    raise LabelError(
        f"is outside the classes {', '.join(classes)}; correct it, or name it in data.classes"
    )


def _token(value: Any) -> str | None:
    """The text of a class; 1, 1.0, "1" and true are one class. None for NaN."""
    if _is_nan(value):
        return None
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _as_integer(token: str) -> int | None:
    if token.lower() in _TRUE:
        return _TRUE[token.lower()]
    try:
        number = float(token)
    except ValueError:
        return None
    return int(number) if math.isfinite(number) and number.is_integer() else None


def _is_nan(value: Any) -> bool:
    if isinstance(value, float):
        return math.isnan(value)
    return isinstance(value, str) and value.strip().lower() == "nan"


def check_share(share: float) -> None:
    """Refuse a share of labels that is not in (0, 1]."""
    if isinstance(share, bool) or not 0.0 < share <= 1.0:
        raise ValueError(
            f"student_labels={share} is no share of the labels; give a number above 0, at most 1"
        )


def hide_labels(clips: Sequence[Clip], share: float, *, drop: bool = False) -> list[Clip]:
    """Leave a share of the labelled clips their label, and at least one; hide the others'.

    Which, follows from the clips' ids alone: what a smaller share leaves, a larger one leaves, too.

    Args:
        clips: some of them labelled.
        share: in (0, 1].
        drop: leave out clips without a label.
    """
    labelled = [clip.id for clip in clips if clip.label is not None]
    labelled.sort(key=lambda name: hashlib.blake2b(f"label {name}".encode()).digest())
    shown = set(labelled[: max(1, round(share * len(labelled)))])
    return [
        clip if clip.id in shown else dataclasses.replace(clip, label=None, label_std=None)
        for clip in clips
        if clip.id in shown or not drop
    ]


__all__ = [
    "NO_LABELS",
    "LabelError",
    "check_share",
    "derive_classes",
    "hide_labels",
    "label_names",
    "parse_label",
    "summarise_labels",
    "unseen_classes",
]
