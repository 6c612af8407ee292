"""The embedded clips of `shortform_pairs` on disk: made once, in parallel, extended when needed."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
from pathlib import Path

import av
import numpy as np
import pandas
from filelock import FileLock

from coefvq.data.home import cache_home
from coefvq.data.pairs.copies import Copy, Original, plan_copies, write_copies
from coefvq.data.pairs.drawing import File
from coefvq.data.pairs.jobs import run_jobs
from coefvq.data.pairs.plan import TRANSFORMATIONS
from coefvq.data.pairs.tune import make_tune
from coefvq.data.shortform import sound, sources
from coefvq.data.shortform.codec import render, write_clip

VERSION = 3
"""Of the recipe: another number makes another pool, and another fingerprint."""

BLOCK = 8
"""Sources that borrow from one another; a block is made in one go and never divided by a split."""

COPIES = 3
"""Copies of each source."""

LEAST, MOST = 1, 3
"""Transformations that a copy combines, besides the title's."""

TITLE_SHARE = 0.7
"""Copies that come under a title of their own: those who repost seldom keep one."""

MISMATCH_SHARE = 0.3
"""New titles that are about something else."""

BLOCK_BYTES = 3_000_000
"""About what a block takes on disk."""

AMONG = tuple(name for name in TRANSFORMATIONS if name != "title")


class PairPool:
    """Blocks 0, 1, 2, … of sources and their copies, all from one data seed.

    `clips/` holds the files, `table/000000.parquet` … one part per block. Files appear whole, a
    part after its clips. Making is under a lock: a second run waits, and then finds everything.

    Args:
        seed: of the pool.
        cache_dir: see `coefvq.data.home.cache_home`.
    """

    def __init__(self, seed: int = 0, cache_dir: str | Path | None = None) -> None:
        self.seed = seed
        self.folder = cache_home(cache_dir) / "shortform_pairs" / f"v{VERSION}-seed{seed}"
        self.clips = self.folder / "clips"
        self.table = self.folder / "table"

    def ensure(self, blocks: int, workers: int | None = None) -> list[list[File]]:
        """Make what is missing of the first `blocks` blocks and return their files.

        Args:
            blocks: how many are wanted.
            workers: processes; None: one per core, up to 8, and none when little is missing.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        if self._missing(blocks):
            self.clips.mkdir(parents=True, exist_ok=True)
            self.table.mkdir(exist_ok=True)
            with FileLock(self.folder / "lock"):
                self._make(self._missing(blocks), workers)
        tables = [pandas.read_parquet(self._part(number)) for number in range(blocks)]
        return [[File.from_dict(row) for row in t.to_dict("records")] for t in tables]

    def _part(self, number: int) -> Path:
        return self.table / f"{number:06d}.parquet"

    def _missing(self, blocks: int) -> list[int]:
        """Blocks without a part, or with a clip that somebody has removed."""
        if not self.clips.is_dir() or not self.table.is_dir():
            return list(range(blocks))
        there = {entry.name for entry in os.scandir(self.clips)}
        return [
            number
            for number in range(blocks)
            if not self._part(number).is_file()
            or not there.issuperset(pandas.read_parquet(self._part(number))["path"])
        ]

    def _make(self, numbers: list[int], workers: int | None) -> None:
        if not numbers:
            return
        for folder in (self.clips, self.table):
            for leftover in folder.glob(".*.part"):  # of a run that was killed
                leftover.unlink(missing_ok=True)
        needed, free = len(numbers) * BLOCK_BYTES, shutil.disk_usage(self.folder).free
        if free < needed:
            raise OSError(
                errno.ENOSPC,
                f"{len(numbers) * BLOCK} sources with their copies take about "
                f"{needed / 1e6:.0f} MB, and {self.folder} has {free / 1e6:.0f} MB left",
            )
        jobs = [(self.clips, self._part(number), self.seed, number) for number in numbers]
        for _ in run_jobs(make_block, jobs, f"Making clips ({BLOCK} sources each)", workers):
            pass


def make_block(clips: Path, part: Path, seed: int, number: int) -> int:
    """Make the sources of a block, their copies, then the part that lists them.

    Args:
        clips: folder of the clips.
        part: the Parquet file to write.
        seed: of the pool.
        number: of the block; it is returned.
    """
    av.logging.set_level(None)
    originals = [make_source(clips, seed, number * BLOCK + i) for i in range(BLOCK)]
    rows = [original.file.to_dict() for original in originals]
    for i, original in enumerate(originals):
        rng = np.random.default_rng([seed, number * BLOCK + i, 7])
        donors = [*originals[:i], *originals[i + 1 :]]
        copies = [
            retitled(copy, rng)
            for copy in plan_copies(
                original, donors, rng, copies=COPIES, least=LEAST, most=MOST, among=AMONG
            )
        ]
        _, bad = write_copies(copies, clips)
        assert not bad, bad
        rows += [copy.file.to_dict() for copy in copies]
    temporary = part.with_name(f".{part.name}.{os.getpid()}.part")
    pandas.DataFrame(rows).to_parquet(temporary, index=False)
    temporary.replace(part)
    return number


def retitled(copy: Copy, rng: np.random.Generator) -> Copy:
    """Give most copies a title of their own."""
    if rng.random() >= TITLE_SHARE:
        return copy
    mismatch = bool(rng.random() < MISMATCH_SHARE)
    title = sources.draw_title(rng, copy.file.kind, mismatch)
    how = (*copy.file.how, "title")  # the last of TRANSFORMATIONS
    return dataclasses.replace(
        copy,
        file=dataclasses.replace(copy.file, title=title, how=how),
        plan=dataclasses.replace(copy.plan, title=title, how=how),
    )


def make_source(folder: Path, seed: int, index: int) -> Original:
    """Make the file of one source; everything about it follows from the seed and its index.

    Args:
        folder: where the file goes.
        seed: of the pool.
        index: of the source.
    """
    subject, audio = (np.random.default_rng([seed, index, stream]) for stream in (5, 6))
    picture = sources.draw_picture(subject)
    title = sources.draw_title(subject, picture.kind, False)
    name = f"pairs-{seed}-{index:06d}"
    path = folder / f"{name}.mp4"
    if not path.exists():
        pristine, _ = render(picture, [])
        # Its halves sound different, as those of a real sound track do.
        tune = make_tune(audio, sources.FRAMES / sources.FPS, sound.RATE)
        write_clip(path, pristine, tune, sound.RATE, crf=20, title=title)
    file = File(
        id=name, path=path.name, source=name, original=True, kind=picture.kind, title=title,
        heard=name,
    )  # fmt: skip
    return Original(file, path, name, sound=True, seconds=sources.FRAMES / sources.FPS)


__all__ = ["BLOCK", "COPIES", "VERSION", "PairPool", "make_block", "make_source"]
