"""A gate that learns where the heavy model helps, from the light model's outputs alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from coefvq.cascade.arrays import (
    Array,
    Task,
    Values,
    check_labels,
    check_logits,
    check_task,
    check_weight,
    probabilities,
)
from coefvq.cascade.gates import entropy, margin


@dataclass(frozen=True)
class LearnedGate:
    """Predicted gain p_heavy[y] − p_light[y] of asking the heavy model: weights · features + bias.

    Post-hoc deferral (Jitkrittum et al., "When does confidence-based cascade deferral suffice?",
    NeurIPS 2023): entropy says where the light model is unsure, but not whether the heavy one
    knows better. Where labels are noisy both are unsure, and the gate learns not to ask.

    Args:
        task: what the light logits mean.
        outputs: C or L; 1 for binary.
        centre: mean of each feature, from the fit.
        spread: standard deviation of each.
        weights: of the standardised features.
        bias: mean gain of the fit.
    """

    task: Task
    outputs: int
    centre: tuple[float, ...]
    spread: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float

    def __post_init__(self) -> None:
        check_task(self.task)
        for name in ("centre", "spread", "weights"):
            object.__setattr__(self, name, tuple(float(v) for v in getattr(self, name)))
        if not len(self.centre) == len(self.spread) == len(self.weights):
            raise ValueError(
                f"a learned gate has as many centres as spreads and weights, got "
                f"{len(self.centre)}, {len(self.spread)} and {len(self.weights)}"
            )
        numbers = [*self.centre, *self.spread, *self.weights, self.bias]
        if not np.isfinite(numbers).all() or not all(v > 0 for v in self.spread):
            raise ValueError("a learned gate holds finite numbers, and spreads above 0")

    def __call__(self, logits: Values) -> Array:
        """Predict (N,) gains in [−1, 1] or a little beyond; higher = better deferred.

        Raises:
            ValueError: logits of another shape than the fit's.
        """
        z = check_logits(logits, self.task, outputs=None if self.task == "binary" else self.outputs)
        gain = np.full(len(z), self.bias)
        columns = gate_features(z, self.task)
        for column, centre, spread, weight in zip(
            columns, self.centre, self.spread, self.weights, strict=True
        ):
            gain = gain + weight * ((column - centre) / spread)
        return gain

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` is the way back, to the bit."""
        values = dataclasses.asdict(self)
        return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make it from what `to_dict` gave."""
        return cls(**values)


def gate_features(logits: Values, task: str) -> list[Array]:
    """What a learned gate sees of a clip, as (N,) columns.

    Binary: p, entropy, p(1 − p), the logit squashed to (−1, 1). Multiclass: every p, entropy,
    margin. Multilabel: every p, largest and summed entropy.
    """
    z = check_logits(logits, task)
    p = probabilities(z, task)
    if task == "binary":
        return [p, entropy(z, task), p * (1 - p), np.tanh(np.clip(z, -50, 50) / 4)]
    columns = [np.ascontiguousarray(p[:, k]) for k in range(p.shape[1])]
    if task == "multiclass":
        return [*columns, entropy(z, task), margin(z, task)]
    return [*columns, entropy(z, task, over="max"), entropy(z, task, over="sum")]


def probability_of_truth(logits: Values, labels: Values, task: str) -> Array:
    """p[y], (N,): of the right class, the right answer, or (multilabel) its mean over labels."""
    z = check_logits(logits, task)
    y = check_labels(labels, z, task)
    p = probabilities(z, task)
    if task == "multiclass":
        return np.asarray(p[np.arange(len(y)), y])
    right = np.where(y == 1, p, 1 - p)
    return right if task == "binary" else np.asarray(right.mean(axis=1))


def fit_learned_gate(
    light_logits: Values,
    heavy_logits: Values,
    labels: Values,
    *,
    task: Task,
    ridge: float = 1e-3,
    sample_weight: Values | None = None,
) -> LearnedGate:
    """Fit the gain by ridge regression on standardised features; closed form, no seed.

    Args:
        light_logits: (N,), (N, C) or (N, L), calibrated, of clips that neither model was trained
            on.
        heavy_logits: the same shape, calibrated.
        labels: (N,), or (N, L) for multilabel.
        task: what they mean.
        ridge: penalty on the weights, relative to N; above 0.
        sample_weight: (N,), finite and at least 0; None: all count alike.

    Raises:
        ValueError: shapes, labels or options that don't fit; fewer clips than features.
    """
    light = check_logits(light_logits, task, what="light_logits")
    heavy = check_logits(heavy_logits, task, what="heavy_logits")
    if light.shape != heavy.shape:
        raise ValueError(
            f"light_logits of shape {light.shape} and heavy_logits of shape {heavy.shape} must be "
            "of the same clips and classes"
        )
    if not ridge > 0:
        raise ValueError(f"ridge must be above 0, got {ridge!r}")
    weight = check_weight(sample_weight, len(light))
    gain = probability_of_truth(heavy, labels, task) - probability_of_truth(light, labels, task)
    features = np.stack(gate_features(light, task), axis=1)
    if len(light) <= features.shape[1]:
        raise ValueError(
            f"a learned gate with {features.shape[1]} features needs more than that many labelled "
            f"clips, got {len(light)}; use entropy"
        )
    share = weight / weight.sum()
    centre = share @ features
    spread = np.sqrt(share @ (features - centre) ** 2)
    spread = np.where(spread > 1e-12, spread, 1.0)
    x = (features - centre) / spread
    bias = float(share @ gain)
    gram = (x * share[:, None]).T @ x + ridge * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, (x * share[:, None]).T @ (gain - bias))
    outputs = 1 if task == "binary" else light.shape[1]
    return LearnedGate(
        task, outputs, tuple(centre.tolist()), tuple(spread.tolist()), tuple(weights.tolist()), bias
    )
