"""Rows of a manifest on their way to becoming clips, and what can be wrong with them."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coefvq.data.labels import LabelError, parse_label
from coefvq.data.manifest import Problem
from coefvq.data.splits import ALIASES, SPLITS
from coefvq.types import TaskKind, TaskSpec


@dataclass
class Row:
    """One row of a manifest file.

    Args:
        file: the manifest file.
        number: counted from 1, without the header.
        cells: values by column, only those that are needed.
        split: where the clip goes; None while that is open or unknown.
    """

    file: Path
    number: int
    cells: dict[str, Any]
    split: str | None = None

    def problem(self, text: str) -> Problem:
        """Say what is wrong with this row, and what to do."""
        return Problem(self.file, self.number, text)


def blank(value: Any) -> bool:
    """Whether a cell is empty."""
    return value is None or (isinstance(value, str) and not value.strip())


def missing_number(value: Any) -> bool:
    """Whether a privileged cell holds no number: empty or NaN."""
    return blank(value) or str(value).strip().lower() == "nan"


def take_id(row: Row, column: str, seen: dict[str, Row], problems: list[Problem]) -> str:
    """Read a clip's id, which nobody may have used before; `seen` collects them."""
    value = row.cells[column]
    if blank(value):
        problems.append(row.problem(f"{column} is empty; give every clip a unique id"))
        return ""
    identity = str(value).strip()
    if identity in seen:
        first = seen[identity]
        where = place_of(first, row)
        problems.append(
            row.problem(f"{column} {identity!r} is taken by {where}; give every clip its own")
        )
    seen.setdefault(identity, row)
    return identity


def place_of(row: Row, seen_from: Row) -> str:
    """Where a row is, for a message about another one."""
    return f"row {row.number}" + (f" of {row.file}" if row.file != seen_from.file else "")


def take_path(
    row: Row,
    column: str,
    root: Path | None,
    problems: list[Problem],
    *,
    allow_outside_root: bool,
    check_files: bool,
) -> Path:
    """Read a clip's path; without `root` it is relative to the manifest's folder."""
    value = row.cells[column]
    if blank(value):
        problems.append(row.problem(f"{column} is empty; give the clip's file"))
        return Path()
    written = Path(str(value).strip())
    base = root or row.file.absolute().parent
    # Without following links: a data set may be a folder of links into another disk.
    path = Path(os.path.normpath(base / written))
    free = allow_outside_root or (written.is_absolute() and root is None)
    if not free and not path.is_relative_to(os.path.normpath(base)):
        problems.append(
            row.problem(
                f"{column} {str(value)!r} leads out of {base}; correct it, or set "
                "data.allow_outside_root=true"
            )
        )
    elif check_files and not path.is_file():
        problems.append(
            row.problem(
                f"{column} {str(value)!r} is no file ({path}); correct it or data.root, or set "
                "data.on_bad_clip=skip"
            )
        )
    return path


def take_splits(
    rows: Sequence[Row], column: str, problems: list[Problem], files: Collection[str] = ()
) -> None:
    """Read the split of every row from a column.

    Args:
        rows: of the file whose rows may go anywhere.
        column: `train`, `val` or `test`, or another word for it.
        problems: gets what is wrong.
        files: splits that have a file of their own, which nothing here may be added to.

    Raises:
        ValueError: a row is put into such a split.
    """
    for row in rows:
        word = row.cells[column]
        row.split = ALIASES.get(str(word).strip().lower())
        if row.split is None:
            said = "is empty" if blank(word) else f"{word!r} is unknown"
            problems.append(row.problem(f"{column} {said}; write train, val or test"))
        elif row.split != "train" and row.split in files:
            raise ValueError(
                f"{row.file}, row {row.number}: column {column!r} puts it into {row.split}, but "
                f"data.{row.split} names a file of its own; leave out data.{row.split}, or set "
                "data.split=null to train on all rows of the first file"
            )


def unlabelled(row: Row, columns: Sequence[str]) -> bool:
    """Whether all label cells of a row are empty."""
    return all(blank(row.cells[column]) for column in columns)


