"""Checks of numbers that `_contract` has no words for."""

from __future__ import annotations

import math

from coefvq.losses._arguments import check_number


def check_not_negative(name: str, value: float) -> None:
    """Refuse anything but a finite number from 0."""
    check_number(name, value, "a finite number from 0")
    if not 0.0 <= value < math.inf:
        raise ValueError(f"{name} must be a finite number from 0, got {value}")
