"""The pool of clips on disk: made once, in parallel, extended when more are asked for."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path

import av
import pandas
from filelock import FileLock
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from coefvq.data.home import cache_home
from coefvq.data.processes import cores, main_hidden, start_worker
from coefvq.data.shortform.make import clip_name, make_clip

VERSION = 2
"""Of the recipe: another number makes another pool, and another fingerprint."""

CHUNK = 16
"""Clips per part of the table: what a killed run makes again at most, per process."""

MAX_WORKERS = 8
POOL_FROM = 64
"""Fewer missing clips than this are made in this process: starting others takes longer."""

CLIP_BYTES = 60_000
"""About what a clip takes on disk."""

_log = logging.getLogger(__name__)


class Pool:
    """Clips 0, 1, 2, … of one data seed.

    `clips/000000.mp4` … hold the clips, `table/000000.parquet` … one part per `CHUNK` of them.
    Files appear whole, a part after its clips. Making is under a lock: a second run waits, and
    then finds everything.

    Args:
        seed: of the pool.
        cache_dir: see `coefvq.data.home.cache_home`.
    """

    def __init__(self, seed: int = 0, cache_dir: str | Path | None = None) -> None:
        self.seed = seed
        self.folder = cache_home(cache_dir) / "shortform" / f"v{VERSION}-seed{seed}"
        self.clips = self.folder / "clips"
        self.table = self.folder / "table"

    def ensure(self, count: int, workers: int | None = None) -> pandas.DataFrame:
        """Make what is missing of the first `count` clips and return their rows, in order.

        Args:
            count: how many clips are wanted.
            workers: processes; None: one per core, up to 8, and none when little is missing.

        Returns:
            `count` rows, see `coefvq.data.shortform.make.make_clip`.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        if self._missing(count):
            self.clips.mkdir(parents=True, exist_ok=True)
            self.table.mkdir(exist_ok=True)
            with FileLock(self.folder / "lock"):
                self._make(self._missing(count), workers)
        parts = [pandas.read_parquet(self._part(n)) for n in range(_chunks(count))]
        return pandas.concat(parts, ignore_index=True).iloc[:count]

    def _part(self, number: int) -> Path:
        return self.table / f"{number:06d}.parquet"

    def _missing(self, count: int) -> list[int]:
        """Chunks without a part, or with a clip that somebody has removed."""
        if not self.clips.is_dir() or not self.table.is_dir():
            return list(range(_chunks(count)))
        there = {entry.name for entry in os.scandir(self.clips)}
        parts = {entry.name for entry in os.scandir(self.table)}
        return [
            number
            for number in range(_chunks(count))
            if self._part(number).name not in parts
            or not there.issuperset(clip_name(number * CHUNK + i) for i in range(CHUNK))
        ]

    def _make(self, numbers: list[int], workers: int | None) -> None:
        if not numbers:
            return
        for folder in (self.clips, self.table):
            for leftover in folder.glob(".*.part"):  # of a run that was killed
                leftover.unlink(missing_ok=True)
        clips = len(numbers) * CHUNK
        free = shutil.disk_usage(self.folder).free
        if free < clips * CLIP_BYTES:
            raise OSError(
                errno.ENOSPC,
                f"{clips} clips take about {clips * CLIP_BYTES / 1e6:.0f} MB, "
                f"and {self.folder} has {free / 1e6:.0f} MB left",
            )
        if workers is None:
            workers = min(cores(), MAX_WORKERS) if clips >= POOL_FROM else 0
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        times = (TimeElapsedColumn(), TimeRemainingColumn())
        with (
            Progress(*columns, *times, console=Console(stderr=True)) as progress,
            closing(self._run(numbers, min(workers, len(numbers)))) as steps,
        ):
            bar = progress.add_task("Making clips", total=clips)
            for _ in steps:
                progress.advance(bar, CHUNK)

    def _run(self, numbers: list[int], workers: int) -> Generator[int, None, None]:
        """Make chunks and yield their numbers, in any order."""
        left = dict.fromkeys(numbers)
        if workers > 0:
            try:
                with closing(self._run_in_pool(numbers, workers)) as done:
                    for number in done:
                        del left[number]
                        yield number
            except (BrokenProcessPool, RuntimeError, PermissionError) as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                _log.warning(
                    "worker processes for making clips are not available (%s); going on in this "
                    "one",
                    reason,
                )
        for number in left:
            yield make_chunk(self.clips, self._part(number), self.seed, number)

    def _run_in_pool(self, numbers: list[int], workers: int) -> Generator[int, None, None]:
        # Spawned, not forked: the parent may have threads (torch, FFmpeg).
        spawn = get_context("spawn")
        pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=start_worker)
        try:
            with main_hidden():
                jobs = [
                    pool.submit(make_chunk, self.clips, self._part(number), self.seed, number)
                    for number in numbers
                ]
            for job in as_completed(jobs):
                yield job.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def make_chunk(clips: Path, part: Path, seed: int, number: int) -> int:
    """Make `CHUNK` clips, then the part of the table that lists them; runs in the workers.

    Args:
        clips: folder of the clips.
        part: the Parquet file to write.
        seed: of the pool.
        number: of the chunk; it is returned.
    """
    av.logging.set_level(None)
    rows = [make_clip(clips, seed, number * CHUNK + i) for i in range(CHUNK)]
    temporary = part.with_name(f".{part.name}.{os.getpid()}.part")
    pandas.DataFrame(rows).to_parquet(temporary, index=False)
    temporary.replace(part)
    return number


def _chunks(count: int) -> int:
    return -(-count // CHUNK)


__all__ = ["CHUNK", "VERSION", "Pool", "make_chunk"]
