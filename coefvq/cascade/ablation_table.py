"""Calibrators side by side, of one cascade or over seeds: for people, and as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coefvq.evaluation.gap import mean_interval
from coefvq.evaluation.markdown import METRIC_LABELS, table

METRICS = ("recall_at_precision_80", "f1", "average_precision", "accuracy")
NAME = "calibrators"


@dataclass(frozen=True)
class AblationTable:
    """Rows of `coefvq.cascade.ablation.calibration_ablation`, with where they are from.

    Args:
        rows: each with `label`, `task` and `seed` added.
    """

    rows: tuple[dict[str, Any], ...]

    def to_markdown(self) -> str:
        """Means over seeds, with the half-width of their 95 % interval where there are several."""
        lines = ["# Calibrators", ""]
        for label, task in dict.fromkeys((r["label"], r["task"]) for r in self.rows):
            own = [r for r in self.rows if (r["label"], r["task"]) == (label, task)]
            known: dict[str, Any] = next((r["metrics"] for r in own if "metrics" in r), {})
            names = [n for n in METRICS if n in known]
            seeds = len({r["seed"] for r in own})
            lines += [f"## {label}, {task}, {seeds} seed{'s' if seeds > 1 else ''}", ""]
            header = (
                "calibrator", "deferred", *(METRIC_LABELS.get(n, n) for n in names),
                "calibration error, all", "calibration error, deferred",
            )  # fmt: skip
            body = []
            for kind in dict.fromkeys(r["calibrator"] for r in own):
                at = [r for r in own if r["calibrator"] == kind and "problem" not in r]
                body.append(
                    [
                        kind,
                        _mean([r["deferred"] for r in at]),
                        *(_mean([r["metrics"].get(n) or 0.0 for r in at]) for n in names),
                        _mean([r["everywhere"] for r in at]),
                        _mean([r["inside"] for r in at]),
                    ]
                )
            lines += [table(header, body), ""]
            said = (f"{r['calibrator']}: {r['problem']}" for r in own if "problem" in r)
            lines += [word for line in dict.fromkeys(said) for word in (line, "")]
        budgets = ", ".join(f"{b:.0%}" for b in sorted({r["budget"] for r in self.rows}))
        weighted = any(r.get("weighted") for r in self.rows)
        lines += [
            f"Both models are calibrated alike, on validation clips; budget {budgets}. A metric "
            "that is undefined (no threshold reaches the precision) counts as 0."
            + (" Test clips are weighted to the serving prevalence." if weighted else ""),
        ]
        return "\n".join(lines) + "\n"

    def to_csv(self) -> str:
        """One line per label, task, seed and calibrator."""
        out = io.StringIO()
        names = sorted({name for r in self.rows for name in r.get("metrics", {})})
        first = ["label", "task", "seed", "calibrator", "budget", "deferred"]
        columns = [*first, *names, "everywhere", "inside", "problem"]
        writer = csv.DictWriter(out, columns, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        for row in self.rows:
            writer.writerow(row | row.get("metrics", {}))
        return out.getvalue()

    def write(self, folder: str | Path) -> list[Path]:
        """Write `calibrators.md` and `calibrators.csv`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{NAME}.md", folder / f"{NAME}.csv"]
        for path, text in zip(paths, (self.to_markdown(), self.to_csv()), strict=True):
            path.write_text(text, encoding="utf-8")
        return paths


def ablation_table(reports: Sequence[Mapping[str, Any]]) -> AblationTable | None:
    """Collect the calibrators of many reports; None where none has any.

    Args:
        reports: `report.json` of runs whose cascade was fitted, each with its `label`.
    """
    rows = []
    for report in reports:
        for row in report.get("cascade", {}).get(NAME, ()):
            label = report.get("label") or report["recipe"]
            own = {"label": label, "task": report["task"], "seed": report["seed"]}
            rows.append({**own, **row})
    return AblationTable(tuple(rows)) if rows else None


def _mean(values: Sequence[float | None]) -> str:
    known = [v for v in values if v is not None]
    if not known:
        return "-"
    found = mean_interval(known)
    spread = "" if math.isnan(found.half_width) else f" ± {found.half_width:.3f}"
    return f"{found.mean:.3f}{spread}"
