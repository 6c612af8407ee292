"""From logits to the columns of a table of scores, and to the lines that are printed of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas
import torch
from torch import Tensor

from coefvq.evaluation.score_calibration import COVERAGE, ScoreCalibration
from coefvq.types import TaskSpec

PERCENT = "0–100"
"""The unit of calibrated scores."""


def calibration_of(metadata: dict[str, Any]) -> ScoreCalibration | None:
    """How a saved student's scores are shown; None where it was saved without."""
    stored = metadata.get("score_calibration")
    return None if stored is None else ScoreCalibration.from_dict(stored)


def score_columns(
    logits: Tensor, task: TaskSpec, threshold: Any, calibration: ScoreCalibration | None = None
) -> dict[str, list]:
    """Turn logits into a table's columns.

    Args:
        logits: (N,), (N, C) or (N, L), see `TaskSpec`.
        task: what they mean.
        threshold: chosen on validation clips: a number for binary, L numbers for multilabel. None,
            as in a teacher's folder: 0.5.
        calibration: gives the scores of a regression a unit.

    Returns:
        Binary: `probability` of the second class and `prediction`. Multiclass: `p_<class>` and
        `prediction`. Multilabel: `p_<label>` and `prediction`, the labels joined by `|`.
        Regression: `score` and its `unit`. With a calibration that is `0–100`, as of `low` and
        `high`, beside `level` in words, and `label_score`, the same in the unit of the labels;
        without, the score is as the model says it, in that unit: such as `1–5`, or `label` where
        no range is known.
    """
    if task.kind == "regression":
        if calibration is None:
            ends = task.label_range
            unit = "label" if ends is None else f"{ends[0]:g}–{ends[1]:g}"
            return {"score": logits.tolist(), "unit": [unit] * len(logits)}
        raw = logits.double().numpy()
        low, high = calibration.interval(raw)
        return {
            "score": calibration.percent(raw).tolist(),
            "unit": [PERCENT] * len(raw),
            "low": low.tolist(),
            "high": high.tolist(),
            "level": calibration.words(raw),
            "label_score": calibration.label_scale(raw).tolist(),
        }
    if threshold is None:
        threshold = 0.5
    if task.kind == "binary":
        p = logits.sigmoid()
        names = [task.classes[int(x >= threshold)] for x in p]
        return {"probability": p.tolist(), "prediction": names}
    p = logits.softmax(-1) if task.kind == "multiclass" else logits.sigmoid()
    columns = {f"p_{name}": p[:, i].tolist() for i, name in enumerate(task.classes)}
    if task.kind == "multiclass":
        names = [task.classes[int(i)] for i in p.argmax(-1)]
    else:
        chosen = p >= torch.as_tensor(threshold)
        names = [
            "|".join(n for n, on in zip(task.classes, row, strict=True) if on) for row in chosen
        ]
    return columns | {"prediction": names}


def decision_line(metadata: dict[str, Any]) -> str:
    """From which probability on a saved model says yes; empty where it does not decide by one.

    Args:
        metadata: of the model's folder, with `task` and `threshold`.
    """
    task = TaskSpec(**metadata["task"])
    if task.kind not in ("binary", "multilabel"):
        return ""
    threshold = metadata.get("threshold")
    why = "no other was stored" if threshold is None else "chosen on validation clips"
    threshold = 0.5 if threshold is None else threshold
    if task.kind == "binary":
        return f"prediction: {task.classes[1]} from a probability of {threshold:.3g} on, {why}"
    each = zip(task.classes, torch.as_tensor(threshold).expand(len(task.classes)), strict=True)
    shown = ", ".join(f"{name} {float(cut):.3g}" for name, cut in each)
    return f"prediction: labels from these probabilities on, {why}: {shown}"


def shown_lines(
    table: pandas.DataFrame, most: int = 20, coverage: float = COVERAGE
) -> Iterator[str]:
    """What to print of scores: their unit, and the first of them, a line each.

    Args:
        table: as `coefvq.predict` writes it.
        most: scores that are printed.
        coverage: of the interval, as the model's calibration says it.
    """
    good = table[table["problem"] == ""]
    if "unit" not in table or good.empty:
        return
    if "level" not in table:
        unit = good["unit"].iloc[0]
        what = "the labels' unit" if unit == "label" else f"the labels' unit, {unit}"
        yield f"scores are in {what}: this model has no calibration to {PERCENT}"
        return
    width = max(map(len, good["id"].head(most)))
    yield f"{'clip':<{width}}  score {PERCENT}, {coverage:.0%} interval, word"
    for row in good.head(most).itertuples():
        interval = f"{row.low:.0f}–{row.high:.0f}"
        yield f"{row.id:<{width}}  {row.score:5.1f}  ({interval})  {row.level}"
    if len(good) > most:
        yield f"… and {len(good) - most} more"


def problem_lines(table: pandas.DataFrame, most: int = 5) -> Iterator[str]:
    """Clips without a score and why, the first of them, a line each."""
    bad = table[table["problem"] != ""]
    yield from bad["problem"].head(most)
    if len(bad) > most:
        yield f"… and {len(bad) - most} more, see column problem"


__all__ = [
    "PERCENT",
    "calibration_of",
    "decision_line",
    "problem_lines",
    "score_columns",
    "shown_lines",
]
