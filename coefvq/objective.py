"""Named terms × named weights → (total, terms): the visible sum that a run minimises."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from coefvq.types import Batch, StudentOutput, TeacherOutput


class Objective(nn.Module):
    """Sum loss modules with weights: total = Σ weights[name] · terms[name].

    The sum is all there is: no normalisation by the weights, no weights hidden in it. Terms are
    registered modules, so a term's learnable projection is trained and saved. A term of weight 0
    is *watched*: computed without gradient and reported, but not added, so that it can neither
    change the others' gradient nor poison the total (0 · NaN is NaN). Under DDP a watched term
    with parameters of its own leaves them without gradient; drop the term instead.

    Args:
        terms: loss modules by name, each with `select(student, teacher, batch)` that picks the
            arguments of its `forward` (see `coefvq.losses`), reduced to a scalar.
        weights: one finite number ≥ 0 per term, at least one above 0. The attribute `weights` is a
            plain dict and may be changed between steps.

    Raises:
        ValueError: names of terms and weights differ, or a weight is not as above.

    >>> from coefvq.losses import SupervisedLoss
    >>> Objective({"task": SupervisedLoss(task="binary")}, {"task": 1.0}).weights["task"]
    1.0
    """

    def __init__(self, terms: Mapping[str, nn.Module], weights: Mapping[str, float]) -> None:
        super().__init__()
        if set(terms) != set(weights):
            raise ValueError(
                f"terms are named {sorted(terms)} but weights {sorted(weights)}; "
                "give each term one weight of the same name"
            )
        for name, weight in weights.items():
            if not 0.0 <= weight < math.inf:
                raise ValueError(
                    f"weight of term {name!r} must be a finite number from 0, got {weight}"
                )
        if not any(weight > 0 for weight in weights.values()):
            raise ValueError(
                f"every weight of {sorted(weights)} is 0, so nothing would be trained; "
                "give at least one term a weight above 0"
            )
        self.terms = nn.ModuleDict(dict(terms.items()))
        self.weights = {name: float(weights[name]) for name in self.terms}

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
