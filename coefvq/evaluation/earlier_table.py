"""A comparison's table is kept when another comparison is written into its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from coefvq.evaluation.table import ComparisonTable

ENDINGS = ("md", "csv", "json")


def set_aside(folder: str | Path, table: ComparisonTable) -> Path | None:
    """Rename a folder's `table.*` to `table-1.*`, … if the new table would lose any of its values.

    A comparison that goes on, or has more rows, seeds or tasks than before, replaces its own.

    Args:
        folder: where `table` is about to be written.
        table: the new one.

    Returns:
        The old table's new name, ending in `.md`; None where nothing is lost.
    """
    old = Path(folder) / "table.json"
    if not old.exists():
        return None
    try:
        content = json.loads(old.read_text(encoding="utf-8"))
        lost = not _values(content) <= _values(json.loads(table.to_json()))
    except (ValueError, KeyError, TypeError, AttributeError):  # nothing that we can read: kept
        lost = True
    if not lost:
        return None
    number = 1
    while any((old.parent / f"table-{number}.{ending}").exists() for ending in ENDINGS):
        number += 1
    for ending in ENDINGS:
        if (file := old.with_suffix(f".{ending}")).exists():
            file.rename(old.parent / f"table-{number}.{ending}")
    return old.parent / f"table-{number}.md"


def _values(content: dict[str, Any]) -> set[tuple[str, str, str, str]]:
    """What is told apart: label, task, its metric, seed."""
    return {
        (row["label"], task, content["metric"].get(task, ""), str(seed))
        for row in content["rows"]
        for task, cell in row["cells"].items()
        for seed in cell["values"]
    }


__all__ = ["ENDINGS", "set_aside"]
