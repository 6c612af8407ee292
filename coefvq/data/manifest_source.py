"""Manifest files to a `Manifest`: read, checked as a whole, and refused with every problem listed.

Nothing is decoded here; all that can be wrong with the rows themselves is found in one pass, so
that a user does not repair a manifest one error at a time.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from coefvq.data.columns import check_columns, expand_columns, matching
from coefvq.data.evaluation_rows import evaluation_rows, keys_of
from coefvq.data.labels import derive_classes, unseen_classes
from coefvq.data.manifest import Manifest, ManifestError, Problem, identified
from coefvq.data.rows import (
    Row,
    blank,
    check_files_of_splits,
    check_groups,
    check_privileged,
    check_splits,
    take_id,
    take_label,
    take_number,
    take_path,
    take_splits,
    unlabelled,
)
from coefvq.data.scores import check_scores, checked_range, take_spread
from coefvq.data.splits import hash_split
from coefvq.data.tables import Table, read_table
from coefvq.types import Clip, TaskKind, TaskSpec

_log = logging.getLogger(__name__)


class ManifestSource:
    """Clips from the user's own manifest.

    Args:
        train: manifest file (CSV, JSON Lines, Parquet, or a saved Hugging Face dataset folder).
        val: another one for validation; None: taken from `train`.
        test: likewise for the test split.
        root: folder that paths are relative to; None: the folder of the manifest.
        id: column with the clip's unique name.
        path: column with the video file.
        text: columns with text fields.
        label: column with the label; for multilabel also a list of 0/1 columns.
        task: `"binary"`, `"multiclass"`, `"multilabel"` or `"regression"`.
        label_range: lowest and highest possible score of a regression, for instance `[1, 5]`.
        label_std: column with the standard deviation of the opinions behind a score.
        classes: class names in the order of the logits; None: those of the training labels,
            sorted.
        privileged: columns with privileged features; patterns such as `dense_*` are expanded.
        split: column that names the split; ignored when `val` or `test` is given, and not needed:
            without it whole groups are assigned by hash.
        group: column whose groups must stay on one side of a split; `group` itself need not exist.
        log1p: privileged features (or patterns) to put through log(1 + x).
        val_fraction: share of rows for validation where no split is given.
        test_fraction: likewise for the test split.
        allow_outside_root: accept paths that lead out of `root`.
        check_files: report files that do not exist as problems of the manifest.
        evaluation_only: for trained models, see `evaluation_rows`; `left_out` counts other rows.
        seed: for the assignment by hash.
        cache_dir: see `coefvq.data.home.cache_home`.
    """

    def __init__(
        self,
        train: str | Path,
        val: str | Path | None = None,
        test: str | Path | None = None,
        root: str | Path | None = None,
        *,
        id: str = "id",
        path: str = "path",
        text: Sequence[str] = ("title",),
        label: str | Sequence[str] = "label",
        task: TaskKind = "binary",
        label_range: Sequence[float] | None = None,
        label_std: str | None = None,
        classes: Sequence[str] | None = None,
        privileged: str | Sequence[str] = (),
        split: str | None = "split",
        group: str | None = "group",
        log1p: str | Sequence[str] = (),
        val_fraction: float = 0.1,
        test_fraction: float = 0.2,
        allow_outside_root: bool = False,
        check_files: bool = True,
        evaluation_only: bool = False,
        seed: int = 1,
        cache_dir: str | Path | None = None,
    ) -> None:
        if task not in get_args(TaskKind):
            kinds = ", ".join(get_args(TaskKind))
            raise ValueError(f"data.task={task} is unknown; choose one of {kinds}")
        self.files = {"train": train, "val": val, "test": test}
        self.root = None if root is None else Path(root).expanduser().absolute()
        self.id, self.path, self.group = id, path, group
        hidden = ((), ()) if evaluation_only else (_many(privileged), _many(log1p))
        self.text, (self.privileged, self.log1p) = _many(text), hidden
        self.label = label if isinstance(label, str) else tuple(label)
        self.task, self.split = task, split
        self.label_range = checked_range(task, label_range, label_std)
        self.label_std = label_std
        self.classes = None if classes is None else tuple(str(name) for name in classes)
        self.fractions = {"val_fraction": val_fraction, "test_fraction": test_fraction}
        self.allow_outside_root, self.check_files = allow_outside_root, check_files
        self.seed, self.cache_dir = seed, cache_dir
        self.evaluation_only, self.left_out = evaluation_only, dict[str, int]()

    def load(self) -> Manifest:
        """Read and check the manifest.

        Raises:
            ManifestError: at least one row is wrong; all problems are listed.
            ValueError: a file or column does not exist.
        """
        if self.root is not None and not self.root.is_dir():
            raise ValueError(f"data.root {str(self.root)!r} is no folder; check the path")
        tables = {
            split: read_table(file, self.cache_dir)
            for split, file in self.files.items()
            if file is not None
        }
        names = expand_columns(tables["train"], self.privileged)
        log1p = matching(names, self.log1p)
        columns = self._needed(names, tables)
        rows = [
            Row(
                table.file,
                number + 1,
                {c: table.columns[c][number] for c in columns if c in table.columns},
                None if split == "train" else split,
            )
            for split, table in tables.items()
            for number in range(len(table))
        ]
        problems: list[Problem] = []
        self._assign_splits(rows, tables, problems)
        task = self._task(rows, tables)
        clips = self._clips(rows, task, names, log1p, problems)
        file = tables["train"].file
        problems += check_splits(rows, file, self.evaluation_only)
        problems += check_privileged(rows, file, names)
        problems += check_files_of_splits(rows, [clip.path for clip in clips])
        problems += check_groups(rows, str(self.group))
        train = [row for row in rows if row.split == "train"]
        if train and all(self._unlabelled(row) for row in train):
            problems.append(Problem(file, None, "no training clip has a label; label some of them"))
        elif task.kind == "regression":
            problems.extend(check_scores(clips, file))
        if problems:
            place = {table.file: number for number, table in enumerate(tables.values())}
            raise ManifestError(sorted(problems, key=lambda p: (place[p.file], p.row or 0)))
        if unseen := unseen_classes([clip for clip in clips if clip.split == "train"], task):
            _log.warning("%s: %s", file, unseen)
        manifest = Manifest(tuple(clips), task, names, log1p, "unset", "unset")
        return identified(manifest, self.root or file.absolute().parent)

    # Columns

    @property
    def _label_columns(self) -> tuple[str, ...]:
        return (self.label,) if isinstance(self.label, str) else self.label

    def _by_column(self, tables: dict[str, Table]) -> bool:
        return self.split in tables["train"].columns

    def _by_group(self, tables: dict[str, Table]) -> bool:
        return any(self.group in table.columns for table in tables.values())

    def _needed(self, names: Sequence[str], tables: dict[str, Table]) -> list[str]:
        wanted = {
            "id": (self.id,),
            "path": (self.path,),
            "text": self.text,
            "label": self._label_columns,
            "privileged": names,
            "label_std": (self.label_std,) if self.label_std else (),
            "group": () if self.group in (None, "group") else (str(self.group),),
        }
        own = {"split": (str(self.split),)} if self.split not in (None, "split") else {}
        # Rows of the first file are the only ones that may go anywhere.
        check_columns(tables.values(), wanted, of_first=own)
        extra = [str(self.split)] if self._by_column(tables) else []
        extra += [str(self.group)] if self._by_group(tables) else []
        return list(dict.fromkeys([c for columns in wanted.values() for c in columns] + extra))

    # Splits

    def _assign_splits(
        self, rows: list[Row], tables: dict[str, Table], problems: list[Problem]
    ) -> None:
        open_rows = [row for row in rows if row.split is None]
        if self._by_column(tables):
            if self.evaluation_only:
                open_rows = [row for row in open_rows if not blank(row.cells[str(self.split)])]
            take_splits(open_rows, str(self.split), problems, set(tables))
        if self.evaluation_only:
            keys = functools.partial(keys_of, group=self._group, path=self.path, root=self.root)
            found = evaluation_rows(rows, set(tables), keys, self._unlabelled, self.seed)
            rows[:], self.left_out = found
        if self.evaluation_only or self._by_column(tables):
            return
        missing = [split for split in ("val", "test") if split not in tables]
        fractions = {f"{s}_fraction": self.fractions[f"{s}_fraction"] for s in missing}
        if not missing:
            places = ["train"] * len(open_rows)
        else:
            places = hash_split(
                [self._group(row) for row in open_rows],
                [not self._unlabelled(row) for row in open_rows],
                **{"val_fraction": 0.0, "test_fraction": 0.0, **fractions},
                seed=self.seed,
            )
            _log.info(
                "%s has no column for the split: %s assigned by a hash of the %s and seed %d (%s)",
                tables["train"].file,
                " and ".join(missing),
                "group" if self._by_group(tables) else "id",
                self.seed,
                ", ".join(f"{places.count(s)} {s}" for s in ("train", *missing)),
            )
        for row, place in zip(open_rows, places, strict=True):
            row.split = place

    def _group(self, row: Row) -> str:
        value = row.cells.get(str(self.group))
        return f"id {row.cells[self.id]}" if blank(value) else f"group {value}"

    # Labels

    def _unlabelled(self, row: Row) -> bool:
        return unlabelled(row, self._label_columns)

    def _task(self, rows: list[Row], tables: dict[str, Table]) -> TaskSpec:
        name = self.label if isinstance(self.label, str) else "_".join(self.label)
        classes = self.classes
        if classes is None and self.task != "regression":
            if not isinstance(self.label, str):
                classes = self.label
            elif self.label in tables["train"].class_names:
                classes = tables["train"].class_names[self.label]
            else:
                cells = [row.cells[self.label] for row in rows if row.split == "train"]
                cells = [None if blank(cell) else cell for cell in cells]
                classes = derive_classes(cells, self.task)
                if classes != ("0", "1"):  # what a binary task is always called
                    _log.info("classes taken from the training labels: %s", ", ".join(classes))
        return TaskSpec(str(name), self.task, classes or (), self.label_range)

    # Rows

    def _clips(
        self,
        rows: list[Row],
        task: TaskSpec,
        names: tuple[str, ...],
        log1p: tuple[str, ...],
        problems: list[Problem],
    ) -> list[Clip]:
        seen: dict[str, Row] = {}
        clips = []
        for row in rows:
            group = row.cells.get(str(self.group))
            clip = Clip(
                id=take_id(row, self.id, seen, problems),
                path=take_path(
                    row,
                    self.path,
                    self.root,
                    problems,
                    allow_outside_root=self.allow_outside_root,
                    check_files=self.check_files,
                ),
                text={c: "" if blank(row.cells[c]) else str(row.cells[c]) for c in self.text},
                label=take_label(row, self._label_columns, task, problems),
                label_std=take_spread(row, self.label_std, problems),
                privileged={
                    name: take_number(row, name, problems, log1p=name in log1p) for name in names
                },
                split=row.split or "train",
                group=None if blank(group) else str(group),
            )
            clips.append(clip)
        return clips


def _many(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


__all__ = ["ManifestSource"]
