"""A user's own pair table to a `PairManifest`: read, checked as a whole, every problem listed."""

from __future__ import annotations

import dataclasses
import fnmatch
import logging
from collections.abc import Sequence
from pathlib import Path

from coefvq.data.manifest import ManifestError, Problem
from coefvq.data.options import fractions
from coefvq.data.pairs.checks import check_pairs
from coefvq.data.pairs.clip_table import Clips, clips_beside
from coefvq.data.pairs.manifest import PairManifest, pairs_fingerprint
from coefvq.data.pairs.marks import take_mark, take_pair_label
from coefvq.data.rows import Row, blank, check_groups, take_splits, unlabelled
from coefvq.data.splits import SPLITS, hash_split, joined
from coefvq.data.tables import Table, read_table
from coefvq.pairs import Pair
from coefvq.types import TaskSpec

_log = logging.getLogger(__name__)

PREFIX = "sub_"
"""Columns with this in front of their name are sub-labels; the rest of the name is theirs."""


class PairTable:
    """Pairs from the user's own table, or from one that `coefvq.data.make_pairs` has written.

    Args:
        train: table (CSV, JSON Lines, Parquet, or a saved Hugging Face dataset folder) with a row
            per pair.
        val: another one for validation; None: taken from `train`.
        test: likewise for the test split.
        clips: manifest of the clips, with columns `id`, `path`, the text columns and perhaps
            `group`. None: the list that `make_pairs` puts beside its table, if there is one;
            otherwise `query` and `candidate` are paths.
        root: folder that paths are relative to; None: that of the table or manifest they are in.
        query: column with the clip that is asked about.
        candidate: column with the clip that it may have been made from.
        label: column with 1 for a reproduction, 0 for none; empty (in training): unlabelled.
        sub_labels: columns or patterns; an empty cell is unlabelled.
        text: text columns of the clip manifest; where it is only `title`, the default, a manifest
            without that column has no text.
        split: column of `train` that names the split; not needed: without it, pairs that hang
            together by their clips are assigned by hash. Tables given as `val` and `test` are that
            split as a whole.
        group: column of the table whose groups must stay on one side of a split; `group` itself
            need not exist.
        val_fraction: share of pairs for validation where no split is given.
        test_fraction: likewise for the test split.
        allow_shared_clips: accept clips (or groups of the clip manifest) that are in several
            splits; figures are then too good.
        allow_outside_root: accept relative paths that lead out of the folder they are relative to,
            and, where `root` is given, absolute ones that lead elsewhere. Without `root`, absolute
            paths are taken as they are; so are those in the list of `make_pairs`.
        check_files: report files that do not exist as problems.
        seed: for the assignment by hash.
        cache_dir: see `coefvq.data.home.cache_home`.
    """

    def __init__(
        self,
        train: str | Path,
        val: str | Path | None = None,
        test: str | Path | None = None,
        *,
        clips: str | Path | None = None,
        root: str | Path | None = None,
        query: str = "query",
        candidate: str = "candidate",
        label: str = "label",
        sub_labels: str | Sequence[str] = (PREFIX + "*",),
        text: Sequence[str] = ("title",),
        split: str | None = "split",
        group: str | None = "group",
        val_fraction: float = 0.1,
        test_fraction: float = 0.2,
        allow_shared_clips: bool = False,
        allow_outside_root: bool = False,
        check_files: bool = True,
        seed: int = 1,
        cache_dir: str | Path | None = None,
    ) -> None:
        self.files = {"train": train, "val": val, "test": test}
        self.clips = clips
        self.root = None if root is None else Path(root).expanduser().absolute()
        self.query, self.candidate, self.label = query, candidate, label
        self.patterns = (sub_labels,) if isinstance(sub_labels, str) else tuple(sub_labels)
        self.text = tuple(text)
        self.split, self.group = split, group
        self.fractions = fractions(val=val_fraction, test=test_fraction)
        self.allow_shared_clips = allow_shared_clips
        self.allow_outside_root = allow_outside_root
        self.check_files = check_files
        self.seed = seed
        self.cache_dir = cache_dir

    def load(self) -> PairManifest:
        """Read and check the table.

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
        problems: list[Problem] = []
        options = {"allow_outside_root": self.allow_outside_root, "check_files": self.check_files}
        clips = Clips(self.root, self.text, problems=problems, **options)
        by_column = self.split in tables["train"].columns
        columns = self._sub_columns(tables["train"])
        rows: list[Row] = []
        pairs: list[Pair] = []
        for split, table in tables.items():
            found = self._rows(table, columns, None if split == "train" else split)
            clips.enter(table.file, self.clips or clips_beside(table.file), self.cache_dir)
            if by_column and split == "train":  # the only one whose rows may go anywhere
                take_splits(found, str(self.split), problems, set(tables))
            rows += found
            pairs += [self._pair(row, clips, columns, problems) for row in found]
        if not by_column:
            self._assign_splits(rows, pairs, clips, [s for s in SPLITS if s not in tables])
        file = tables["train"].file
        task = TaskSpec(self.label, "binary", ("0", "1"))
        pairs = [
            dataclasses.replace(
                pair,
                split=row.split or "train",
                label=take_pair_label(row, self.label, problems),
            )
            for row, pair in zip(rows, pairs, strict=True)
        ]
        problems += check_pairs(rows, pairs, file, self.label)
        problems += check_groups(rows, str(self.group))
        if not self.allow_shared_clips:
            problems += clips.check_leaks(rows, pairs)
        if problems:
            # Clip manifests first, then the tables, each in the order of its rows.
            place = {table.file: number for number, table in enumerate(tables.values())}
            raise ManifestError(
                sorted(problems, key=lambda p: (place.get(p.file, -1), str(p.file), p.row or 0))
            )
        names = tuple(name for _, name in columns)
        made = PairManifest(tuple(pairs), task, names, "unset")
        base = self.root or file.absolute().parent
        return dataclasses.replace(made, fingerprint=pairs_fingerprint(made, base, contents=True))

    def _sub_columns(self, table: Table) -> list[tuple[str, str]]:
        """Columns of sub-labels, and what the sub-labels are called."""
        found: dict[str, None] = {}
        for pattern in self.patterns:
            hits = [name for name in table.columns if fnmatch.fnmatchcase(name, pattern)]
            if not hits and "*" not in pattern:
                raise ValueError(
                    f"data.sub_labels names column {pattern!r}, which {table.file} does not have; "
                    f"its columns are {', '.join(table.columns)}"
                )
            found.update(dict.fromkeys(hits))
        return [(column, column.removeprefix(PREFIX)) for column in found]

    def _rows(
        self, table: Table, columns: Sequence[tuple[str, str]], split: str | None
    ) -> list[Row]:
        wanted = {"query": self.query, "candidate": self.candidate, "label": self.label}
        if self.group not in (None, "group"):
            wanted["group"] = str(self.group)
        if split is None and self.split not in (None, "split"):
            wanted["split"] = str(self.split)
        for argument, column in wanted.items():
            if column not in table.columns:
                raise ValueError(
                    f"data.{argument} names column {column!r}, which {table.file} does not have; "
                    f"its columns are {', '.join(table.columns)}"
                )
        kept = [
            *wanted.values(),
            *(column for column, _ in columns),
            "id",
            str(self.split),
            str(self.group),
        ]
        some = [name for name in dict.fromkeys(kept) if name in table.columns]
        return [
            Row(table.file, number + 1, {name: table.columns[name][number] for name in some}, split)
            for number in range(len(table))
        ]

    def _pair(
        self,
        row: Row,
        clips: Clips,
        columns: Sequence[tuple[str, str]],
        problems: list[Problem],
    ) -> Pair:
        query, candidate = (clips.take(row, name) for name in (self.query, self.candidate))
        marks = {name: take_mark(row, column, problems) for column, name in columns}
        identity = row.cells.get("id")
        group = row.cells.get(str(self.group))
        return Pair(
            id=f"{query.id}+{candidate.id}" if blank(identity) else str(identity).strip(),
            query=query,
            candidate=candidate,
            sub_labels={name: mark for name, mark in marks.items() if mark is not None},
            group=None if blank(group) else str(group),
        )

    def _assign_splits(
        self, rows: list[Row], pairs: list[Pair], clips: Clips, missing: list[str]
    ) -> None:
        """Assign pairs without a split; those that share a clip or a group go together."""
        some = [(row, pair) for row, pair in zip(rows, pairs, strict=True) if row.split is None]
        if not missing:
            for row, _ in some:
                row.split = "train"
            return
        ties: list[tuple[str, str]] = []
        for _, pair in some:
            query = clips.group_of(pair.query)
            ties.append((query, clips.group_of(pair.candidate)))
            ties += [(query, f"group {pair.group}")] if pair.group is not None else []
        tied = joined(ties)
        # Called after the smallest name: the order of the rows doesn't matter.
        least: dict[str, str] = {}
        for name, common in tied.items():
            least[common] = min(name, least.get(common, name))
        places = hash_split(
            [least[tied[clips.group_of(pair.query)]] for _, pair in some],
            [not unlabelled(row, (self.label,)) for row, _ in some],
            val_fraction=self.fractions["val"] if "val" in missing else 0.0,
            test_fraction=self.fractions["test"] if "test" in missing else 0.0,
            seed=self.seed,
        )
        for (row, _), split in zip(some, places, strict=True):
            row.split = split
        _log.info(
            "no column for the split: pairs that share clips were kept together and assigned by a "
            "hash and seed %d (%s)",
            self.seed,
            ", ".join(f"{places.count(s)} {s}" for s in ("train", *missing)),
        )


__all__ = ["PREFIX", "PairTable"]
