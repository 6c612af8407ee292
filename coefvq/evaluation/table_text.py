"""A comparison table as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from coefvq.evaluation.report import plain
from coefvq.evaluation.report_page import METRIC_LABELS, table

if TYPE_CHECKING:
    from coefvq.evaluation.table import Cell, ComparisonTable, Row

MISSING = "missing"

COLUMNS = (
    *("label", "kind", "task", "metric", "n", "seeds_expected", "mean", "half_width"),
    *("difference", "difference_half_width", "difference_n"),
    *("gap_closed", "gap_low", "gap_high", "gap_n", "gap_reason"),
)


def to_markdown(comparison: ComparisonTable) -> str:
    """Write three blocks (metric, difference, share of the gap) and the notes.

    A cell names its number of seeds where that is not the full number.
    """
    n = len(comparison.seeds)
    names = list(dict.fromkeys(METRIC_LABELS.get(m, m) for m in comparison.metric.values()))
    methods = [row for row in comparison.rows if row.kind == "method"]
    others = [row for row in methods if row.label != comparison.baseline]
    parts = [
        f"## {' / '.join(names)} on the test split",
        f"Mean over {n} {'seed' if n == 1 else 'seeds'}"
        + (
            "; ± is half of the 95 % t-interval over seeds."
            if n > 1
            else "; one seed has no interval."
        ),
        _block(comparison, list(comparison.rows), lambda cell: _metric(cell, n)),
    ]
    if others and any(row.label == comparison.baseline for row in methods):
        parts += [
            f"## Difference to {comparison.baseline}",
            "Paired by seed, over the seeds that both have, with its 95 % t-interval.",
            _block(comparison, others, lambda cell: _difference(cell, n)),
            f"## Share of the gap between {comparison.baseline} and {comparison.teacher} closed",
            "Ratio of the mean gains over the seeds that all three have, with Fieller's 95 % "
            "interval.",
            _block(comparison, others, lambda cell: _gap(cell, n)),
        ]
        reasons = dict.fromkeys(
            f"{row.label} on {task}: {cell.gap.reason}"
            for row in others
            for task, cell in row.cells.items()
            if cell.values and cell.gap is not None and cell.gap.reason
        )
        if n > 1 and reasons:
            parts.append("\n".join(f"- {reason}" for reason in reasons))
    if comparison.notes:
        parts += ["## Notes", "\n".join(f"- {note}" for note in comparison.notes)]
    return "\n\n".join(parts) + "\n"


def to_csv(comparison: ComparisonTable) -> str:
    """Write one line per row and task; undefined numbers are empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in comparison.rows:
        for task, cell in row.cells.items():
            d, g = cell.difference, cell.gap
            numbers: list[object] = [cell.mean, cell.half_width]
            numbers += [d.mean, d.half_width, len(d.seeds)] if d else [""] * 3
            numbers += [g.value, g.low, g.high, len(g.seeds), g.reason] if g else [""] * 5
            metric = comparison.metric.get(task) or "/".join(
                dict.fromkeys(comparison.metric.values())
            )
            shown = ["" if isinstance(x, float) and math.isnan(x) else x for x in numbers]
            writer.writerow(
                [row.label, row.kind, task, metric, len(cell.values), cell.expected, *shown]
            )
    return text.getvalue()


def to_json(comparison: ComparisonTable) -> str:
    """Write everything; undefined numbers are null."""
    content = {
        **{f.name: getattr(comparison, f.name) for f in dataclasses.fields(comparison)},
        "rows": [
            {
                "label": row.label,
                "kind": row.kind,
                "cells": {task: _cell_dict(cell) for task, cell in row.cells.items()},
            }
            for row in comparison.rows
        ],
    }
    return json.dumps(plain(content), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _cell_dict(cell: Cell) -> dict[str, object]:
    content = {f.name: getattr(cell, f.name) for f in dataclasses.fields(cell)}
    for name in ("difference", "gap"):
        content[name] = None if content[name] is None else content[name]._asdict()
    return content


def _block(comparison: ComparisonTable, rows: list[Row], write: Callable[[Cell], str]) -> str:
    lines = [(row.label, *(write(row.cells[task]) for task in comparison.tasks)) for row in rows]
    return table(("method", *comparison.tasks), lines)


def _count(found: int, expected: int) -> str:
    return "" if found == expected else f" (n={found} of {expected})"


def _metric(cell: Cell, n: int) -> str:
    if not cell.values:
        return MISSING
    spread = "" if math.isnan(cell.half_width) else f" ± {cell.half_width:.3f}"
    return f"{cell.mean:.3f}{spread}{_count(len(cell.values), n)}"


def _difference(cell: Cell, n: int) -> str:
    difference = cell.difference
    if difference is None or not difference.seeds:
        return MISSING
    half = difference.half_width
    spread = "" if math.isnan(half) else f" ± {half:.3f}"
    return f"{difference.mean:+.3f}{spread}{_count(len(difference.seeds), n)}"


def _gap(cell: Cell, n: int) -> str:
    gap = cell.gap
    if gap is None or not gap.seeds:
        return MISSING
    if math.isnan(gap.value):
        return f"no gap{_count(len(gap.seeds), n)}"
    spread = "" if math.isnan(gap.low) else f" [{gap.low:.0%}, {gap.high:.0%}]"
    return f"{gap.value:.0%}{spread}{_count(len(gap.seeds), n)}"
