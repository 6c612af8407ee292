"""The picture of a training: every loss term over the steps."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coefvq.evaluation.figures import LINES, legend, one_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]
"""Logged values: each row has `step` (int), `name` (str) and `value` (float)."""


def read_history(path: str | Path) -> list[dict[str, Any]]:
    """Read a CSV logger's file (one column per name, blanks where nothing was logged) as `Rows`.

    A file that does not exist has no rows.
    """
    path = Path(path)
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {"step": int(float(line["step"])), "name": name, "value": float(value)}
            for line in csv.DictReader(file)
            if line.get("step")
            for name, value in line.items()
            if name not in ("step", "epoch", None) and value
        ]


def loss_figure(rows: Rows) -> Figure:
    """Draw every loss term over the steps: unweighted terms, and their weighted sum in black.

    Args:
        rows: names `train/loss`, `train/loss/<term>` and, dashed, the same under `val/`.
    """
    figure, axes = one_axes("Loss terms", "step", "loss (terms before their weights)")
    series: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        if row["name"].startswith(("train/loss", "val/loss")) and math.isfinite(row["value"]):
            series.setdefault(row["name"], []).append((row["step"], row["value"]))
    terms = list(dict.fromkeys(name.split("/", 1)[1] for name in series))
    terms.sort(key=lambda term: (term != "loss", term))
    if any(_same(series, ("loss", term)) for term in terms if term != "loss"):
        terms.remove("loss")  # a single term of weight 1 would lie on its own sum
    for k, term in enumerate(terms):
        colour = LINES[0] if term == "loss" else LINES[1 + (k - 1) % (len(LINES) - 1)]
        label = "weighted sum" if term == "loss" else term.removeprefix("loss/")
        if points := series.get(f"train/{term}"):
            steps, values = zip(*points, strict=True)
            smooth = _running_mean(values)
            if len(points) > 20:
                axes.plot(steps, values, color=colour, alpha=0.2, linewidth=0.8)
            else:
                smooth = list(values)
            axes.plot(steps, smooth, color=colour, linewidth=1.8, label=f"{label}, training")
        if points := series.get(f"val/{term}"):
            steps, values = zip(*points, strict=True)
            name = f"{label}, validation"
            axes.plot(steps, values, "o--", color=colour, linewidth=1.2, markersize=3.5, label=name)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]) if axes.get_ylim()[0] < 0 else 0.0)
    legend(axes)
    return figure


def _same(series: Mapping[str, list[tuple[int, float]]], terms: Sequence[str]) -> bool:
    """Whether two terms are one curve."""
    return all(
        series.get(f"{stage}/{terms[0]}") == series.get(f"{stage}/{terms[1]}")
        for stage in ("train", "val")
    )


def _running_mean(values: Sequence[float]) -> list[float]:
    """Centred mean over a twentieth of the curve."""
    half = max(1, len(values) // 40)
    windows = (values[max(0, i - half) : i + half + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]
