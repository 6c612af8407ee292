"""Answer a deferred clip from both models' scores instead of the heavy one's alone.

`coefvq.cascade.fit_stack` fits the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from coefvq.cascade.arrays import Array

LARGEST = 1e4
"""Logits beyond it are cut before they are weighed, so that no infinity meets another."""


@dataclass(frozen=True)
class Stack:
    """light · z_light + heavy · z_heavy + bias, per column.

    Args:
        light: weight of the light logits; one, or one per label.
        heavy: weight of the heavy logits, likewise.
        bias: one, or one per label or class.
    """

    light: tuple[float, ...]
    heavy: tuple[float, ...]
    bias: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("light", "heavy", "bias"):
            values = tuple(float(v) for v in getattr(self, name))
            object.__setattr__(self, name, values)
            if not values or not np.isfinite(values).all():
                raise ValueError(f"a stack's {name} holds finite numbers, got {list(values)}")

    def __call__(self, light_logits: Array, heavy_logits: Array) -> Array:
        """Final logits from calibrated ones, shape unchanged; −inf in either masks a class."""
        light = np.clip(light_logits, -LARGEST, LARGEST)
        heavy = np.clip(heavy_logits, -LARGEST, LARGEST)
        made = _row(self.light) * light + _row(self.heavy) * heavy + _row(self.bias)
        if made.ndim == 2:
            made = np.where((light_logits == -np.inf) | (heavy_logits == -np.inf), -np.inf, made)
        return np.asarray(made)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` is the way back, to the bit."""
        return {"light": [*self.light], "heavy": [*self.heavy], "bias": [*self.bias]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make it from what `to_dict` gave."""
        return cls(**values)


def _row(values: tuple[float, ...]) -> Any:
    return values[0] if len(values) == 1 else np.array(values)
