"""Flat options, as a config gives them, to the arguments of several owners."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
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


__all__ = ["share_out"]
