"""Numbers in a config."""

from __future__ import annotations


def is_number(value: object, low: float, high: float) -> bool:
    """Whether it is a number of that range; true and false, and NaN, are none.

    >>> is_number(0.5, 0, 1), is_number(True, 0, 1), is_number(float("nan"), 0, 1)
    (True, False, False)
    """
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    return good and low <= float(value) <= high  # type: ignore[arg-type]


__all__ = ["is_number"]
