"""What a cascade is worth at every budget, over seeds: one table from many reports."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from coefvq.evaluation.gap import Interval, mean_interval
from coefvq.evaluation.markdown import METRIC_LABELS, table

METRICS = ("recall_at_precision_80", "f1", "average_precision", "accuracy")
"""Columns, where the task has them."""


@dataclass(frozen=True)
class BudgetRow:
    """One cascade of one seed at one budget.

    Args:
        label: the comparison's row.
        task: which task.
        seed: which seed.
        budget: share of traffic that the heavy model may see; 0 is the light model alone, 1 the
            heavy one.
        deferred: share of test clips that it saw.
        metrics: of the system on test clips.
        cost: seconds per 1 000 clips; None if not measured.
    """

    label: str
    task: str
    seed: int
    budget: float
    deferred: float
    metrics: dict[str, float]
    cost: float | None


@dataclass(frozen=True)
class BudgetTable:
    """What `python -m coefvq.compare` writes beside its table where runs have a cascade.

    Args:
        rows: in the order of the reports, budgets rising.
        unit: of the cost.
        share: what counts as "as good as the heavy model": this share of its metric.
    """

    rows: tuple[BudgetRow, ...]
    unit: str = "seconds"
    share: float = 0.99

    def enough(self, label: str, task: str, metric: str = "f1") -> dict[int, float]:
        """Return by seed the smallest budget whose metric is at least `share` of the heavy model's.

        Budgets are those of the table; without interpolation, so an upper bound. A seed whose heavy
        model has a metric of 0 or none is left out.
        """
        found: dict[int, float] = {}
        own = [r for r in self.rows if (r.label, r.task) == (label, task) and metric in r.metrics]
        for seed in dict.fromkeys(r.seed for r in own):
            curve = sorted((r for r in own if r.seed == seed), key=lambda r: r.budget)
            goal = self.share * curve[-1].metrics[metric]
            if curve[-1].budget == 1.0 and goal > 0:
                found[seed] = next(r.budget for r in curve if r.metrics[metric] >= goal)
        return found

    def to_markdown(self) -> str:
        """Write it for people: means over seeds with their 95 % interval."""
        lines = ["# Cascades at every budget", ""]
        for label, task in dict.fromkeys((r.label, r.task) for r in self.rows):
            own = [r for r in self.rows if (r.label, r.task) == (label, task)]
            names = [name for name in METRICS if name in own[0].metrics]
            seeds = sorted({r.seed for r in own})
            lines += [f"## {label}, {task}, {_count(len(seeds))}", ""]
            body = []
            for budget in sorted({r.budget for r in own}):
                at = [r for r in own if r.budget == budget]
                body.append(
                    [
                        _name(budget),
                        f"{sum(r.deferred for r in at) / len(at):.1%}",
                        *(_mean([r.metrics[name] for r in at]) for name in names),
                        _mean([r.cost for r in at], digits=1),
                    ]
                )
            header = ("budget", "deferred", *(METRIC_LABELS.get(n, n) for n in names))
            lines += [table((*header, f"{self.unit} / 1 000 clips"), body), ""]
            if "f1" in names:
                lines += [self._enough_sentence(label, task), ""]
        lines += [
            "± is the half-width of a 95 % interval over seeds. A metric that is undefined for a "
            "seed (no threshold reaches the precision) counts as 0.",
        ]
        return "\n".join(lines) + "\n"

    def _enough_sentence(self, label: str, task: str) -> str:
        found = self.enough(label, task)
        if not found:
            return f"The heavy model has no F1 above 0, so no budget has {self.share:.0%} of it."
        each = ", ".join(f"{budget:.1%} (seed {seed})" for seed, budget in found.items())
        return f"Smallest budget with {self.share:.0%} of the heavy model's F1: {each}."

    def to_csv(self) -> str:
        """Write one line per label, task, seed and budget."""
        out = io.StringIO()
        names = sorted({name for r in self.rows for name in r.metrics})
        columns = ["label", "task", "seed", "budget", "deferred", *names, "cost"]
        writer = csv.DictWriter(out, columns, lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            values = asdict(row)
            writer.writerow(values.pop("metrics") | values)
        return out.getvalue()

    def write(self, folder: str | Path) -> tuple[Path, Path]:
        """Write `cascades.md` and `cascades.csv` into a folder."""
        paths = Path(folder) / "cascades.md", Path(folder) / "cascades.csv"
        for path, text in zip(paths, (self.to_markdown(), self.to_csv()), strict=True):
            path.write_text(text, encoding="utf-8")
        return paths


def budget_table(reports: Sequence[Mapping[str, Any]]) -> BudgetTable | None:
    """Collect the curves of all reports that have a cascade; None if none has.

    Args:
        reports: of finished runs: `label` (else `recipe`), `task`, `seed`, `cascade.curve`.
    """
    rows: list[BudgetRow] = []
    unit = "seconds"
    for report in reports:
        figures = report.get("cascade")
        if not figures:
            continue
        unit = (figures.get("cost") or {}).get("unit", unit)
        rows += [
            BudgetRow(
                str(report.get("label") or report["recipe"]),
                str(report["task"]),
                int(report["seed"]),
                float(point["budget"]),
                float(point["deferred"]),
                {name: _number(value) for name, value in point["metrics"].items()},
                point["seconds_per_1000"],
            )
            for point in figures["curve"]
        ]
    return BudgetTable(tuple(rows), unit) if rows else None


def _number(value: float | None) -> float:
    return 0.0 if value is None or math.isnan(value) else float(value)


def _name(budget: float) -> str:
    names = {0.0: "0 % (light alone)", 1.0: "100 % (heavy asked about all)"}
    return names.get(budget, f"{100 * budget:g} %")


def _count(seeds: int) -> str:
    return "one seed" if seeds == 1 else f"{seeds} seeds"


def _mean(values: Sequence[float | None], digits: int = 3) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "not measured"
    found: Interval = mean_interval(known)
    spread = "" if math.isnan(found.half_width) else f" ± {found.half_width:.{digits}f}"
    return f"{found.mean:.{digits}f}{spread}"


__all__ = ["METRICS", "BudgetRow", "BudgetTable", "budget_table"]
