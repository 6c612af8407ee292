"""Numbers that change during training: pure functions of the step, so a resumed run agrees."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Kind = Literal["constant", "linear", "cosine", "step"]

# What each kind reads besides `end`.
_READS: Final[dict[str, tuple[str, ...]]] = {
    "constant": (),
    "linear": ("start", "until"),
    "cosine": ("start", "until"),
    "step": ("start", "epoch"),
}


@dataclass(frozen=True)
class Schedule:
    """One number as a function of (step, total_steps, epoch), without state.

    `constant`: `end` at every step. `linear` and `cosine`: from `start` at step 0 to `end` at
    `until`, straight or along half a cosine, and `end` from there on. `step`: `start` for the
    first `epoch` epochs, then `end`. Up or down: `start` may lie above `end`.

    Args:
        kind: constant, linear, cosine or step.
        end: the last value. None: an `Objective` fills in the value that the number was
            configured with, so that a warm-up ends where the run without it would be.
        start: the first value; 0 if not given. Not read by `constant`.
        until: for `linear` and `cosine`, where `end` is reached: up to 1 a share of all steps,
            above 1 a number of optimizer steps; 1, the whole run, if not given.
        epoch: for `step`, after how many epochs, at least 1.

    Raises:
        ValueError: unknown kind, an option out of its range, or one that the kind does not read.

    In a loop of one's own, a loss takes the number directly:

    >>> warm_up = Schedule("linear", end=0.5, until=0.4)
    >>> [warm_up(step, total_steps=10, epoch=0) for step in (0, 2, 4, 9)]
    [0.0, 0.25, 0.5, 0.5]
    """

    kind: Kind
    end: float | None = None
    start: float | None = None
    until: float | None = None
    epoch: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in _READS:
            raise ValueError(
                f"schedule kind {self.kind!r} is unknown; choose one of {', '.join(_READS)}"
            )
        for option in ("start", "until", "epoch"):
            if getattr(self, option) is not None and option not in _READS[self.kind]:
                reads = ", ".join(("end", *_READS[self.kind]))
                raise ValueError(
                    f"{option} is not read by schedule kind {self.kind!r}, which reads {reads}; "
                    f"leave {option} out, or choose another kind"
                )
        for option in ("start", "end"):
            value = getattr(self, option)
            if value is not None and not (_is_number(value) and math.isfinite(value)):
                raise ValueError(f"schedule {option} must be a finite number, got {value!r}")
        if self.until is not None and not _is_place(self.until):
            raise ValueError(
                "schedule until must be a share of all steps in (0, 1] or a whole number of steps "
                f"above 1, got {self.until!r}"
            )
        whole = isinstance(self.epoch, int) and not isinstance(self.epoch, bool)
        if self.kind == "step" and not (whole and self.epoch >= 1):  # type: ignore[operator]
            raise ValueError(
                "schedule kind 'step' needs epoch, a whole number from 1 after which end holds, "
                f"got {self.epoch!r}"
            )

    @property
    def first(self) -> float | None:
        """The value at step 0; None for a `constant` whose `end` is still to be filled in."""
        if self.kind == "constant":
            return self.end
        return 0.0 if self.start is None else self.start

    def __call__(self, step: int, total_steps: float, epoch: int) -> float:
        """The value while this step is made.

        Args:
            step: optimizer steps made before this one, from 0.
            total_steps: of the whole run; `math.inf` where it has no end.
            epoch: epochs finished before this step, from 0.

        Raises:
            ValueError: `end` is open, or `until` is a share of a run that has no end.
        """
        first, end = self.first, self.end
        if first is None or end is None:
            raise ValueError("this schedule has no end; give one, for instance end=0.5")
        if self.kind == "constant":
            return float(end)
        if self.kind == "step":
            return float(first if epoch < (self.epoch or 0) else end)
        until = 1.0 if self.until is None else self.until
        last = until if until > 1 else until * total_steps
        if last == math.inf:
            raise ValueError(
                f"until={until:g} is a share of a run that has no last step; give until as a "
                "number of steps, or set trainer.max_steps"
            )
        if step >= last:
            return float(end)
        progress = step / last
        if self.kind == "cosine":
            progress = (1 - math.cos(math.pi * progress)) / 2
        return float(first + (end - first) * progress)


def read_schedules(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Schedule]:
    """Schedules by dotted name, out of a config's nested words.

    Args:
        tree: a schedule's options, told by `kind`, at any depth; None stands for no schedule.
        prefix: the dotted name of `tree` itself.

    Raises:
        ValueError: something that is not a schedule, or that `Schedule` refuses; it is named.

    >>> read_schedules({"weights": {"distill": {"kind": "linear", "end": 1.0}}})["weights.distill"]
    Schedule(kind='linear', end=1.0, start=None, until=None, epoch=None)
    """
    if not isinstance(tree, Mapping):
        place = f"objective.schedules.{prefix}".rstrip(".")
        expected = "a schedule such as {kind: linear, start: 0.0, until: 0.3}"
        if not prefix:
            expected = "numbers' names, each with " + expected
        raise ValueError(f"{place} must hold {expected}, got {tree!r}")
    found: dict[str, Schedule] = {}
    for key, node in tree.items():
        name = f"{prefix}.{key}".strip(".")
        if node is None:
            continue
        if not isinstance(node, Mapping) or "kind" not in node:
            found |= read_schedules(node, name)
            continue
        known = Schedule.__dataclass_fields__
        if unknown := [str(option) for option in node if option not in known]:
            raise ValueError(
                f"objective.schedules.{name} has no option {', '.join(unknown)}; the options are "
                f"{', '.join(known)}"
            )
        try:
            found[name] = Schedule(**node)
        except ValueError as error:
            raise ValueError(f"objective.schedules.{name}: {error}") from None
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_place(until: float) -> bool:
    return _is_number(until) and (0 < until <= 1 or (1 < until < math.inf and until == int(until)))


__all__ = ["Kind", "Schedule", "read_schedules"]
