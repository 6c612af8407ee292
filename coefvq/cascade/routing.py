"""A gate with its options, and what it decides: the part of a policy that sees a clip first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args

from coefvq.cascade.arrays import Array, Flags, Task, Values, check_task
from coefvq.cascade.gates import band, disagreement, entropy, margin, top_p_risk
from coefvq.cascade.learned_gate import LearnedGate

GateName = Literal["entropy", "margin", "top_p_risk", "band", "disagreement", "learned"]

OPTIONS: dict[str, frozenset[str]] = {
    "entropy": frozenset({"over"}),
    "margin": frozenset(),
    "top_p_risk": frozenset({"p"}),
    "band": frozenset({"low", "high"}),
    "disagreement": frozenset({"measure", "over"}),
    "learned": frozenset(),
}


@dataclass(frozen=True)
class Gate:
    """A function of calibrated light logits to an uncertainty per clip, as a value.

    Args:
        name: see `coefvq.cascade.gates`; `"learned"`: see `coefvq.cascade.learned_gate`.
        task: what the logits mean.
        options: of that gate's function.
        learned: the fitted gate, for `"learned"`.
    """

    name: GateName
    task: Task
    options: Mapping[str, Any] = field(default_factory=dict)
    learned: LearnedGate | None = None

    def __post_init__(self) -> None:
        check_task(self.task)
        if self.name not in get_args(GateName):
            several = self.task == "multiclass"
            hint = (
                f"; {self.name} is {'top_p_risk with p=1' if several else 'entropy'}"
                + ("" if several else ": for yes/no answers both have one order")
                if self.name in ("max_probability", "max_prob", "confidence", "least_confidence")
                else ""
            )
            raise ValueError(
                f"gate must be one of {', '.join(get_args(GateName))}, got {self.name!r}{hint}"
            )
        if self.name in ("margin", "top_p_risk") and self.task != "multiclass":
            raise ValueError(
                f"{self.name} is for multiclass tasks; in a {self.task} task entropy, 1 - largest "
                "probability and margin put the answers in one and the same order, so use entropy"
            )
        unknown = set(self.options) - OPTIONS[self.name]
        if unknown:
            raise ValueError(
                f"gate {self.name!r} has no option {sorted(unknown)[0]!r}; it has "
                f"{', '.join(sorted(OPTIONS[self.name])) or 'none'}"
            )
        if (self.name == "learned") != (self.learned is not None):
            raise ValueError("the gate 'learned', and only that, carries a fitted LearnedGate")
        object.__setattr__(self, "options", dict(self.options))

    @property
    def several_models(self) -> bool:
        """Whether it reads (M, N, …) logits of M light models instead of (N, …)."""
        return self.name == "disagreement"

    def __call__(self, logits: Values) -> Array:
        """Return (N,) uncertainties, each from its own clip alone."""
        options: dict[str, Any] = dict(self.options)
        if self.name == "entropy":
            return entropy(logits, self.task, **options)
        if self.name == "margin":
            return margin(logits, self.task)
        if self.name == "top_p_risk":
            return top_p_risk(logits, self.task, **options)
        if self.name == "band":
            return band(logits, self.task, **options)
        if self.name == "disagreement":
            return disagreement(logits, self.task, **options)
        assert self.learned is not None
        return self.learned(logits)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` is the way back."""
        learned = None if self.learned is None else self.learned.to_dict()
        return {
            "name": self.name,
            "task": self.task,
            "options": dict(self.options),
            "learned": learned,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make it from what `to_dict` gave."""
        learned = values.get("learned")
        fitted = None if learned is None else LearnedGate.from_dict(learned)
        return cls(values["name"], values["task"], values["options"], fitted)


@dataclass(frozen=True, eq=False)
class Decision:
    """Where each clip of a batch goes, and why.

    Args:
        routes: (N,) bool, True where the clip is deferred to the heavy model.
        uncertainty: (N,) from the gate.
        threshold: a clip is deferred where its uncertainty reaches it.
        gate: the gate's name, for the reasons.
    """

    routes: Flags
    uncertainty: Array
    threshold: float
    gate: str

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why, a few words per clip, made when asked for.

        >>> import numpy as np
        >>> Decision(np.array([True]), np.array([0.5]), 0.25, "entropy").reasons
        ('deferred: entropy 0.5 >= 0.25',)
        """
        return tuple(
            f"deferred: {self.gate} {u:.4g} >= {self.threshold:.4g}"
            if deferred
            else f"kept: {self.gate} {u:.4g} < {self.threshold:.4g}"
            for deferred, u in zip(self.routes.tolist(), self.uncertainty.tolist(), strict=True)
        )

    def __len__(self) -> int:
        return len(self.routes)
