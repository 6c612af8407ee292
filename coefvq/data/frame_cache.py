"""Decoded clips on disk: what the models read, kept once, mapped into memory afterwards.

    <cache folder>/frames/<reading>/shard-<name>/{frames,frame_mask,audio,audio_mask,seconds}.npy
                                            index.json

`<reading>` is a hash of everything that decides what decoding gives. A shard is written under
another name and renamed when it is complete, so a reader sees whole shards or none, a killed run
loses at most one shard's worth of decoding, and two runs that fill the same cache at once only
do some work twice. Shards are never changed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from coefvq.data.home import cache_home
from coefvq.data.reader import READING_VERSION, Reading, reading_shapes
from coefvq.files import FULL
from coefvq.types import InputSpec

SHARD_CLIPS = 256
"""Most clips in one shard."""

SHARD_BYTES = 256 * 2**20
"""Most bytes in one shard, so that large frames do not fill the memory."""

_NOT_READING = (
    "sampling",
    "train_sampling",
    "text_fields",
    "max_text_length",
    "separate_text",
    "max_field_length",
)
_STALE_SECONDS = 24 * 3600


def clip_key(path: str | Path) -> str:
    """Identify a file's content without reading it: path, size and time of the last change.

    Raises:
        OSError: there is no such file.
    """
    stat = Path(path).stat()
    text = f"{Path(path).absolute()}\0{stat.st_size}\0{stat.st_mtime_ns}"
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def reading_name(inputs: InputSpec, sampling: str) -> str:
    """Hash of what decides the content of a decoded clip; names the folder of its cache."""
    values = inputs.to_dict()
    kept = {name: value for name, value in values.items() if name not in _NOT_READING}
    text = json.dumps([READING_VERSION, sampling, kept], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


class FrameCache:
    """Decoded clips of one way of reading.

    Args:
        inputs: how clips are read.
        sampling: the frame policy; it must be one that gives the same frames every time.
        cache_dir: see `coefvq.data.home.cache_home`.
    """

    def __init__(
        self, inputs: InputSpec, sampling: str, cache_dir: str | Path | None = None
    ) -> None:
        self.shapes = reading_shapes(inputs)
        self.folder = cache_home(cache_dir) / "frames" / reading_name(inputs, sampling)
        self._places: dict[str, tuple[str, int]] = {}
        self._arrays: dict[str, dict[str, np.ndarray]] = {}
        self._known: set[str] = set()
        self.refresh()

    def refresh(self) -> None:
        """Take in shards that were completed since the last look."""
        if not self.folder.is_dir():
            return
        for shard in sorted(self.folder.iterdir()):
            if shard.name in self._known:
                continue
            if not shard.name.startswith("shard-"):
                _remove_if_stale(shard)
                continue
            self._known.add(shard.name)
            keys = _read_index(shard, self.shapes)
            for row, key in enumerate(keys):
                self._places.setdefault(key, (shard.name, row))

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    @property
    def clip_bytes(self) -> int:
        """Size of one decoded clip."""
        return sum(
            int(np.prod(shape)) * np.dtype(kind).itemsize for shape, kind in self.shapes.values()
        )

    @property
    def shard_clips(self) -> int:
        """How many clips are collected before a shard is written."""
        return max(1, min(SHARD_CLIPS, SHARD_BYTES // self.clip_bytes))

    def check_space(self, clips: int) -> None:
        """Refuse to begin what the disk cannot hold.

        Raises:
            OSError: fewer bytes are free than `clips` decoded clips take.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        needed, free = clips * self.clip_bytes, shutil.disk_usage(self.folder).free
        if needed > free:
            raise _no_space(self.folder, f"{needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free")

    def append(self, rows: Sequence[tuple[str, Reading]]) -> None:
        """Write one shard.

        Args:
            rows: keys and decoded clips.

        Raises:
            OSError: the disk is full; the sentence says where and what to do.
        """
        if not rows:
            return
        name = uuid.uuid4().hex
        draft = self.folder / f"draft-{name}"
        try:
            draft.mkdir(parents=True)
            for field, (shape, kind) in self.shapes.items():
                array = np.empty((len(rows), *shape), kind)
                for place, (_, reading) in enumerate(rows):
                    array[place] = getattr(reading, field)
                np.save(draft / f"{field}.npy", array)
            (draft / "index.json").write_text(json.dumps({"keys": [key for key, _ in rows]}))
            draft.rename(self.folder / f"shard-{name}")
        except OSError as error:
            shutil.rmtree(draft, ignore_errors=True)
            # numpy says no number where only a part could be written.
            if error.errno in (*FULL, None):
                raise _no_space(self.folder, "the disk or a limit is reached") from error
            raise
        self.refresh()

    def gather(self, keys: Sequence[str]) -> dict[str, np.ndarray]:
        """Read many clips at once.

        Args:
            keys: B keys, all of them in the cache, in any order.

        Returns:
            Arrays (B, ...) named like the fields of `Reading`.

        Raises:
            KeyError: a key is not in the cache.
        """
        by_shard: dict[str, tuple[list[int], list[int]]] = {}
        for position, key in enumerate(keys):
            shard, row = self._places[key]
            positions, rows = by_shard.setdefault(shard, ([], []))
            positions.append(position)
            rows.append(row)
        batch = {
            field: np.empty((len(keys), *shape), kind)
            for field, (shape, kind) in self.shapes.items()
        }
        for shard, (positions, rows) in by_shard.items():
            arrays = self._open(shard)
            for field, out in batch.items():
                out[positions] = arrays[field][rows]
        return batch

    def _open(self, shard: str) -> dict[str, np.ndarray]:
        if shard not in self._arrays:
            self._arrays[shard] = {
                field: _load(self.folder / shard / f"{field}.npy") for field in self.shapes
            }
        return self._arrays[shard]

    def __getstate__(self) -> dict[str, Any]:
        # A mapped array would be pickled with its content; a worker process maps its own.
        return {**self.__dict__, "_arrays": {}}


def _load(file: Path) -> np.ndarray:
    # Arrays of size 0 (no sound is read) cannot be mapped.
    array = np.load(file, mmap_mode="r", allow_pickle=False) if file.stat().st_size > 256 else None
    return np.load(file, allow_pickle=False) if array is None else array


def _read_index(shard: Path, shapes: dict[str, tuple[tuple[int, ...], str]]) -> list[str]:
    """Keys of a shard; none where somebody has damaged or emptied it."""
    try:
        keys = json.loads((shard / "index.json").read_text())["keys"]
    except (OSError, ValueError, KeyError):
        return []
    for field, (shape, kind) in shapes.items():
        expected = len(keys) * int(np.prod(shape)) * np.dtype(kind).itemsize
        file = shard / f"{field}.npy"
        if not file.is_file() or file.stat().st_size < expected:
            return []
    return list(keys)


def _remove_if_stale(draft: Path) -> None:
    try:
        if time.time() - draft.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError:
        pass


def _no_space(folder: Path, what: str) -> OSError:
    return OSError(
        errno.ENOSPC,
        f"no space left for decoded frames in {folder} ({what}); free some, or set cache_dir to "
        "another disk, or data.cache_frames=false to decode on the fly",
    )


__all__ = ["SHARD_BYTES", "SHARD_CLIPS", "FrameCache", "clip_key", "reading_name"]
