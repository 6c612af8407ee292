"""The clips that pairs speak of: from a manifest by id, or by their paths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from coefvq.data.manifest import Problem
from coefvq.data.pairs.paths import CLIPS_FILE, clips_folder
from coefvq.data.rows import Row, blank, take_id, take_path
from coefvq.data.tables import read_table
from coefvq.pairs import Pair
from coefvq.types import Clip

DEFAULT_TEXT = ("title",)
"""What is read where nothing is said about texts; clips may well have none."""


def clips_beside(table: Path) -> Path | None:
    """The list of clips that `make_pairs` has put beside its table; None if there is none."""
    file = clips_folder(table) / CLIPS_FILE
    return file if file.is_file() else None


class Clips:
    """Clips by id, for one pair table after the other.

    Paths stay in the folder that they are relative to. An absolute path is relative to none: it is
    accepted where no `root` is given, and has to lead into it where one is. The list that
    `make_pairs` puts beside its table names the originals that way, and its copies relative to
    itself, so it is read without `root`, which is for what the user wrote.

    Args:
        root: folder that paths are relative to; None: that of the file they are in.
        text: text columns; only `DEFAULT_TEXT` may be missing.
        allow_outside_root: accept paths that lead out of the folder all the same.
        check_files: report files that do not exist.
        problems: collects what is wrong.
    """

    def __init__(
        self,
        root: Path | None,
        text: Sequence[str],
        *,
        allow_outside_root: bool,
        check_files: bool,
        problems: list[Problem],
    ) -> None:
        self.root = root
        self.text = tuple(text)
        self.options = {"allow_outside_root": allow_outside_root, "check_files": check_files}
        self.problems = problems
        self._known: dict[str, Clip] | None = None
        self._manifest: Path | None = None
        self._table: Path | None = None
        self._paths: dict[tuple[Path | None, str], Clip] = {}
        self._read: dict[Path, dict[str, Clip]] = {}
        self._all: dict[str, Clip] = {}

    def enter(
        self, table: Path, manifest: str | Path | None, cache_dir: str | Path | None = None
    ) -> None:
        """Turn to the next pair table.

        Args:
            table: its file.
            manifest: of its clips; None: its rows give paths.
            cache_dir: see `coefvq.data.home.cache_home`.

        Raises:
            ValueError: the manifest cannot be read, or lacks a column, or texts are asked for and
            there is no manifest.
        """
        self._table = table
        self._manifest = None if manifest is None else Path(manifest)
        if self._manifest is None:
            if self.text not in ((), DEFAULT_TEXT):
                raise ValueError(
                    f"data.text names {', '.join(self.text)}, but the pairs of {table} are paths, "
                    "which have no text; give data.clips, a manifest of the clips with their texts"
                )
            self._known = None
            return
        if self._manifest not in self._read:
            self._read[self._manifest] = self._read_manifest(self._manifest, cache_dir)
        self._known = self._read[self._manifest]

    def _read_manifest(self, file: Path, cache_dir: str | Path | None) -> dict[str, Clip]:
        if not file.exists():
            raise ValueError(f"data.clips={file} does not exist; give the manifest of the clips")
        table = read_table(file, cache_dir)
        if missing := [name for name in ("id", "path") if name not in table.columns]:
            raise ValueError(
                f"the clip manifest {file} has no column {', '.join(missing)}; its columns are "
                f"{', '.join(table.columns)}"
            )
        unknown = [name for name in self.text if name not in table.columns]
        if unknown and self.text != DEFAULT_TEXT:
            raise ValueError(
                f"data.text names column {', '.join(unknown)}, which the clip manifest {file} does "
                f"not have; its columns are {', '.join(table.columns)}"
            )
        root = None if self._table is not None and file == clips_beside(self._table) else self.root
        names = [n for n in ("id", "path", "group", *self.text) if n in table.columns]
        seen: dict[str, Row] = {}
        clips: dict[str, Clip] = {}
        for number in range(len(table)):
            row = Row(file, number + 1, {name: table.columns[name][number] for name in names})
            identity = take_id(row, "id", seen, self.problems)
            group = row.cells.get("group")
            clip = Clip(
                id=identity,
                path=take_path(row, "path", root, self.problems, **self.options),
                text={n: "" if blank(row.cells.get(n)) else str(row.cells[n]) for n in self.text},
                group=None if blank(group) else str(group),
            )
            clips.setdefault(identity, clip)
        return clips

    def take(self, row: Row, column: str) -> Clip:
        """The clip that a cell of a pair table names."""
        value = row.cells[column]
        if blank(value):
            self.problems.append(row.problem(f"{column} is empty; name a clip"))
            return Clip(f"row {row.number} {column}", Path())
        name = str(value).strip()
        if self._known is not None:
            if name not in self._known:
                self.problems.append(
                    row.problem(
                        f"{column} {name!r} is not in the clip manifest {self._manifest}; add it "
                        "there or correct it"
                    )
                )
                return Clip(name, Path())
            clip = self._known[name]
        else:
            clip = self._by_path(row, column, name)
        first = self._all.setdefault(name, clip)
        if first.path != clip.path:
            self.problems.append(
                row.problem(
                    f"{column} {name!r} is {clip.path} here and {first.path} in another table; "
                    "give different clips different ids"
                )
            )
        return clip

    def _by_path(self, row: Row, column: str, name: str) -> Clip:
        """The clip at a path; one that is wrong is told of once, however many rows name it."""
        place = (None if self.root is not None else self._table, name)
        if place not in self._paths:
            found: list[Problem] = []
            path = take_path(row, column, self.root, found, **self.options)
            ids = "; if these are ids, give data.clips, the manifest of the clips"
            self.problems += [Problem(p.file, p.row, p.text + ids) for p in found]
            self._paths[place] = Clip(name, path, dict.fromkeys(self.text, ""))
        return self._paths[place]

    def group_of(self, clip: Clip) -> str:
        """What must stay on one side of a split together with a clip."""
        return f"clip {clip.id!r}" if clip.group is None else f"group {clip.group!r} of clips"

    def check_leaks(self, rows: Sequence[Row], pairs: Sequence[Pair]) -> Iterator[Problem]:
        """Yield a problem for each clip, or group of the clip manifest, in several splits."""
        firsts: dict[str, tuple[str, Row]] = {}
        told: set[str] = set()
        for row, pair in zip(rows, pairs, strict=True):
            for clip in (pair.query, pair.candidate):
                name = self.group_of(clip)
                split, first = firsts.setdefault(name, (pair.split, row))
                if split == pair.split or name in told:
                    continue
                told.add(name)
                yield row.problem(
                    f"{name} is in {split} (row {first.number}) and {pair.split}; keep all pairs "
                    "of a source in one split, or set data.allow_shared_clips=true"
                )


__all__ = ["CLIPS_FILE", "DEFAULT_TEXT", "Clips", "clips_beside"]