def take_label(
    row: Row, columns: Sequence[str], task: TaskSpec, problems: list[Problem]
) -> float | int | tuple[int, ...] | None:
    """Read a clip's label; None where it has none, which only training clips may.

    Args:
        row: the row.
        columns: one column, or for multilabel one column of 0/1 per label.
        task: what labels mean.
        problems: collects what is wrong.
    """
    if unlabelled(row, columns):
        if row.split in ("val", "test"):
            problems.append(
                row.problem(
                    f"{columns[0]} is empty in the {row.split} split; label the clip or move it "
                    "to train"
                )
            )
        return None
    if len(columns) == 1:
        label = _parse(row, columns[0], task.kind, task.classes, problems)
        if task.label_range is not None and label is not None:
            low, high = task.label_range
            if not low <= label <= high:
                problems.append(
                    row.problem(
                        f"{columns[0]} {row.cells[columns[0]]!r} is outside "
                        f"data.label_range=[{low:g}, {high:g}]; correct the score or the range"
                    )
                )
                return None
        return label
    marks = [_parse(row, column, "binary", ("0", "1"), problems) for column in columns]
    return None if None in marks else tuple(int(mark) for mark in marks)


def _parse(
    row: Row, column: str, kind: TaskKind, classes: Sequence[str], problems: list[Problem]
) -> Any:
    value = row.cells[column]
    try:
        if blank(value):
            raise LabelError("is missing where other labels are given; write 0 or 1")
        return parse_label(value, kind, classes)
    except LabelError as error:
        problems.append(row.problem(f"{column} {value!r} {error}"))
        return None


def take_number(row: Row, column: str, problems: list[Problem], *, log1p: bool) -> float:
    """Read a privileged feature; NaN where it is missing."""
    value = row.cells[column]
    if blank(value):
        return math.nan
    try:
        number = float(value)
    except (TypeError, ValueError):
        problems.append(
            row.problem(
                f"{column} {value!r} is not a number; leave the cell empty where it is missing"
            )
        )
        return math.nan
    if math.isinf(number):
        problems.append(
            row.problem(f"{column} is infinite; leave the cell empty where it is missing")
        )
    elif log1p and number < 0:
        problems.append(
            row.problem(f"{column} {value!r} is negative; correct it or take it out of data.log1p")
        )
    return number


def check_splits(rows: Sequence[Row], file: Path, trained: bool = False) -> Iterator[Problem]:
    """Yield a problem for each split without clips; `trained` models need none to train on."""
    present = {row.split for row in rows}
    for split in SPLITS[1:] if trained else SPLITS:
        if split not in present:
            yield Problem(
                file,
                None,
                f"the {split} split is empty; add clips to it, or give data.{split} or "
                "data.split=null",
            )


def check_privileged(rows: Sequence[Row], file: Path, names: Sequence[str]) -> Iterator[Problem]:
    """Yield a problem for each privileged column without a number in the training split."""
    train = [row for row in rows if row.split == "train"]
    for name in names:
        if train and all(missing_number(row.cells[name]) for row in train):
            yield Problem(
                file,
                None,
                f"privileged column {name!r} is missing in every training clip; take it out of "
                "data.privileged",
            )


def check_files_of_splits(rows: Sequence[Row], paths: Sequence[Path]) -> Iterator[Problem]:
    """Yield a problem for each file that is in several splits, under whatever ids.

    Args:
        rows: of all files.
        paths: of the rows' clips.
    """
    firsts: dict[str, Row] = {}
    for row, path in zip(rows, paths, strict=True):
        if path == Path() or row.split is None:
            continue
        first = firsts.setdefault(os.path.realpath(path), row)
        if first.split != row.split:
            yield row.problem(
                f"its file {path.name} is in the {row.split} split and, as {place_of(first, row)}, "
                f"in {first.split}; keep it in one split, with data.group=… where splits are "
                "assigned"
            )


def check_groups(rows: Sequence[Row], column: str) -> Iterator[Problem]:
    """Yield a problem for each group that is in several splits."""
    firsts: dict[str, dict[str, Row]] = {}
    for row in rows:
        if row.split is not None and not blank(row.cells.get(column)):
            firsts.setdefault(str(row.cells[column]), {}).setdefault(row.split, row)
    for group, found in firsts.items():
        if len(found) > 1:
            places = " and ".join(f"{split} (row {row.number})" for split, row in found.items())
            last = list(found.values())[-1]
            yield last.problem(f"group {group!r} is in {places}; keep it in one split")


__all__ = [
    "Row",
    "blank",
    "check_files_of_splits",
    "check_groups",
    "check_privileged",
    "check_splits",
    "missing_number",
    "place_of",
    "take_id",
    "take_label",
    "take_number",
    "take_path",
    "take_splits",
    "unlabelled",
]
