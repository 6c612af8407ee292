"""The pool of clips on disk: made once, in parallel, extended when more are asked for."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
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
from coefvq.data.shortform.make import make_clip

VERSION = 1
"""Of the recipe: another number makes another pool, and another fingerprint."""

CHUNK = 16
"""Clips per part of the table: what a killed run makes again at most, per process."""

_log = logging.getLogger(__name__)


class Pool:
    """Clips 0, 1, 2, … of one data seed.

    `clips/000000.mp4` … hold the clips, `table/000000.parquet` … one part per `CHUNK` of them. A
    part is written after its clips and appears whole, so whatever a part lists is there. Making
    is under a lock: a second run waits, and then finds everything.

    Args:
        seed: of the pool.
        cache_dir: see `coefvq.data.home.cache_home`.
    """

    def __init__(self, seed: int = 0, cache_dir: str | Path | None = None) -> None:
        self.seed = seed
        self.folder = cache_home(cache_dir) / "shortform" / f"v{VERSION}-seed{seed}"
        self.clips = self.folder / "clips"

    def ensure(self, count: int, workers: int | None = None) -> pandas.DataFrame:
        """Make what is missing of the first `count` clips and return their rows, in order.

        Args:
            count: how many clips are wanted.
            workers: processes; None: one per core, up to 8.

        Raises:
            OSError: the disk is full.
        """
        if self._missing(count):
            self.clips.mkdir(parents=True, exist_ok=True)
            (self.folder / "table").mkdir(exist_ok=True)
            with FileLock(self.folder / "lock"):
                self._make(self._missing(count), workers)
        parts = [pandas.read_parquet(self._part(n)) for n in range(_chunks(count))]
        return pandas.concat(parts, ignore_index=True).iloc[:count]

    def _part(self, number: int) -> Path:
        return self.folder / "table" / f"{number:06d}.parquet"

    def _missing(self, count: int) -> list[int]:
        return [n for n in range(_chunks(count)) if not self._part(n).exists()]

    def _make(self, numbers: list[int], workers: int | None) -> None:
        if not numbers:
            return
        workers = min(workers or min(os.cpu_count() or 1, 8), len(numbers))
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        times = (TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, *times, console=Console(stderr=True)) as progress:
            bar = progress.add_task("making clips", total=len(numbers) * CHUNK)
            for _ in self._run(numbers, workers):
                progress.advance(bar, CHUNK)

    def _run(self, numbers: list[int], workers: int) -> Iterator[None]:
        # Few clips are made sooner than processes start.
        if workers == 1 or len(numbers) * CHUNK < 64:
            for number in numbers:
                yield _make_part(self.clips, self._part(number), self.seed, number)
            return
        # Spawned, not forked: the parent may have threads (torch, FFmpeg).
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            jobs = [
                pool.submit(_make_part, self.clips, self._part(number), self.seed, number)
                for number in numbers
            ]
            for job in as_completed(jobs):
                yield job.result()


def _chunks(count: int) -> int:
    return -(-count // CHUNK)


def _make_part(clips: Path, part: Path, seed: int, number: int) -> None:
    """Make one chunk of clips, then the part of the table that lists them."""
    av.logging.set_level(None)
    rows = [make_clip(clips, seed, number * CHUNK + i) for i in range(CHUNK)]
    temporary = part.with_name(f".{part.name}.part")
    pandas.DataFrame(rows).to_parquet(temporary, index=False)
    temporary.replace(part)
