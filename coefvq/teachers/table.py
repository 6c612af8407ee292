"""A teacher that is a table: class probabilities or scores that somebody else computed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor

from coefvq.types import Batch, TaskSpec, TeacherOutput

TableKind = Literal["probabilities", "logits"]
"""What the numbers of a table are."""

EPSILON = 1e-6
"""Probabilities are moved this far from 0 and 1: logits of at most 13.8, so that no loss becomes
infinite over an API that rounds to two digits."""

SUM_TOLERANCE = 0.01
"""How far the probabilities of a row may sum from 1: what rounding to two digits explains."""

_SINGLE = {"probabilities": ("probability", "score"), "logits": ("logit", "score")}


class TableTeacher:
    """Look up what a table says of each clip; no model is in memory.

    Args:
        ids: N clip ids.
        logits: (N,), (N, C) or (N, L) float32, as `TaskSpec` says.

    Raises:
        ValueError: an id stands there twice, or the two differ in length.
    """

    def __init__(self, ids: Sequence[str], logits: Tensor) -> None:
        if len(ids) != len(logits):
            raise ValueError(f"got {len(ids)} ids for {len(logits)} rows of logits; give one each")
        _refuse_twice(ids, range(len(ids)), "the teacher's table")
        self.logits = logits
        self._row = {name: row for row, name in enumerate(ids)}

    @classmethod
    def from_columns(
        cls,
        columns: Mapping[str, Sequence[Any]],
        task: TaskSpec,
        *,
        kind: TableKind = "probabilities",
        id_column: str = "id",
        wanted: Collection[str] = (),
        source: str = "the teacher's table",
    ) -> Self:
        """Check a whole table and make a teacher of it.

        | task       | columns beside the ids                                                     |
        |------------|----------------------------------------------------------------------------|
        | binary     | one, `probability` (`logit` for logits) or `score`, of the second class;   |
        |            | or two, called like the classes                                            |
        | multiclass | one for each class, called like it                                         |
        | multilabel | one for each label, called like it                                         |
        | regression | `score`; whatever `kind` says, it is taken as it is                        |

        Other columns are not read. Probabilities become logits: log p - log(1 - p) for binary and
        multilabel, log p for multiclass, with p kept `EPSILON` away from 0 and 1. Two columns of
        logits become one by their difference.

        Args:
            columns: values by column name, all of one length; text that reads as a number will do.
            task: what is asked.
            kind: what the numbers are.
            id_column: the column of clip ids.
            wanted: ids that must be there; other rows are not read. Empty: all rows are.
            source: what errors call the table.

        Raises:
            ValueError: a column or an id is missing, an id stands there twice, or a value is not a
                finite number, outside [0, 1], or in a row whose probabilities don't sum to 1.
        """
        if kind not in get_args(TableKind):
            raise ValueError(
                f"kind {kind!r} is unknown; choose one of {', '.join(get_args(TableKind))}"
            )
        everyone = _ids(columns, id_column, source)
        names = _class_columns(columns, task, kind, id_column, source)
        asked = set(wanted)
        rows = [row for row, name in enumerate(everyone) if not asked or name in asked]
        _refuse_twice(everyone, rows, source)
        values = torch.tensor(
            [[_number(columns[n][row], row, everyone, n, source) for n in names] for row in rows],
            dtype=torch.float64,
        ).reshape(len(rows), len(names))
        ids = [everyone[row] for row in rows]
        if kind == "probabilities" and task.kind != "regression":
            _check_probabilities(values, ids, rows, names, task, source)
        teacher = cls(ids, _logits(values, task, kind).float())
        missing = sorted(asked - set(ids))
        if missing:
            raise ValueError(
                f"{source} has no row for {len(missing)} of {len(set(wanted))} clips, the first: "
                f"{missing[:5]}; add them, or take these clips out of the data (the table's ids "
                f"look like {everyone[:2]})"
            )
        return teacher

    def __len__(self) -> int:
        return len(self._row)

    def __call__(self, batch: Batch) -> TeacherOutput:
        """Logits of every clip of the batch, on its device.

        Raises:
            ValueError: the table has no row for a clip.
        """
        lost = [name for name in batch.ids if name not in self._row]
        if lost:
            raise ValueError(
                f"the teacher's table has no row for clip {lost[0]!r} ({len(lost)} of "
                f"{len(batch)} in this batch); add it, or take the clip out of the data"
            )
        rows = torch.tensor([self._row[name] for name in batch.ids], dtype=torch.long)
        return TeacherOutput(self.logits[rows].to(batch.device))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of ids and logits; the order of the rows does not matter."""
        digest = hashlib.sha256()
        for name in sorted(self._row):
            digest.update(name.encode() + b"\0")
            digest.update(self.logits[self._row[name]].contiguous().numpy().tobytes())
        return digest.hexdigest()


