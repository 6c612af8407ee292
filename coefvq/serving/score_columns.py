"""From logits to the columns of a table of scores, and to the lines that are printed of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas
import torch
from torch import Tensor

from coefvq.evaluation.score_calibration import ScoreCalibration
from coefvq.types import TaskSpec


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
        Regression: `score` as the model says it; with a calibration `score`, `low` and `high` from
        0 to 100, `level` in words, and `label_score`, the same in the unit of the labels.
    """
    if task.kind == "regression":
        if calibration is None:
            return {"score": logits.tolist()}
        raw = logits.double().numpy()
        low, high = calibration.interval(raw)
        return {
            "score": calibration.percent(raw).tolist(),
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


def shown_lines(table: pandas.DataFrame, most: int = 20) -> Iterator[str]:
    """The first scores with their unit, a line each."""
    if "level" not in table:
        return
    good = table[table["problem"] == ""].head(most)
    width = max(map(len, good["id"]), default=0)
    for row in good.itertuples():
        interval = f"{row.low:.0f}–{row.high:.0f}"
        yield f"{row.id:<{width}}  {row.score:5.1f}  ({interval})  {row.level}"
    if len(table) > most:
        yield "…"


__all__ = ["calibration_of", "decision_line", "score_columns", "shown_lines"]
