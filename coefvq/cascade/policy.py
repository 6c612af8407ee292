"""The policy of a cascade: one immutable object, one JSON, no model and no framework in it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from coefvq.cascade.arrays import (
    Array,
    Task,
    Values,
    Whole,
    as_array,
    check_flags,
    check_logits,
    check_task,
    mean_of,
)
from coefvq.cascade.calibrators import Calibrator, calibrator_from_dict
from coefvq.cascade.decision_cut import DecisionThreshold, decide
from coefvq.cascade.routing import Decision, Gate
from coefvq.cascade.stack import Stack
from coefvq.files import write_json

VERSION = 1

Deferred = Literal["replace", "stack"]


@dataclass(frozen=True)
class Policy:
    """Which clips the light model keeps, and how both answers become one score.

    `decide` is a function of each clip alone: a clip gets the same route, to the bit, whatever
    else is in its batch. `coefvq.cascade.fitting.fit_policy` makes one from two columns of scores.

    Args:
        task: what the logits mean.
        outputs: C or L; 1 for binary.
        gate: from calibrated light logits to an uncertainty.
        threshold: a clip is deferred where its uncertainty reaches it; ±inf for nothing and all.
        light_calibrator: of the light model's logits.
        heavy_calibrator: of the heavy model's.
        deferred: how a deferred clip is answered: `"replace"` (the heavy model's calibrated score)
            or `"stack"` (both).
        stack: the fitted weights, for `"stack"`.
        decision_threshold: on the final probability; None: 0.5, or argmax for multiclass.
        light_fingerprint: of the light model that it was fitted for; empty: unknown.
        heavy_fingerprint: likewise.
        data: identity of the clips that it was fitted on.
        fitted: how: rule, level, clips, positives. Plain values.
        expected: figures on those clips: share deferred, how many clips that share is known from
            (less than there are where they weigh differently; older files lack it), recall, … .
            Plain values.
    """

    task: Task
    outputs: int
    gate: Gate
    threshold: float
    light_calibrator: Calibrator
    heavy_calibrator: Calibrator
    deferred: Deferred = "replace"
    stack: Stack | None = None
    decision_threshold: DecisionThreshold = None
    light_fingerprint: str = ""
    heavy_fingerprint: str = ""
    data: str = ""
    fitted: Mapping[str, Any] = field(default_factory=dict)
    expected: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_task(self.task)
        if self.gate.task != self.task:
            raise ValueError(f"the gate is for a {self.gate.task} task, the policy for {self.task}")
        if math.isnan(self.threshold):
            raise ValueError("the policy's threshold is NaN; expected a number, inf or -inf")
        if (self.deferred == "stack") != (self.stack is not None):
            raise ValueError("a policy holds a fitted stack if, and only if, deferred is 'stack'")
        cut = self.decision_threshold
        if isinstance(cut, list | tuple):
            cut = tuple(float(v) for v in cut)
            object.__setattr__(self, "decision_threshold", cut)
        cuts = () if cut is None else cut if isinstance(cut, tuple) else (cut,)
        if (cut is not None and self.task == "multiclass") or not all(0 <= v <= 1 for v in cuts):
            raise ValueError(
                f"decision_threshold is on the final probability, in [0, 1] (None for multiclass, "
                f"which decides by argmax), got {cut}"
            )
        if isinstance(cut, tuple) and (self.task != "multilabel" or len(cut) != self.outputs):
            raise ValueError(
                f"got {len(cut)} decision thresholds for a {self.task} task of {self.outputs} "
                "outputs; expected one, or one per label"
            )

    def decide(self, light_logits: Values) -> Decision:
        """Route clips by the light model's raw logits.

        Args:
            light_logits: (N,), (N, C) or (N, L) as the light model gives them; (M, N, …) of M
                light models for the gate `disagreement`.

        Raises:
            ValueError: another shape than it was fitted with, or NaN.
        """
        if self.gate.several_models:
            members = self._members(light_logits)
            uncertainty = self.gate(np.stack([self.light_calibrator(z) for z in members]))
        else:
            uncertainty = self.gate(self.light_calibrator(self._checked(light_logits, "light")))
        routes = uncertainty >= self.threshold
        return Decision(routes, uncertainty, self.threshold, self.gate.name)

    def light_scores(self, light_logits: Values) -> Array:
        """Calibrated light logits (of M models: of their mean); the answer of a kept clip."""
        if not self.gate.several_models:
            return self.light_calibrator(self._checked(light_logits, "light"))
        return self.light_calibrator(mean_of(self._members(light_logits)))

    def combine(self, light_logits: Values, heavy_logits: Values, routes: Values) -> Array:
        """Final calibrated logits: the light model's where kept, see `deferred` elsewhere.

        With `replace` and nothing deferred it is the calibrated light model to the bit, with
        everything deferred the calibrated heavy one (uncalibrated where the calibrator is `none`).

        Args:
            light_logits: raw, as for `decide`.
            heavy_logits: raw, one row per clip; rows that were kept are never read and may be NaN.
            routes: (N,) bool, from `decide`.

        Returns:
            (N,), (N, C) or (N, L).

        Raises:
            ValueError: shapes that don't belong together, or NaN in a deferred row.
        """
        final = self.light_scores(light_logits).copy()
        chosen = check_flags(routes, "routes", len(final))
        heavy = as_array(heavy_logits, "heavy_logits")
        if heavy.shape != final.shape:
            raise ValueError(
                f"heavy_logits of shape {heavy.shape} do not fit light logits of shape "
                f"{final.shape}; give one row per clip, anything where a clip was kept"
            )
        answer = self.heavy_calibrator(self._checked(heavy[chosen], "heavy"))
        if self.stack is not None:
            answer = self.stack(final[chosen], answer)
        final[chosen] = answer
        return final

    def answers(self, final_logits: Values) -> Whole:
        """Yes and no (1, 0), or the class, from `combine`'s logits: int64 (N,) or (N, L)."""
        return decide(self._checked(final_logits, "final"), self.task, self.decision_threshold)

    def check_models(self, light_fingerprint: str, heavy_fingerprint: str) -> None:
        """Refuse models that the policy was not fitted for.

        Raises:
            ValueError: another fingerprint, or the policy knows none.
        """
        for who, own, given in (
            ("light", self.light_fingerprint, light_fingerprint),
            ("heavy", self.heavy_fingerprint, heavy_fingerprint),
        ):
            if own != given or not own:
                raise ValueError(
                    f"the policy was fitted for the {who} model {own or '(unknown)'}, got "
                    f"{given or '(unknown)'}; use that model, or fit the policy again"
                )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` is the way back, to the bit."""
        infinite = math.isinf(self.threshold)
        return {
            "version": VERSION,
            "task": self.task,
            "outputs": self.outputs,
            "gate": self.gate.to_dict(),
            "threshold": str(self.threshold) if infinite else self.threshold,
            "light_calibrator": self.light_calibrator.to_dict(),
            "heavy_calibrator": self.heavy_calibrator.to_dict(),
            "deferred": self.deferred,
            "stack": None if self.stack is None else self.stack.to_dict(),
            "decision_threshold": self.decision_threshold,
            "light_fingerprint": self.light_fingerprint,
            "heavy_fingerprint": self.heavy_fingerprint,
            "data": self.data,
            "fitted": dict(self.fitted),
            "expected": dict(self.expected),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make it from what `to_dict` gave.

        Raises:
            ValueError: another version, or a part missing.
        """
        parts = dict(values)
        version = parts.pop("version", None)
        if version != VERSION:
            raise ValueError(
                f"this is a policy of version {version}, expected {VERSION}; fit it again with "
                "this version of the library"
            )
        try:
            parts["gate"] = Gate.from_dict(parts["gate"])
            parts["threshold"] = float(parts["threshold"])
            for who in ("light_calibrator", "heavy_calibrator"):
                parts[who] = calibrator_from_dict(parts[who])
            stack = parts["stack"]
            parts["stack"] = None if stack is None else Stack.from_dict(stack)
            made = cls(**parts)
            made._try()
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise ValueError(
                f"the policy is damaged or incomplete ({reason}); fit it again"
            ) from None
        return made

    def save(self, path: str | Path) -> None:
        """Write one JSON; a reader sees the old or the new file, never half of one."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ValueError: no file, no JSON, or no policy of this version.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ValueError(f"no policy at {path}; fit one and save it there") from None
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is no policy: not JSON ({error})") from None
        if not isinstance(values, dict):
            raise ValueError(f"{path} is no policy: expected a JSON object")
        return cls.from_dict(values)

    def _try(self) -> None:
        """Answer one made-up clip: what was edited by hand fails here and not in service."""
        if isinstance(self.outputs, bool) or not isinstance(self.outputs, int) or self.outputs < 1:
            raise ValueError(f"outputs is a whole number of at least 1, got {self.outputs!r}")
        clip = np.zeros((1,) if self.task == "binary" else (1, self.outputs))
        light = np.stack([clip, clip]) if self.gate.several_models else clip
        found = self.decide(light)
        final = self.combine(light, clip, [True])
        self.answers(final)
        if np.isnan(found.uncertainty).any():
            raise ValueError("the gate's uncertainty of a clip is NaN")

    def _checked(self, logits: Values, whose: str) -> Array:
        width = None if self.task == "binary" else self.outputs
        return check_logits(logits, self.task, what=f"{whose} logits", outputs=width)

    def _members(self, logits: Values) -> list[Array]:
        every = as_array(logits, "light logits")
        if every.ndim != 2 + (self.task != "binary"):
            raise ValueError(
                f"light logits of shape {every.shape} do not fit the gate disagreement, which "
                "reads (M, N, ...) of M light models"
            )
        return [self._checked(z, f"light (model {m})") for m, z in enumerate(every)]
