"""Privileged features: raw numbers of very different scales to standardised ones with a mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, from_numpy


def feature_matrix(rows: Sequence[Mapping[str, float]], names: Sequence[str]) -> np.ndarray:
    """Lay rows of named features out as (N, P) float64; NaN where a feature is missing."""
    if not names:
        return np.zeros((len(rows), 0))
    return np.array(
        [[row.get(name, np.nan) for name in names] for row in rows], np.float64
    ).reshape(len(rows), len(names))


@dataclass(frozen=True)
class PrivilegedNormalizer:
    """Standardise privileged features with the statistics of the training split.

    Counts and other heavy-tailed features can be put through log(1 + x) first. A missing value
    becomes 0, the training mean, with mask False. A feature that never varies is only centred.

    Args:
        names: P feature names.
        log1p: those of them that are put through log(1 + x).
        mean: P means over the observed training values, after log1p.
        std: P standard deviations likewise; 1 where the feature is constant.
    """

    names: tuple[str, ...]
    log1p: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def fit(
        cls,
        rows: Sequence[Mapping[str, float]],
        names: Sequence[str],
        log1p: Sequence[str] = (),
    ) -> PrivilegedNormalizer:
        """Take the statistics from training rows.

        Raises:
            ValueError: a feature of `log1p` is not among `names`, a feature is missing in every
                row, or a feature for log1p is negative somewhere.
        """
        if strangers := [name for name in log1p if name not in names]:
            raise ValueError(
                f"log1p names {strangers}, which are not among the privileged features "
                f"{list(names)}"
            )
        values = feature_matrix(rows, names)
        if empty := [n for n, column in zip(names, values.T, strict=True) if _missing(column)]:
            raise ValueError(
                f"privileged features {empty} are missing in every training clip; "
                "remove them from data.privileged"
            )
        _check_not_negative(values, names, log1p)
        values = _log(values, names, log1p)
        mean = np.nanmean(values, axis=0) if len(names) else np.zeros(0)
        std = np.nanstd(values, axis=0) if len(names) else np.zeros(0)
        # Rounding leaves a constant column a spread of about 1e-16 of its size.
        std[std <= 1e-9 * np.maximum(1.0, np.abs(mean))] = 1.0
        return cls(tuple(names), tuple(log1p), tuple(mean.tolist()), tuple(std.tolist()))

    def transform(self, rows: Sequence[Mapping[str, float]]) -> tuple[Tensor, Tensor]:
        """Standardise rows.

        Returns:
            values (N, P) float32, 0 where missing.
            mask (N, P) bool, True where the value was observed.

        Raises:
            ValueError: a feature for log1p is negative somewhere.
        """
        values = feature_matrix(rows, self.names)
        mask = ~np.isnan(values)
        _check_not_negative(values, self.names, self.log1p)
        values = (_log(values, self.names, self.log1p) - np.array(self.mean)) / np.array(self.std)
        return from_numpy(np.where(mask, values, 0.0).astype(np.float32)), from_numpy(mask)

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, for JSON."""
        return {
            "names": list(self.names),
            "log1p": list(self.log1p),
            "mean": list(self.mean),
            "std": list(self.std),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PrivilegedNormalizer:
        """Undo `to_dict`."""
        return cls(*(tuple(values[name]) for name in ("names", "log1p", "mean", "std")))


def _missing(column: np.ndarray) -> bool:
    return bool(np.isnan(column).all())


def _check_not_negative(values: np.ndarray, names: Sequence[str], log1p: Sequence[str]) -> None:
    for index, name in enumerate(names):
        if name in log1p and (values[:, index] < 0).any():
            least = float(np.nanmin(values[:, index]))
            raise ValueError(
                f"privileged feature {name!r} is to be put through log1p but goes down to "
                f"{least:g}; counts are at least 0, so take it out of data.log1p"
            )


def _log(values: np.ndarray, names: Sequence[str], log1p: Sequence[str]) -> np.ndarray:
    values = values.copy()
    chosen = [index for index, name in enumerate(names) if name in log1p]
    values[:, chosen] = np.log1p(values[:, chosen])
    return values


__all__ = ["PrivilegedNormalizer", "feature_matrix"]
