"""Maps from a model's logits to logits that mean a probability where it serves.

Frozen, plain JSON, NumPy only: what a serving process loads. `coefvq.cascade.calibrate` fits them.
Temperature, Platt's affine map, vector scaling and a shift of the prior are one thing, a scale and
a bias per column (`Affine`); matrix scaling mixes columns; isotonic is a staircase.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from coefvq.cascade.arrays import Array, Values, as_array, check_task, log_odds

Row = tuple[float, ...]


@dataclass(frozen=True)
class Affine:
    """scale · z + bias, per column.

    Args:
        kind: what it was fitted as: none, temperature, affine, vector or prior_shift.
        scale: one number, or one per class or label; above 0, so that the order of clips stays.
        bias: likewise, finite.
    """

    kind: str
    scale: Row
    bias: Row

    def __post_init__(self) -> None:
        _freeze(self, "scale", "bias")
        if not self.scale or not all(0 < s < float("inf") for s in self.scale):
            raise ValueError(f"scales are finite numbers above 0, got {list(self.scale)}")
        if not np.isfinite(self.bias).all() or len(self.bias) != len(self.scale):
            raise ValueError(
                f"biases are finite and as many as scales ({len(self.scale)}), "
                f"got {list(self.bias)}"
            )

    def __call__(self, logits: Values) -> Array:
        """Calibrated logits of the same shape; −inf stays."""
        z = _columns(logits, len(self.scale))
        if len(self.scale) == 1:
            return np.asarray(z * self.scale[0] + self.bias[0])
        return np.asarray(z * np.array(self.scale) + np.array(self.bias))

    def shifted(self, bias: Sequence[float]) -> Affine:
        """Return the same map with a number per column added (one: to all)."""
        width = max(len(self.bias), len(bias))
        scale, old = _wide(self.scale, width), _wide(self.bias, width)
        added = zip(old, _wide(tuple(bias), width), strict=True)
        return Affine(self.kind, scale, tuple(a + b for a, b in added))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `calibrator_from_dict` is the way back, to the bit."""
        return {"kind": self.kind, "scale": list(self.scale), "bias": list(self.bias)}


@dataclass(frozen=True)
class Matrix:
    """Matrix scaling of (N, C) logits: z'_j = Σ_k weights[j][k] · z_k + bias[j].

    Guo et al., ICML 2017, section 4.2. Many parameters: it needs many labelled clips per class.

    Args:
        weights: C rows of C numbers.
        bias: C numbers.
    """

    weights: tuple[Row, ...]
    bias: Row

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", tuple(tuple(float(v) for v in r) for r in self.weights))
        _freeze(self, "bias")
        width = len(self.bias)
        if len(self.weights) != width or any(len(row) != width for row in self.weights):
            raise ValueError(f"matrix scaling needs {width} rows of {width} weights")
        if not np.isfinite([*self.bias, *(v for row in self.weights for v in row)]).all():
            raise ValueError("matrix scaling needs finite weights and biases")

    def __call__(self, logits: Values) -> Array:
        """Calibrated (N, C) logits.

        Raises:
            ValueError: another width, or a masked class (−inf), which would reach every class.
        """
        z = _columns(logits, len(self.bias))
        if not np.isfinite(z).all():
            raise ValueError(
                "matrix scaling mixes classes and cannot take masked (-inf) ones; use vector"
            )
        made = []
        for row, bias in zip(self.weights, self.bias, strict=True):
            column = np.full(len(z), bias)
            for k, weight in enumerate(row):  # one after the other: no matrix product, see arrays
                column = column + weight * z[:, k]
            made.append(column)
        return np.stack(made, axis=1)

    def shifted(self, bias: Sequence[float]) -> Matrix:
        """Return the same map with a number per class added."""
        added = zip(self.bias, _wide(tuple(bias), len(self.bias)), strict=True)
        return Matrix(self.weights, tuple(a + b for a, b in added))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `calibrator_from_dict` is the way back, to the bit."""
        return {"kind": "matrix", "weights": [list(r) for r in self.weights], "bias": [*self.bias]}


@dataclass(frozen=True)
class Isotonic:
    """A rising curve through knots, straight between them and flat outside.

    On its flat steps clips tie: they cannot be ranked, and a budget cannot cut between them, so
    that fewer than the budget are deferred. Prefer `affine` unless a picture shows it doesn't fit.

    Args:
        knots: per column the logits of the knots, rising.
        values: per column the calibrated logits there, not falling.
    """

    knots: tuple[Row, ...]
    values: tuple[Row, ...]

    def __post_init__(self) -> None:
        for name in ("knots", "values"):
            rows = tuple(tuple(float(v) for v in row) for row in getattr(self, name))
            object.__setattr__(self, name, rows)
        for x, y in zip(self.knots, self.values, strict=True):
            rising = len(x) == len(y) > 0 and (np.diff(x) > 0).all() and (np.diff(y) >= 0).all()
            if not rising or not np.isfinite([*x, *y]).all():
                raise ValueError(
                    "an isotonic curve needs finite knots that rise and values that don't fall"
                )

    def __call__(self, logits: Values) -> Array:
        """Calibrated logits of the same shape, always finite."""
        z = _columns(logits, len(self.knots))
        if z.ndim == 1:
            return np.asarray(np.interp(z, self.knots[0], self.values[0]))
        curves = zip(self.knots, self.values, strict=True)
        return np.stack([np.interp(z[:, k], x, y) for k, (x, y) in enumerate(curves)], axis=1)

    def shifted(self, bias: Sequence[float]) -> Isotonic:
        """Return the same curve with a number per column added."""
        moved = zip(self.values, _wide(tuple(bias), len(self.values)), strict=True)
        return Isotonic(self.knots, tuple(tuple(v + b for v in row) for row, b in moved))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `calibrator_from_dict` is the way back, to the bit."""
        return {
            "kind": "isotonic",
            "knots": [list(row) for row in self.knots],
            "values": [list(row) for row in self.values],
        }


