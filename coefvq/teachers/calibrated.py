"""A teacher whose confidence was brought in line with how often it is right."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch

from coefvq.teachers.ensemble import Teacher
from coefvq.types import Batch, TeacherOutput


@dataclass(frozen=True)
class Calibration:
    """Temperatures that were fitted on validation clips, and what they did there.

    Args:
        temperatures: one, or one per label for multilabel; above 0.
        clips: labelled validation clips that they were fitted on.
        nll_before: mean negative log-likelihood in nats, per clip (multilabel: and label).
        nll_after: the same with logits / temperature; never above `nll_before`.
        ece_before: expected calibration error, as `coefvq.evaluation.metrics` has it.
        ece_after: likewise. May rise: the fit is to the likelihood.
    """

    temperatures: tuple[float, ...]
    clips: int
    nll_before: float
    nll_after: float
    ece_before: float
    ece_after: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "temperatures", tuple(self.temperatures))
        if not self.temperatures or not all(0 < t < float("inf") for t in self.temperatures):
            raise ValueError(
                f"temperatures are finite numbers above 0, got {list(self.temperatures)}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` is the way back, to the bit."""
        return {**dataclasses.asdict(self), "temperatures": list(self.temperatures)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make it from what `to_dict` gave."""
        return cls(**values)

    def line(self) -> str:
        """What to print."""
        shown = ", ".join(f"{t:.2f}" for t in self.temperatures)
        return (
            f"teacher  temperature {shown} from {self.clips} validation clips: "
            f"NLL {self.nll_before:.3f} -> {self.nll_after:.3f}, "
            f"ECE {self.ece_before:.3f} -> {self.ece_after:.3f}"
        )


class CalibratedTeacher:
    """Divide a teacher's logits by the temperature of a calibration; the rest stays as it is.

    Decisions at a probability of 0.5 and the ranking within a class stay as well.

    Args:
        teacher: the one that the calibration was fitted for.
        calibration: from `coefvq.teacher_supply.calibration.fit_calibration`.
    """

    def __init__(self, teacher: Teacher, calibration: Calibration) -> None:
        self.teacher, self.calibration = teacher, calibration

    def __call__(self, batch: Batch) -> TeacherOutput:
        """Answer a batch on its device.

        Raises:
            ValueError: as many temperatures as labels are needed, or one.
        """
        output = self.teacher(batch)
        temperatures = torch.tensor(
            self.calibration.temperatures, dtype=output.logits.dtype, device=output.logits.device
        )
        if len(temperatures) > 1 and output.logits.shape[1:] != temperatures.shape:
            raise ValueError(
                f"the calibration has {len(temperatures)} temperatures, one per label, but the "
                f"teacher's logits have shape {tuple(output.logits.shape)}; fit it for this teacher"
            )
        return dataclasses.replace(output, logits=output.logits / temperatures)


__all__ = ["CalibratedTeacher", "Calibration"]
