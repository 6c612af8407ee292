"""Cells of a pair table that say yes or no: labels and sub-labels."""

from __future__ import annotations

from coefvq.data.labels import LabelError, parse_label
from coefvq.data.manifest import Problem
from coefvq.data.rows import Row, blank


def take_mark(row: Row, column: str, problems: list[Problem]) -> float | None:
    """Read 1 or 0 (also true and false); None where the cell is empty, or is wrong.

    Args:
        row: of the pair table.
        column: which cell.
        problems: collects what is wrong.
    """
    value = row.cells.get(column)
    if blank(value):
        return None
    try:
        return float(parse_label(value, "binary", ("0", "1")))  # type: ignore[arg-type]
    except LabelError:
        problems.append(
            row.problem(f"{column} {value!r} is not 1 or 0; correct it, or leave the cell empty")
        )
        return None


def take_pair_label(row: Row, column: str, problems: list[Problem]) -> float | None:
    """Read a pair's label; None where it has none, which only training pairs may.

    Args:
        row: of the pair table, with its split.
        column: the label's.
        problems: collects what is wrong.
    """
    if blank(row.cells[column]) and row.split in ("val", "test"):
        problems.append(
            row.problem(
                f"{column} is empty in the {row.split} split; label the pair or move it to train"
            )
        )
    return take_mark(row, column, problems)


__all__ = ["take_mark", "take_pair_label"]