Calibrator = Affine | Matrix | Isotonic


def no_calibration() -> Affine:
    """Leave logits as they are, to the bit."""
    return Affine("none", (1.0,), (0.0,))


def temperature(*temperatures: float) -> Affine:
    """Divide by T: one temperature, or one per label. It moves no bias, and no binary route.

    >>> temperature(2.0)([3.0]).tolist()
    [1.5]
    """
    if not temperatures or not all(0 < t < float("inf") for t in temperatures):
        raise ValueError(f"temperatures are finite numbers above 0, got {list(temperatures)}")
    return Affine("temperature", tuple(1 / t for t in temperatures), (0.0,) * len(temperatures))


def prior_shift(
    logits: Values, task: str, train_prevalence: Values, serving_prevalence: Values
) -> Array:
    """Bring logits from the prevalence of the training set to that of serving.

    Binary and multilabel: z + logit(π_serving) − logit(π_train). Multiclass: z_c + log π_serving,c
    − log π_train,c. Right where only the share of classes differs (label shift; Saerens et al.,
    Neural Computation 2002), for instance for a model trained on balanced classes or with
    balancing weights.

    Args:
        logits: (N,), (N, C) or (N, L).
        task: what they mean.
        train_prevalence: share of positives in (0, 1) that the model saw, weights included; L of
            them for multilabel (or one for all), C that sum to 1 for multiclass.
        serving_prevalence: likewise, where it serves.

    Returns:
        The shape of the logits.

    Raises:
        ValueError: shares that are none, or too few of them.

    >>> np.exp(prior_shift([0.0], "binary", 0.5, 0.2)).round(2).tolist()
    [0.25]
    """
    return shift_of_prior(task, train_prevalence, serving_prevalence)(logits)


def shift_of_prior(task: str, train_prevalence: Values, serving_prevalence: Values) -> Affine:
    """Return `prior_shift` as a calibrator."""
    bias = log_prior(task, serving_prevalence, "serving_prevalence")
    bias = bias - log_prior(task, train_prevalence, "train_prevalence")
    return Affine("prior_shift", (1.0,) * bias.size, tuple(bias.ravel().tolist()))


def log_prior(task: str, prevalence: Values, name: str = "prevalence") -> Array:
    """Logit of each share, or the log of class shares; (1,), (L,) or (C,).

    Raises:
        ValueError: a share outside (0, 1), or class shares that don't sum to 1.
    """
    check_task(task)
    shares = np.atleast_1d(as_array(prevalence, name))
    many = task != "binary"
    if (
        shares.ndim != 1
        or not ((shares > 0) & (shares < 1)).all()
        or (not many and shares.size > 1)
    ):
        raise ValueError(
            f"{name} must be {'shares' if many else 'one share'} between 0 and 1, got {prevalence}"
        )
    if task != "multiclass":
        return log_odds(shares)
    if shares.size < 2 or abs(shares.sum() - 1) > 1e-6:
        raise ValueError(f"{name} of a multiclass task needs one share per class, summing to 1, "
                         f"got {prevalence}")  # fmt: skip
    return np.asarray(np.log(shares))


def calibrator_from_dict(values: Mapping[str, Any]) -> Calibrator:
    """Make a calibrator from what its `to_dict` gave.

    Raises:
        ValueError: an unknown kind.
    """
    kind = values.get("kind")
    if kind == "matrix":
        return Matrix(values["weights"], values["bias"])
    if kind == "isotonic":
        return Isotonic(values["knots"], values["values"])
    if kind in ("none", "temperature", "affine", "vector", "prior_shift"):
        return Affine(kind, values["scale"], values["bias"])
    raise ValueError(f"calibrator kind {kind!r} is unknown to this version; fit the policy again")


def _freeze(of: object, *names: str) -> None:
    for name in names:
        object.__setattr__(of, name, tuple(float(v) for v in getattr(of, name)))


def _wide(row: Row, width: int) -> Row:
    if len(row) not in (1, width):
        raise ValueError(f"got {len(row)} numbers for {width} columns; give one, or one per column")
    return row * width if len(row) == 1 else row


def _columns(logits: Values, width: int) -> Array:
    z = as_array(logits, "logits")
    if width > 1 and (z.ndim != 2 or z.shape[1] != width):
        raise ValueError(
            f"logits of shape {z.shape} do not fit a calibrator of {width} columns, which expects "
            f"(N, {width}); use the model that it was fitted for"
        )
    return z
