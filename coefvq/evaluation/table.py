"""One table from many reports: methods × tasks, over seeds, against a baseline and the teacher."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coefvq.evaluation.gap import (
    Difference,
    GapClosed,
    gap_closed_over_seeds,
    mean_interval,
    paired_difference,
)
from coefvq.evaluation.metrics import higher_is_better
from coefvq.evaluation.same_clips import different_data
from coefvq.evaluation.table_text import to_csv, to_json, to_markdown
from coefvq.evaluation.teachers import TeacherIndex

MEAN = "mean of tasks"
"""The column that averages the tasks, over the seeds that every task has. Only for one metric."""

Values = dict[int, float]
"""Metric by seed."""


@dataclass(frozen=True)
class Cell:
    """One row and one task.

    Args:
        values: the metric by seed, defined ones only.
        expected: how many seeds the comparison has.
        mean: over the seeds of `values`; NaN without any.
        half_width: of its 95 % interval over seeds; NaN for one seed.
        difference: to the baseline, paired by seed; None for the baseline itself.
        gap: share of the teacher–baseline gap closed; None for teachers and the baseline.
    """

    values: Values
    expected: int
    mean: float
    half_width: float
    difference: Difference | None = None
    gap: GapClosed | None = None


@dataclass(frozen=True)
class Row:
    """One method (or teacher) over all tasks.

    Args:
        label: what it is called.
        kind: `"method"` or `"teacher"`.
        cells: by task, `MEAN` last where there are several tasks.
    """

    label: str
    kind: str
    cells: dict[str, Cell]


@dataclass(frozen=True)
class ComparisonTable:
    """What `python -m coefvq.compare` writes.

    Args:
        metric: by task: its name in the reports, such as `f1`.
        baseline: label of the row that differences and gaps are measured from.
        teacher: name of the teacher at the other end of the gap.
        tasks: columns, `MEAN` last where there are several.
        seeds: every seed of the comparison.
        rows: methods in the order given, then teachers.
        notes: whatever a reader must know: missing runs, mixed data, ambiguous teachers.
    """

    metric: dict[str, str]
    baseline: str
    teacher: str
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    def to_markdown(self) -> str:
        """Write it for people: the metric, the differences, the shares of the gap, the notes."""
        return to_markdown(self)

    def to_csv(self) -> str:
        """Write one line per row and task."""
        return to_csv(self)

    def to_json(self) -> str:
        """Write everything, the values of single seeds included; undefined numbers are null."""
        return to_json(self)

    def write(self, folder: str | Path) -> tuple[Path, Path, Path]:
        """Write `table.md`, `table.csv` and `table.json` into a folder, made if missing."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        texts = {"md": self.to_markdown(), "csv": self.to_csv(), "json": self.to_json()}
        paths = tuple(folder / f"table.{ending}" for ending in texts)
        for path, text in zip(paths, texts.values(), strict=True):
            path.write_text(text, encoding="utf-8")
        return paths[0], paths[1], paths[2]


def comparison_table(
    reports: Sequence[Mapping[str, Any]],
    *,
    baseline: str = "supervised",
    teacher: str = "df_xvlm",
    metric: str | None = None,
    labels: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
) -> ComparisonTable:
    """Build the table from the reports of finished runs.

    Only equal seeds are ever compared: a difference uses the seeds that both rows have, a share of
    the gap those that the row, the baseline and the teacher have, the mean of tasks those for which
    every task has a value. Each says how many that is.

    Args:
        reports: each with `label` (else `recipe`), `task`, `seed`, `test.student` or
            `test.teacher`, and `teacher_name`, `teacher_fingerprint`, `data_fingerprint`.
        baseline: label of the row to compare with.
        teacher: the `teacher_name` at the other end of the gap. Other teachers, such as the one of
            self-distillation, get a row of their own and no say in the gap.
        metric: name in `test.student`; None: `f1`, and `srcc` where a task's reports have that.
        labels: rows to show, runs or no runs; None: those that occur, in order of appearance.
        tasks: columns to show; None likewise.
        seeds: seeds that every row should have; None: those that occur.

    Raises:
        ValueError: no report, a report without task or seed, or two of one label, task and seed.
    """
    if not reports:
        raise ValueError("a comparison needs at least one report, got none; run a recipe first")
    runs = _index(reports)
    labels = list(labels or dict.fromkeys(key[0] for key, r in runs.items() if _student(r)))
    tasks = list(tasks or dict.fromkeys(task for _, task, _ in runs))
    seeds = sorted(set(seeds or (seed for *_, seed in runs)))
    metrics = {task: metric or _metric(task, runs) for task in tasks}
    # An F1 and a rank correlation have no common mean.
    columns = [*tasks, MEAN] if len(tasks) > 1 and len(set(metrics.values())) == 1 else tasks
    teachers = TeacherIndex(reports, metrics)

    by_row = {
        label: {
            task: _defined(
                {s: _value(runs.get((label, task, s)), "student", metrics[task]) for s in seeds}
            )
            for task in tasks
        }
        for label in labels
    }
    rows = []
    for label in labels:
        cells = {}
        for column in columns:
            own = _column(by_row[label], column, tasks)
            base = _column(by_row.get(baseline, {}), column, tasks)
            top = _column(
                {t: teachers.values_for(teacher, label, t, seeds) for t in tasks}, column, tasks
            )
            up = higher_is_better(metrics[tasks[0] if column == MEAN else column])
            cells[column] = _cell(own, len(seeds), None if label == baseline else (base, top), up)
        rows.append(Row(label, "method", cells))
    for name, values in teachers.rows(tasks):
        cells = {c: _cell(_column(values, c, tasks), len(seeds), None, True) for c in columns}
        rows.append(Row(name, "teacher", cells))
    notes = [*_notes(rows, tasks, seeds, baseline, teacher, runs), *teachers.notes(teacher)]
    return ComparisonTable(
        metrics, baseline, teacher, tuple(columns), tuple(seeds), tuple(rows), tuple(notes)
    )


