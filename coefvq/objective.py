"""Named terms × named weights → (total, terms): the visible sum that a run minimises."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from coefvq.losses._options import check_number, numbers_of, set_number

if TYPE_CHECKING:
    from coefvq.schedules import Schedule
    from coefvq.types import Batch, StudentOutput, TeacherOutput


class Objective(nn.Module):
    """Sum loss modules with weights: total = Σ weights[name] · terms[name].

    The sum is all there is: no normalisation by the weights, no weights hidden in it. Terms are
    registered modules, so a term's learnable projection is trained and saved. A term of weight 0
    is *watched*: computed without gradient and reported, but not added, so that it can neither
    change the others' gradient nor poison the total (0 · NaN is NaN). Under DDP a watched term
    with parameters of its own leaves them without gradient; drop the term instead, or, where a
    schedule starts or ends at 0, let it start or end at a small number such as 1e-6.

    Any weight, and any number among a term's options, may follow a schedule. `weights.<term>` is a
    weight, `<term>.<option>` an option of one term (`cpfd.confidence.strength`), and `<option>`
    alone that option of every term that has it. The distiller sets and logs the values; in a loop
    of one's own it is one line before each step:

        objective.set_step(step, total_steps, epoch)

    Args:
        terms: loss modules by name, each with `select(student, teacher, batch)` that picks the
            arguments of its `forward` (see `coefvq.losses`), reduced to a scalar.
        weights: one finite number ≥ 0 per term, at least one above 0. The attribute `weights` is a
            plain dict and may be changed between steps.
        schedules: schedules by the names above. An open `end` is the number as configured. After
            construction the numbers are those of the first step.

    Raises:
        ValueError: names of terms and weights differ, or a weight is not as above; a schedule
            names no number, or leads to one that its term refuses.

    >>> from coefvq.losses import SupervisedLoss
    >>> Objective({"task": SupervisedLoss(task="binary")}, {"task": 1.0}).weights["task"]
    1.0
    """

    def __init__(
        self,
        terms: Mapping[str, nn.Module],
        weights: Mapping[str, float],
        schedules: Mapping[str, Schedule] | None = None,
    ) -> None:
        super().__init__()
        if set(terms) != set(weights):
            raise ValueError(
                f"terms are named {sorted(terms)} but weights {sorted(weights)}; "
                "give each term one weight of the same name"
            )
        for name, weight in weights.items():
            _check_weight(name, weight)
        self.terms = nn.ModuleDict(dict(terms.items()))
        self.weights = {name: float(weights[name]) for name in self.terms}
        self.schedules: dict[str, Schedule] = {}
        self._targets: dict[str, list[str]] = {}
        for name, schedule in (schedules or {}).items():
            self._add_schedule(name, schedule)
        ends = {
            path.removeprefix("weights."): self.schedules[name].end or 0.0
            for name, paths in self._targets.items()
            for path in paths
            if path.startswith("weights.")
        }
        self._check_trains(self.weights | ends, " in the end" if ends else "")
        self.set_step(0, 1, 0)

    def forward(
        self, student: StudentOutput, teacher: TeacherOutput | None, batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute every term.

        Args:
            student: what the student answered.
            teacher: what the teacher answered; None where no term needs one.
            batch: labels, masks and weights.

        Returns:
            The weighted sum, and the *unweighted* terms by name, comparable between runs of a
            sweep. Watched terms are detached.

        Raises:
            ValueError: a term that needs a teacher got none, or a term is not a scalar.
        """
        total: Tensor | None = None
        values: dict[str, Tensor] = {}
        term: Any  # a module with `select`, which nn.Module does not declare
        for name, term in self.terms.items():
            weight = self.weights[name]
            with torch.set_grad_enabled(torch.is_grad_enabled() and weight != 0):
                value: Tensor = term(**term.select(student, teacher, batch))
            if value.ndim != 0:
                raise ValueError(
                    f"term {name!r} has shape {tuple(value.shape)} but an objective sums scalars; "
                    "use reduction 'mean' or 'sum'"
                )
            values[name] = value
            if weight != 0:
                total = weight * value if total is None else total + weight * value
        if total is None:  # all weights were set to 0 after construction
            total = torch.zeros_like(next(iter(values.values())))
        return total, values

    def learning_from_teacher(self) -> list[str]:
        """Names of the terms that need a teacher's answers."""
        found: Any = _Anything()
        needing = []
        for name, term in self.terms.items():
            select: Any = term.select
            try:
                select(found, None, found)
            except ValueError:
                needing.append(name)
        return needing

    def check_without_teacher(self) -> None:
        """Refuse an objective that a run without a teacher cannot compute.

        Raises:
            ValueError: naming the terms that learn from one.
        """
        if needing := self.learning_from_teacher():
            what = "the term" if len(needing) == 1 else "the terms"
            raise ValueError(
                f"teacher=none, but {what} {', '.join(needing)} of the objective learn from a "
                "teacher; choose one, such as teacher=df_xvlm, or an objective of labels alone, "
                "such as objective=supervised"
            )

    def set_step(self, step: int, total_steps: float, epoch: int) -> dict[str, float]:
        """Give every scheduled number the value that it has while this step is made.

        Args:
            step: optimizer steps made before this one, from 0.
            total_steps: of the whole run; `math.inf` where it has no end.
            epoch: epochs finished before this step, from 0.

        Returns:
            The values by the names of `schedules`; empty without schedules.

        Raises:
            ValueError: every weight would be 0.
        """
        values = {name: f(step, total_steps, epoch) for name, f in self.schedules.items()}
        for name, value in values.items():
            for path in self._targets[name]:
                self._set(path, value)
        self._check_trains(self.weights, f" at step {step}" if values else "")
        return values

    def _add_schedule(self, name: str, schedule: Schedule) -> None:
        numbers = self._numbers()
        bare = [path for path in numbers if path.split(".", 1)[1] == name]
        paths = [name] if name in numbers else [p for p in bare if not p.startswith("weights.")]
        if not paths:
            raise ValueError(
                f"schedule {name!r} names no number of this objective; choose one of "
                f"{', '.join(sorted(numbers))}, or leave out the term to mean every term's"
            )
        if taken := [p for p in paths if any(p in others for others in self._targets.values())]:
            raise ValueError(f"{taken[0]} has two schedules, one of them {name!r}; give it one")
        if schedule.end is None:
            schedule = replace(schedule, end=_one_value(name, {p: numbers[p] for p in paths}))
            if schedule.kind != "constant" and schedule.first == schedule.end:
                raise ValueError(
                    f"schedule {name!r} stays at {schedule.end:g}, the value that {paths[0]} is "
                    "configured with; give the schedule an end"
                )
        for path in paths:
            for value in (schedule.first, schedule.end):
                assert value is not None
                self._check(name, path, value)
        self.schedules[name], self._targets[name] = schedule, paths

    def _numbers(self) -> dict[str, float]:
        """What may follow a schedule, by dotted path."""
        found = {f"weights.{name}": weight for name, weight in self.weights.items()}
        for name, term in self.terms.items():
            if name == "weights":  # the name is taken
                continue
            found |= {f"{name}.{option}": value for option, value in numbers_of(term).items()}
        return found

    def _set(self, path: str, value: float) -> None:
        name, option = path.split(".", 1)
        if name == "weights":
            self.weights[option] = value
        else:
            set_number(self.terms[name], option, value)

    def _check(self, schedule: str, path: str, value: float) -> None:
        name, option = path.split(".", 1)
        try:
            if name == "weights":
                _check_weight(option, value)
            else:
                check_number(self.terms[name], option, value)
        except ValueError as error:
            raise ValueError(
                f"schedule {schedule!r} takes {path} to {value:g}: {error}; change its start or end"
            ) from None

    @staticmethod
    def _check_trains(weights: Mapping[str, float], when: str) -> None:
        if not any(weight > 0 for weight in weights.values()):
            raise ValueError(
                f"every weight of {sorted(weights)} is 0{when}, so nothing would be trained; "
                "give at least one term a weight above 0"
            )


@dataclass(frozen=True)
class _Anything:
    """Stands for an output or a batch that has whatever a term may select.

    Its fields are those that `InPoints` replaces, and that it is of clips, not of pairs.
    """

    logits: Tensor = field(default_factory=lambda: torch.zeros(1))
    score_std: Tensor = field(default_factory=lambda: torch.zeros(1))
    labels: Tensor = field(default_factory=lambda: torch.zeros(1))
    label_std: Tensor = field(default_factory=lambda: torch.zeros(1))
    query: None = None

    def __getattr__(self, name: str) -> Tensor:
        return torch.zeros(1)


def _check_weight(name: str, weight: float) -> None:
    if not 0.0 <= weight < math.inf:
        raise ValueError(f"weight of term {name!r} must be a finite number from 0, got {weight}")


def _one_value(name: str, numbers: Mapping[str, float]) -> float:
    """The number that all paths are configured with."""
    if len(set(numbers.values())) > 1:
        found = ", ".join(f"{path} is {value:g}" for path, value in numbers.items())
        raise ValueError(
            f"schedule {name!r} has no end, and {found}; give an end, or one schedule per term"
        )
    return next(iter(numbers.values()))


__all__ = ["Objective"]
