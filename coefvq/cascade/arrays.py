"""What every part of the cascade takes: logits, labels and weights as checked float64 arrays.

All of the cascade computes in NumPy, element by element and with sums in a fixed order, so that a
clip's route is the same to the bit in a batch of one and of a thousand. Matrix products and some
vectorised sigmoids don't keep that promise: they treat the last elements of a batch differently.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Task = Literal["binary", "multiclass", "multilabel"]
"""What logits mean: (N,), (N, C) or (N, L). A regression has no uncertainty to route by."""

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Whole = NDArray[np.int64]

Values = Any
"""A NumPy array, a torch tensor on any device and of any dtype, or nested lists of numbers."""


def check_task(task: str) -> None:
    """Refuse a task that has no gate.

    Raises:
        ValueError: not binary, multiclass or multilabel.
    """
    if task not in get_args(Task):
        raise ValueError(
            f"a cascade routes {', '.join(get_args(Task))} tasks, got {task!r}"
            + ("; a regression has no probability to be unsure of" if task == "regression" else "")
        )


def as_array(values: Values, what: str) -> Array:
    """Return float64 values in one piece of memory.

    Raises:
        ValueError: something that isn't numbers.
    """
    if hasattr(values, "detach"):  # a torch tensor, without importing torch
        values = values.detach().cpu().double().numpy()
    try:
        return np.ascontiguousarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"{what} must be numbers in an array, a tensor or lists of equal length, got "
            f"{type(values).__name__}"
        ) from None


def check_logits(
    logits: Values, task: str, *, what: str = "logits", outputs: int | None = None
) -> Array:
    """Return float64 logits of the task's shape.

    Args:
        logits: (N,) binary, (N, C) multiclass, (N, L) multilabel. −inf masks a class; a yes/no
            logit may be infinite on either side.
        task: what they mean.
        what: the word for them in an error.
        outputs: C or L that is expected; None: any.

    Raises:
        ValueError: another shape, a NaN, or a multiclass row without a possible class.
    """
    check_task(task)
    z = as_array(logits, what)
    wide = task != "binary"
    if (
        z.ndim != 1 + wide
        or (task == "multiclass" and z.shape[1] < 2)
        or (task == "multilabel" and z.shape[1] < 1)
        or (wide and outputs is not None and z.shape[1] != outputs)
    ):
        width = outputs if outputs is not None else {"multiclass": "C", "multilabel": "L"}.get(task)
        raise ValueError(
            f"{what} of shape {z.shape} do not fit a {task} task, which expects "
            f"{f'(N, {width})' if wide else '(N,)'}; give one row per clip"
        )
    bad = np.isnan(z)
    if task == "multiclass":
        bad = bad | (z == np.inf) | (z == -np.inf).all(axis=1, keepdims=True)
    rows = np.flatnonzero(bad.any(axis=1) if wide else bad)
    if len(rows):
        raise ValueError(
            f"{what} of {len(rows)} of {len(z)} clips are NaN or leave no class possible (first at "
            f"row {rows[0]}); look at the inputs of that clip"
        )
    return z


def check_labels(labels: Values, logits: Array, task: str) -> Whole:
    """Return int64 labels that fit the logits.

    Args:
        labels: (N,) class indices, or 0 and 1; (N, L) of 0 and 1 for multilabel.
        logits: what they belong to; only the shape is read.
        task: what they mean.

    Raises:
        ValueError: missing, another shape, or values that are no class.
    """
    if labels is None:
        raise ValueError(
            "labels are missing; this needs them, while a budget with calibrator='none' and a "
            "decision threshold given as a number does not"
        )
    found = as_array(labels, "labels")
    expected = logits.shape if task == "multilabel" else logits.shape[:1]
    if found.shape != expected:
        raise ValueError(
            f"labels of shape {found.shape} do not fit logits of shape {logits.shape} of a {task} "
            f"task; expected {expected}"
        )
    top = logits.shape[1] - 1 if task == "multiclass" else 1
    good = (found >= 0) & (found <= top) & (found == np.round(found))
    if not good.all():
        row = int(np.argwhere(~good)[0, 0])
        raise ValueError(
            f"label {found[row].tolist()} at row {row} does not fit a {task} task, which expects "
            f"whole numbers from 0 to {top}; correct it, or mask the row with label_mask"
        )
    return found.astype(np.int64)


def check_weight(sample_weight: Values | None, n: int) -> Array:
    """Return (N,) weights, ones for None.

    Raises:
        ValueError: another length, negative or not finite, or all 0.
    """
    if sample_weight is None:
        return np.ones(n)
    weight = as_array(sample_weight, "sample_weight")
    if weight.shape != (n,) or not np.isfinite(weight).all() or (weight < 0).any():
        raise ValueError(
            f"sample_weight must be ({n},) finite numbers of at least 0, one per clip, got shape "
            f"{weight.shape}"
        )
    if n and not weight.sum() > 0:
        raise ValueError("sample_weight is 0 everywhere, so that no clip counts")
    return weight


def share_of(routes: Flags, sample_weight: Values | None = None) -> float:
    """Share of the traffic that is deferred, in [0, 1]; (N,) weights, None: all count alike."""
    if sample_weight is None:
        return float(routes.mean())
    weight = check_weight(sample_weight, len(routes))
    return min(1.0, float((weight * routes).sum() / weight.sum()))


def check_column(values: Values, what: str, n: int | None = None) -> Array:
    """Return (N,) numbers without NaN.

    Raises:
        ValueError: another shape or length, or a NaN.
    """
    column = as_array(values, what)
    if column.ndim != 1 or (n is not None and len(column) != n):
        expected = "(N,)" if n is None else f"({n},)"
        raise ValueError(f"{what} must have shape {expected}, one per clip, got {column.shape}")
    if np.isnan(column).any():
        raise ValueError(
            f"{what} is NaN at row {int(np.flatnonzero(np.isnan(column))[0])}; expected numbers"
        )
    return column


def check_flags(values: Values, what: str, n: int) -> Flags:
    """Return (N,) bool.

    Raises:
        ValueError: another length, or values other than true and false (1 and 0).
    """
    column = check_column(values, what, n)
    if not np.isin(column, (0.0, 1.0)).all():
        raise ValueError(f"{what} must hold true and false, one per clip, got other numbers")
    return column.astype(np.bool_)


def check_share(name: str, value: float, *, ends: bool) -> None:
    """Refuse what is no share.

    Args:
        name: of the option.
        value: what was given.
        ends: whether 0 and 1 themselves are allowed.

    Raises:
        ValueError: outside [0, 1], or (0, 1).
    """
    good = isinstance(value, int | float) and (0 <= value <= 1 if ends else 0 < value < 1)
    if not good:
        raise ValueError(
            f"{name} must be a share {'from 0 to 1' if ends else 'between 0 and 1'}, got {value!r}"
            + (f"; for {value:g} % write {value / 100:g}" if _percent(value) else "")
        )


def _percent(value: object) -> bool:
    return isinstance(value, int | float) and 1 < value <= 100


def sigmoid(z: Array) -> Array:
    """1 / (1 + e^−z), element by element, without overflow."""
    small = np.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, small) / (1.0 + small)


def softmax(z: Array) -> Array:
    """(N, C) probabilities; −inf gives 0. Sums run from the first class to the last."""
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return np.asarray(e / total(e)[..., None])


def probabilities(z: Array, task: str) -> Array:
    """Probabilities of the same shape as the logits."""
    return softmax(z) if task == "multiclass" else sigmoid(z)


def log_odds(p: Array | float) -> Array:
    """log(p / (1 − p)); −inf at 0 and +inf at 1."""
    p = np.asarray(p, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(p) - np.log1p(-p))


def mean_of(members: Sequence[Array]) -> Array:
    """Mean over models, added one after the other; one model's values stay as they are."""
    added = members[0]
    for values in members[1:]:
        added = added + values
    return np.asarray(added / len(members))


def total(values: Array) -> Array:
    """Sum over the last axis, one after the other: the same whatever stands in other rows."""
    return np.asarray(np.cumsum(values, axis=-1)[..., -1])