def _ids(columns: Mapping[str, Sequence[Any]], id_column: str, source: str) -> list[str]:
    if id_column not in columns:
        raise ValueError(
            f"{source} has no column {id_column!r} with the ids of the clips; its columns are "
            f"{sorted(columns)}: name the one with the ids as teacher.id_column"
        )
    if not columns[id_column]:
        raise ValueError(f"{source} has no row; write one row per clip")
    empty = [row for row, value in enumerate(columns[id_column]) if value is None]
    if empty:
        raise ValueError(f"{source}: row {empty[0] + 1} has no {id_column}; write the clip's id")
    return [str(value) for value in columns[id_column]]


def _refuse_twice(ids: Sequence[str], rows: Iterable[int], source: str) -> None:
    seen: dict[str, int] = {}
    for row in rows:
        if ids[row] in seen:
            raise ValueError(
                f"id {ids[row]!r} stands in {source} twice, in rows {seen[ids[row]] + 1} and "
                f"{row + 1}; keep one of them"
            )
        seen[ids[row]] = row


def _class_columns(
    columns: Mapping[str, Sequence[Any]], task: TaskSpec, kind: str, id_column: str, source: str
) -> list[str]:
    """Names of the columns to read, in the order of the logits."""
    single = {"regression": ("score",), "binary": _SINGLE[kind]}.get(task.kind, ())
    found = [name for name in single if name in columns]
    named = [name for name in task.classes if name in columns]
    if len(found) + bool(named) > 1:
        raise ValueError(
            f"{source} has the columns {found + named}, and each says what the teacher thinks; "
            "keep one of them, or the two that are called like the classes"
        )
    if found:
        return found
    if named and len(named) == len(task.classes):
        return named
    wanted = [f"{' or '.join(map(repr, single))}"] if single else []
    wanted += [f"one for each class: {list(task.classes)}"] if task.classes else []
    lost = [name for name in task.classes if name not in columns] if named else []
    lacks = f"lacks the columns {lost}" if lost else "has no column of scores"
    others = sorted(set(columns) - {id_column} - set(named))
    other_kind = "logits" if kind == "probabilities" else "probabilities"
    meant = set(_SINGLE[other_kind]) & set(others) if task.kind == "binary" else set()
    hint = f"; for {sorted(meant)[0]!r} set teacher.numbers={other_kind}" if meant else ""
    raise ValueError(
        f"{source} {lacks} for the {task.kind} task {task.name!r}, which expects "
        f"{', or '.join(wanted)}; found {named + others}{hint}"
    )


def _number(value: Any, row: int, ids: Sequence[str], column: str, source: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        found = f"nothing in column {column!r}" if value is None else f"{column}={value!r}"
        raise ValueError(
            f"{source}: row {row + 1} ({ids[row]!r}) has {found}, expected a finite number; "
            "correct it, or take the clip out of the data"
        )
    return number


def _check_probabilities(
    values: Tensor,
    ids: Sequence[str],
    rows: Sequence[int],
    names: Sequence[str],
    task: TaskSpec,
    source: str,
) -> None:
    outside = ((values < 0) | (values > 1)).nonzero()
    if len(outside):
        row, column = outside[0].tolist()
        raise ValueError(
            f"{source}: row {rows[row] + 1} ({ids[row]!r}) has {names[column]}="
            f"{values[row, column].item():g}, but a probability is from 0 to 1; set "
            "teacher.numbers=logits if these are logits"
        )
    if task.kind == "multilabel" or len(names) == 1:
        return
    off = ((values.sum(1) - 1).abs() > SUM_TOLERANCE + 1e-9).nonzero()
    if len(off):
        row = int(off[0])
        raise ValueError(
            f"{source}: the probabilities of row {rows[row] + 1} ({ids[row]!r}) sum to "
            f"{values[row].sum().item():g}, expected 1 over {list(names)}; correct the row, or set "
            "teacher.numbers=logits if these are logits"
        )


def _logits(values: Tensor, task: TaskSpec, kind: str) -> Tensor:
    if task.kind == "regression":
        return values[:, 0]
    if kind == "logits":
        if task.kind != "binary":
            return values
        return values[:, 0] if values.shape[1] == 1 else values[:, 1] - values[:, 0]
    if task.kind == "multiclass":
        return (values / values.sum(1, keepdim=True)).clamp(EPSILON, 1 - EPSILON).log()
    if task.kind == "binary":
        values = values[:, -1] / (values.sum(1) if values.shape[1] == 2 else 1)
    return values.clamp(EPSILON, 1 - EPSILON).logit()


__all__ = ["EPSILON", "SUM_TOLERANCE", "TableKind", "TableTeacher"]