Runs = dict[tuple[str, str, int], Mapping[str, Any]]


def _index(reports: Iterable[Mapping[str, Any]]) -> Runs:
    runs: Runs = {}
    for report in reports:
        label = report.get("label") or report.get("recipe")
        if label is None or report.get("task") is None or report.get("seed") is None:
            raise ValueError(
                f"a report with label {label!r}, task {report.get('task')!r} and seed "
                f"{report.get('seed')!r} cannot be placed in the table; it needs all three"
            )
        key = (str(label), str(report["task"]), int(report["seed"]))
        if key in runs:
            raise ValueError(
                f"two reports of {key[0]!r} on task {key[1]!r} with seed {key[2]}; "
                "remove one or give it another label"
            )
        runs[key] = report
    return runs


def _student(report: Mapping[str, Any]) -> Mapping[str, Any]:
    return (report.get("test") or {}).get("student") or {}


def _metric(task: str, runs: Runs) -> str:
    found = (
        name
        for (_, t, _), report in runs.items()
        if t == task
        for part in (report.get("test") or {}).values()
        if isinstance(part, Mapping)
        for name in part
    )
    return "srcc" if "srcc" in found else "f1"


def _value(report: Mapping[str, Any] | None, who: str, metric: str) -> float:
    value = None if report is None else ((report.get("test") or {}).get(who) or {}).get(metric)
    return math.nan if value is None else float(value)


def _defined(values: Values) -> Values:
    return {seed: value for seed, value in values.items() if not math.isnan(value)}


def _column(by_task: Mapping[str, Values], column: str, tasks: Sequence[str]) -> Values:
    """Values of one task, or per seed the mean over tasks where every task has the seed."""
    if column != MEAN:
        return by_task.get(column, {})
    sides = [by_task.get(task, {}) for task in tasks]
    common = sorted(set.intersection(*(set(side) for side in sides)))
    return {seed: math.fsum(side[seed] for side in sides) / len(sides) for seed in common}


def _cell(own: Values, expected: int, ends: tuple[Values, Values] | None, up: bool) -> Cell:
    mean, half_width = mean_interval(list(own.values()))
    if ends is None:
        return Cell(own, expected, mean, half_width)
    base, top = ends
    return Cell(
        own,
        expected,
        mean,
        half_width,
        paired_difference(own, base),
        gap_closed_over_seeds(base, own, top, higher_is_better=up),
    )


def _notes(
    rows: Sequence[Row],
    tasks: Sequence[str],
    seeds: Sequence[int],
    baseline: str,
    teacher: str,
    runs: Runs,
) -> list[str]:
    notes = []
    if baseline not in {row.label for row in rows if row.kind == "method"}:
        notes.append(f"no run of the baseline {baseline!r}: no difference and no share of the gap")
    if teacher not in {r.get("teacher_name") for r in runs.values()}:
        notes.append(f"no run with the teacher {teacher!r}: no share of the gap")
    for row in rows:
        if row.kind == "teacher":
            continue
        for task in tasks:
            gone = [s for s in seeds if (row.label, task, s) not in runs]
            undefined = [s for s in seeds if s not in row.cells[task].values and s not in gone]
            if gone:
                notes.append(f"missing: {row.label} on {task}, seeds {_listed(gone)}")
            if undefined:
                notes.append(f"undefined metric: {row.label} on {task}, seeds {_listed(undefined)}")
    for task in tasks:
        notes += different_data(task, seeds, runs)
    return notes


def _listed(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, seeds))
