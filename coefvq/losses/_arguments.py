"""What kind of thing an argument is: tensors, numbers, and tensors that backward may keep."""

from __future__ import annotations

import math
import numbers
from typing import TypeVar

import torch
from torch import Tensor, nn

_Maybe = TypeVar("_Maybe", Tensor, Tensor | None)


def check_tensor(name: str, value: object) -> None:
    """Refuse anything but a tensor, and say what would make it one."""
    if isinstance(value, Tensor):
        return
    advice = "convert it with torch.as_tensor"
    if value is None:
        advice = "pass what the model returned"
    elif isinstance(value, nn.Module):
        advice = "pass its weight, such as head.weight" if hasattr(value, "weight") else "call it"
    elif isinstance(value, (list, tuple)) and value and isinstance(value[0], Tensor):
        advice = "join its tensors with torch.stack"
    raise ValueError(f"{name} must be a tensor, got {type(value).__name__}; {advice}")


def check_number(name: str, value: object, expected: str = "a number") -> None:
    """Refuse anything but one number; a tensor without dimensions, and without gradient, is one."""
    if isinstance(value, (int, float)):
        return
    if isinstance(value, Tensor):
        if value.ndim != 0:
            raise ValueError(
                f"{name} must be {expected}, got a tensor of shape {tuple(value.shape)}"
            )
        if value.requires_grad:
            raise ValueError(
                f"{name} is a tensor that requires a gradient but none flows to it here; pass "
                f"{name}.item()"
            )
    elif not isinstance(value, numbers.Real):
        raise ValueError(f"{name} must be {expected}, got {value!r}")


def check_between(name: str, value: float, least: float, most: float, expected: str) -> None:
    """Refuse anything but a number from `least` to `most`, both included; NaN is none."""
    check_number(name, value, expected)
    if not least <= value <= most:
        raise ValueError(f"{name} must be {expected}, got {value}")


def check_positive(name: str, value: float, otherwise: str = "") -> None:
    """Refuse anything but a finite number above 0."""
    check_number(name, value, "a finite number above 0")
    if not 0.0 < value < math.inf:
        raise ValueError(f"{name} must be a finite number above 0, got {value}{otherwise}")


def settled(tensor: _Maybe) -> _Maybe:
    """The tensor detached, and copied where it was made under `torch.inference_mode`.

    Autograd does not keep inference tensors for backward, and a teacher's output may be one. The
    copy is an ordinary tensor.
    """
    if tensor is None:
        return None
    tensor = tensor.detach()
    if torch.compiler.is_compiling() or torch.is_inference_mode_enabled():
        return tensor
    return tensor.clone() if tensor.is_inference() else tensor
