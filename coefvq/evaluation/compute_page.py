"""What a report says of the cost of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coefvq.evaluation.markdown import table


def compute_lines(report: Mapping[str, Any]) -> list[str]:
    """Paragraphs on the cost of a clip or a pair, by model; empty where none was measured.

    Args:
        report: of a run, with `compute` as `coefvq.costs.costs` gives it; what runs of earlier
            versions lack is left blank.
    """
    costs = report.get("compute") or {}
    if not costs:
        return []
    unit = "pair" if report.get("pairs") else "clip"
    first = next(iter(costs.values()))
    frames = f", {first['frames']} frames a clip" if "frames" in first else ""
    rows = [
        (
            name.replace("_", " "),
            f"{c['parameters'] / 1e6:.2f}" if "parameters" in c else "",
            f"{c['gflop']:.3f}",
            f"{c['ms']:.2f}",
        )
        for name, c in costs.items()
    ]
    parts = [
        f"### Cost of a {unit}",
        table(("model", "parameters, M", "GFLOP", "ms here"), rows),
        f"On decoded frames{frames}, {first['batch']} {unit}s at a time.",
    ]
    if any(c.get("privileged") for c in costs.values()):
        parts[-1] += " What it takes to compute the teacher's privileged features is not counted."
    return parts


__all__ = ["compute_lines"]
