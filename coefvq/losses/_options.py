"""The numbers among a loss's options, by dotted name: what a schedule reads, checks and sets."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import nn


def numbers_of(loss: nn.Module) -> dict[str, float]:
    """Numbers among the attributes, and inside dataclasses such as a `Confidence`.

    >>> from coefvq.losses import LogitKDLoss
    >>> numbers_of(LogitKDLoss(task="binary", temperature=2.0))
    {'temperature': 2.0, 'beta': 0.5}
    """
    return _numbers(vars(_inner(loss)))


def set_number(loss: nn.Module, name: str, value: float) -> None:
    """Assign a number of `numbers_of`; a frozen dataclass that holds it is replaced."""
    loss = _inner(loss)
    first, *rest = name.split(".")
    setattr(loss, first, _changed(getattr(loss, first), rest, value))


def check_number(loss: nn.Module, name: str, value: float) -> None:
    """Let the loss itself judge a value: make another one from its own options and the value.

    A loss whose constructor cannot be called with the attributes of the same names is not judged
    here; what it refuses in `forward`, it still refuses there.

    Raises:
        ValueError: what the loss has to say about the value.
    """
    loss = _inner(loss)
    first, *rest = name.split(".")
    changed = _changed(getattr(loss, first), rest, value)
    wanted = inspect.signature(type(loss)).parameters
    if first not in wanted or not all(hasattr(loss, option) for option in wanted):
        return
    options = {option: getattr(loss, option) for option in wanted}
    with torch.random.fork_rng(devices=[]):  # a projection draws its weights
        try:
            type(loss)(**options)
        except Exception:  # whatever it is, it is not about the value
            return
        type(loss)(**(options | {first: changed}))


def _inner(loss: nn.Module) -> nn.Module:
    """The loss inside a wrapper such as `InPoints`, which has no options of its own."""
    inner = getattr(loss, "loss", None)
    return _inner(inner) if isinstance(inner, nn.Module) else loss


def _numbers(options: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in options.items():
        if name.startswith("_") or isinstance(value, bool):
            continue
        if isinstance(value, (int, float)):
            found[prefix + name] = float(value)
        elif is_dataclass(value) and not isinstance(value, type):
            inner = {field.name: getattr(value, field.name) for field in fields(value)}
            found |= _numbers(inner, f"{prefix}{name}.")
    return found


def _changed(thing: Any, names: Sequence[str], value: float) -> Any:
    """The value itself, or a dataclass like `thing` that holds it further down."""
    if not names:
        return value
    inner = _changed(getattr(thing, names[0]), names[1:], value)
    return replace(thing, **{names[0]: inner})
