"""Options as a config gives them: shared out to their owners, checked before anything is read."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def share_out(options: Mapping[str, Any], *owners: Callable[..., Any]) -> list[dict[str, Any]]:
    """Give each owner the options that it has a parameter for.

    Args:
        options: values by name.
        owners: classes or functions; an option that several of them know goes to each of them.

    Returns:
        One dictionary of keyword arguments per owner.

    Raises:
        ValueError: nobody knows an option.

    >>> def cook(salt): ...
    >>> def serve(plate, wine): ...
    >>> share_out({"salt": 1, "wine": "red"}, cook, serve)
    [{'salt': 1}, {'wine': 'red'}]
    """
    known = [set(inspect.signature(owner).parameters) for owner in owners]
    if strangers := [name for name in options if not any(name in names for names in known)]:
        raise ValueError(
            f"data options {', '.join(strangers)} are unknown; there are "
            f"{', '.join(sorted(set().union(*known)))}"
        )
    return [{name: options[name] for name in options if name in names} for names in known]


def one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    """Refuse a word that is not allowed.

    Raises:
        ValueError: it is not.
    """
    if value not in allowed:
        raise ValueError(f"{name} {value!r} is unknown; choose one of {', '.join(allowed)}")


def at_least_one(**numbers: Any) -> None:
    """Refuse what is no whole number from 1; None stands for a default.

    Raises:
        ValueError: naming the first that is not.

    >>> at_least_one(batch_size=8, eval_batch_size=None)
    """
    for name, value in numbers.items():
        if value is not None and (type(value) is not int or value < 1):
            raise ValueError(f"data.{name} must be a whole number of at least 1, got {value!r}")


def fractions(**shares: Any) -> dict[str, float]:
    """Give shares back as they are, if they are numbers from 0 to below 1.

    Raises:
        ValueError: naming the first that is not.

    >>> fractions(val=0.1, test=0.2)
    {'val': 0.1, 'test': 0.2}
    """
    for name, value in shares.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value < 1:
            raise ValueError(f"data.{name}_fraction must be a number in [0, 1), got {value!r}")
    return shares


__all__ = ["at_least_one", "fractions", "one_of", "share_out"]
