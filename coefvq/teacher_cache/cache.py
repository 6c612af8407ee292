"""A folder of teacher outputs that belong together."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout

from coefvq.teacher_cache.failures import cannot_write, with_a_sentence
from coefvq.teacher_cache.identity import IDENTITY, CacheIdentity, read_identity, write_identity
from coefvq.teacher_cache.rows import Rows, arrays_of, joined, output_of, stored_errors
from coefvq.teacher_cache.shards import ENDING, RAGGED, Shard, read_shard, write_shard
from coefvq.types import TeacherOutput

_LOCK = ".writer.lock"
SHARD_ROWS = 4096
"""Most rows in one file."""
SHARD_SECONDS = 30.0
"""Longest time that finished rows wait in memory: what a killed process loses."""


@dataclass(frozen=True)
class CacheStats:
    """Size of a cache.

    Args:
        rows: clips × views.
        bytes: of all its files.
        shards: files.
    """

    rows: int
    bytes: int
    shards: int

    @property
    def bytes_per_row(self) -> float:
        """Bytes of one clip's outputs, keys included."""
        return self.bytes / max(self.rows, 1)


class TeacherCache:
    """Outputs of one teacher, one row per clip and view; any order, any batch, any subset.

    Args:
        folder: where; made when the first row is written.
        identity: what the outputs depend on. None: whatever the folder says, for readers that
            cannot know.

    Raises:
        ValueError: the folder holds the outputs of another teacher, of other data or another
            reading (the sentence names what differs), a file of another cache, no cache at all
            where `identity` is None, or one row twice.
    """

    def __init__(self, folder: str | Path, identity: CacheIdentity | None = None) -> None:
        self.folder = Path(folder).absolute()
        if self.folder.is_file():
            raise ValueError(
                f"{folder} is a file, and a teacher cache is a folder; give {self.folder.parent}, "
                "where it lies"
            )
        stored = read_identity(self.folder)
        if identity is None:
            if stored is None:
                raise ValueError(
                    f"{folder} holds no teacher cache ({IDENTITY} is missing); write one with "
                    "python -m coefvq.cache_teacher, or give the folder that it named"
                )
            identity = stored
        elif stored is not None and stored.fingerprint != identity.fingerprint:
            differing = identity.differences(stored)
            more = f" and {len(differing) - 4} more" if len(differing) > 4 else ""
            raise ValueError(
                f"the teacher cache {folder} was made for something else "
                f"({'; '.join(differing[:4])}{more}: ours -> its); give the settings that it was "
                "made with, or another folder"
            )
        self.identity = identity
        self._shards: dict[str, Shard] = {}
        self._places: dict[tuple[str, str], tuple[str, int]] = {}
        self._waiting: list[Rows] = []
        self._since = time.monotonic()
        self.refresh()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: tuple[str, str]) -> bool:
        return key in self._places

    @property
    def dtype(self) -> torch.dtype:
        """Of the numbers as they are kept."""
        return {"float16": torch.float16, "float32": torch.float32}[self.identity.parts["dtype"]]

    def stats(self) -> CacheStats:
        """Rows and bytes on disk."""
        size = sum(shard.path.stat().st_size for shard in self._shards.values())
        return CacheStats(len(self), size, len(self._shards))

    def refresh(self) -> None:
        """Take in files that were finished since the last look.

        Raises:
            ValueError: a file is damaged, or a row stands in two files.
        """
        if not self.folder.is_dir():
            return
        for path in sorted(self.folder.glob(f"*{ENDING}")):
            if path.name in self._shards or path.name.startswith("."):
                continue
            shard = read_shard(path, fingerprint=self.identity.fingerprint)
            for row, key in enumerate(zip(shard.ids, shard.views, strict=True)):
                if key in self._places:
                    raise ValueError(
                        f"the teacher cache {self.folder} has clip {key[0]!r} (view {key[1]}) in "
                        f"{self._places[key][0]} and in {path.name}; two caches must not be "
                        "copied into one folder: remove one of the files"
                    )
                self._places[key] = (path.name, row)
            self._shards[path.name] = shard

    @property
    def columns(self) -> set[str]:
        """What a row holds beside its keys; empty without a row."""
        return set(next(iter(self._shards.values())).columns) if self._shards else set()

    def views_of(self, name: str) -> list[str]:
        """The views of a clip that have a row."""
        return sorted(view for clip, view in self._places if clip == name)

    def missing(self, ids: Sequence[str], view: str) -> list[str]:
        """Those of `ids` that have no row for this view, in the order given."""
        return [name for name in ids if (name, view) not in self._places]

    def content(self, name: str, view: str) -> str | None:
        """What was in a clip when its row was written; None without a row, or where nobody said."""
        shard, row = self._places.get((name, view), (None, 0))
        contents = None if shard is None else self._shards[shard].contents
        return None if contents is None else contents[row]

    def errors(self) -> dict[str, float]:
        """How far kept numbers are from the live ones, the largest by column; 0 for float32."""
        found: dict[str, float] = {}
        for shard in self._shards.values():
            for name, error in shard.errors.items():
                found[name] = max(error, found.get(name, 0.0))
        return found

    # Reading

    def lookup(self, ids: Sequence[str], views: str | Sequence[str]) -> TeacherOutput:
        """Outputs of B clips, on the CPU, logits and features in float32.

        Args:
            ids: B clip ids.
            views: one for all, or one for each.

        Raises:
            ValueError: a row is not there.
        """
        views = [views] * len(ids) if isinstance(views, str) else list(views)
        by_shard: dict[str, tuple[list[int], list[int]]] = {}
        for position, key in enumerate(zip(ids, views, strict=True)):
            place = self._places.get(key)
            if place is None:
                raise ValueError(
                    f"the teacher cache {self.folder} has no row for clip {key[0]!r}, view "
                    f"{key[1]}; add what is missing with python -m coefvq.cache_teacher and the "
                    "same words"
                )
            positions, rows = by_shard.setdefault(place[0], ([], []))
            positions.append(position)
            rows.append(place[1])
        columns: dict[str, np.ndarray | list] = {}
        for name, (positions, rows) in by_shard.items():
            shard = self._shards[name]
            for column, values in shard.columns.items():
                if column in RAGGED:
                    out = columns.setdefault(column, [None] * len(ids))
                    assert shard.offsets is not None
                    for position, row in zip(positions, rows, strict=True):
                        out[position] = values[shard.offsets[row] : shard.offsets[row + 1]]
                    continue
                if column not in columns:
                    columns[column] = np.empty((len(ids), *values.shape[1:]), values.dtype)
                columns[column][positions] = values[rows]
        return output_of(columns)

    # Writing

    @contextmanager
    def writing(self, wait: Callable[[], None] | None = None) -> Iterator[None]:
        """Be the only writer; a second one waits until the first is done, or has died.

        Args:
            wait: called once if somebody else is writing.

        Raises:
            OSError: nothing can be written there; the sentence says what to do.
        """
        lock = FileLock(self.folder / _LOCK)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            if wait is not None:
                wait()
            lock.acquire()
        except OSError as error:
            raise cannot_write(self.folder, len(self), error) from error
        try:
            for part in self.folder.glob(f".*{ENDING}.part"):
                part.unlink(missing_ok=True)  # of a writer that was killed
            with with_a_sentence(self.folder, len(self)):
                write_identity(self.folder, self.identity)
            self.refresh()
            try:
                yield
            finally:
                self.flush()  # what is finished stays, also when somebody stops us
        finally:
            self._waiting.clear()
            lock.release()

    def add(
        self,
        ids: Sequence[str],
        views: str | Sequence[str],
        output: TeacherOutput,
        contents: Callable[[str], str] | None = None,
    ) -> None:
        """Keep the outputs of some clips; they reach the disk within half a minute.

        Clips that have a row already are passed over.

        Args:
            ids: B clip ids.
            views: one for all, or one for each.
            output: of these clips.
            contents: says what is in a clip, so that it is known again among other data.

        Raises:
            OSError: nothing can be written; the sentence says what to do, and what was written
                before stays.
        """
        views = [views] * len(ids) if isinstance(views, str) else list(views)
        keys = list(zip(ids, views, strict=True))
        new = [row for row, key in enumerate(keys) if key not in self._places]
        new = [row for row in new if keys.index(keys[row]) == row]  # a batch may repeat a clip
        if new:
            arrays = arrays_of(output, new, self.dtype)
            self._refuse_other_columns(set(arrays))
            names = [ids[row] for row in new]
            known = None if contents is None else [contents(name) for name in names]
            errors = stored_errors(output, self.dtype)
            kept = [views[row] for row in new]
            self._waiting.append(Rows(names, kept, known, arrays, errors))
        rows = sum(len(rows.ids) for rows in self._waiting)
        if rows >= SHARD_ROWS or time.monotonic() - self._since > SHARD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what waits in memory."""
        if not self._waiting:
            return
        rows = joined(self._waiting)
        digest = hashlib.sha256(json.dumps([rows.ids, rows.views]).encode()).hexdigest()[:16]
        with with_a_sentence(self.folder, len(self)):
            write_identity(self.folder, self.identity)
            path = self.folder / f"shard-{digest}{ENDING}"
            write_shard(
                path, rows.ids, rows.views, rows.arrays, fingerprint=self.identity.fingerprint,
                contents=rows.contents, errors=rows.errors,
            )  # fmt: skip
        self._waiting.clear()
        self._since = time.monotonic()
        self.refresh()

    def _refuse_other_columns(self, columns: set[str]) -> None:
        known = [set(rows.arrays) for rows in self._waiting[:1]]
        known += [set(shard.columns) for shard in self._shards.values()][:1]
        if known and known[0] != columns:
            raise ValueError(
                f"the teacher answers with {sorted(columns)}, but the cache {self.folder} has "
                f"{sorted(known[0])}; all rows of a cache hold the same: write another one"
            )


__all__ = ["CacheStats", "TeacherCache"]
