"""What a cascade costs: everything passes the light model, the deferred share the heavy one too."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from coefvq.cascade.arrays import check_share


@dataclass(frozen=True)
class Cost:
    """Measured seconds per clip of one kind of machine (say which in `unit`).

    Args:
        light_seconds: of the light model, without decoding.
        heavy_seconds: of the heavy model, without decoding.
        decode_seconds: of reading and decoding a clip once; both models share it.
        heavy_decode_seconds: of decoding a deferred clip once more where the heavy model reads it
            another way (more frames, sound); 0: both models share what was decoded.
        unit: what the seconds are of, for instance `"GPU-seconds"`.
    """

    light_seconds: float
    heavy_seconds: float
    decode_seconds: float = 0.0
    heavy_decode_seconds: float = 0.0
    unit: str = "seconds"

    def __post_init__(self) -> None:
        for name in ("light_seconds", "heavy_seconds", "decode_seconds", "heavy_decode_seconds"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be a finite number of at least 0, got {value!r}")

    @property
    def first(self) -> float:
        """Seconds that every clip costs: decoding and the light model."""
        return self.decode_seconds + self.light_seconds

    @property
    def second(self) -> float:
        """Seconds that a deferred clip costs on top."""
        return self.heavy_decode_seconds + self.heavy_seconds

    def per_clip(self, deferred: float) -> float:
        """Mean seconds of a clip: decode + c1 + ρ·c2, rising with the deferred share ρ in [0, 1].

        Raises:
            ValueError: a share outside [0, 1].
        """
        check_share("deferred", deferred, ends=True)
        return self.first + deferred * self.second

    def per_1000(self, deferred: float) -> float:
        """Seconds per 1 000 clips.

        >>> Cost(0.01, 2.0, decode_seconds=0.04).per_1000(0.1)
        250.0
        """
        return 1000 * self.per_clip(deferred)

    @property
    def heavy_alone_per_1000(self) -> float:
        """Seconds per 1 000 clips without the light model: what the cascade is compared with.

        Alone, the heavy model decodes a clip once, its own way.
        """
        decode = self.heavy_decode_seconds or self.decode_seconds
        return 1000 * (decode + self.heavy_seconds)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` is the way back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make it from what `to_dict` gave."""
        return cls(**values)
