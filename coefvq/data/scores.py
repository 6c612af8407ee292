"""Scores as labels: their range, how far opinions spread, and splits that say nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from coefvq.data.manifest import Problem
from coefvq.data.rows import Row, take_number
from coefvq.data.splits import SPLITS
from coefvq.types import Clip, TaskKind, TaskSpec

MIN_SCORES = 10
"""Fewest scored clips in a split of a regression."""


def checked_range(
    task: TaskKind, label_range: Sequence[float] | None, label_std: str | None
) -> tuple[float, float] | None:
    """Check the two options of a data set that only a regression has, and return the range.

    Raises:
        ValueError: another task, or no range.
    """
    for name, value in (("label_range", label_range), ("label_std", label_std)):
        if value is not None and task != "regression":
            raise ValueError(
                f"data.{name}={value} is for data.task=regression, got data.task={task}; set it to "
                "null"
            )
    if label_range is None:
        return None
    return TaskSpec("label", "regression", (), tuple(label_range)).label_range  # type: ignore[arg-type]


def take_spread(row: Row, column: str | None, problems: list[Problem]) -> float | None:
    """Read the standard deviation of a score's opinions; None for no column or an empty cell."""
    if column is None:
        return None
    value = take_number(row, column, problems, log1p=False)
    if value < 0:
        problems.append(
            row.problem(
                f"{column} {row.cells[column]!r} is negative; a standard deviation is at least 0, "
                "or empty where it is unknown"
            )
        )
    return None if math.isnan(value) else value


def check_scores(clips: Sequence[Clip], file: Path) -> Iterator[Problem]:
    """Yield a problem for each split of a regression with too few scores, or equal ones."""
    for split in SPLITS:
        scores = [c.label for c in clips if c.split == split and c.label is not None]
        if 0 < len(scores) < MIN_SCORES:
            yield Problem(
                file,
                None,
                f"the {split} split has {len(scores)} clips with a score, fewer than "
                f"{MIN_SCORES}; a rank correlation of so few says nothing, so add clips to it",
            )
        elif scores and all(score == scores[0] for score in scores):
            yield Problem(
                file,
                None,
                f"every score of the {split} split is {scores[0]:g}; there is nothing to learn or "
                "to measure, so check the column of the label",
            )


def label_spread(clips: Sequence[Clip]) -> Tensor | None:
    """Standard deviations of opinions, (N,) float32, NaN where unknown; None if all are."""
    if all(clip.label_std is None for clip in clips):
        return None
    known = [math.nan if clip.label_std is None else clip.label_std for clip in clips]
    return torch.tensor(known, dtype=torch.float32)


__all__ = ["MIN_SCORES", "check_scores", "checked_range", "label_spread", "take_spread"]
