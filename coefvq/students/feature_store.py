"""What frozen encoders know of each clip, kept on disk: a clip is encoded once, paired many times.

    <folder>/<fingerprint>/shard-<name>/{video,video_mask,text,...}.npy index.json

The fingerprint is of the encoders' weights and shapes and of how clips were read, so other encoders
never meet these features. A shard is written under another name and renamed when it is complete:
a reader sees whole shards or none, a killed run loses what was not flushed, and two processes
that fill one store at once only do some work twice. Shards are never changed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch

from coefvq.modules.clip_encoders import ClipRows
from coefvq.types import Batch

SHARD_CLIPS = 256
"""Clips that are collected before a shard is written."""


class FrozenEncoder(Protocol):
    """What is asked of an encoder: a module whose `config` says whether it is `frozen`.

    `widths` and `config.to_dict()` say its shape, and `features_class` what it answers with.
    """

    features_class: ClassVar[type[ClipRows]]
    config: Any

    @property
    def widths(self) -> Mapping[str, int]:
        """D of each part of the features."""

    def state_dict(self) -> Mapping[str, torch.Tensor]:
        """Its weights."""

    def __call__(self, batch: Batch) -> Any:
        """Features of the clips of a batch."""


DTYPES = {"float32": np.float32, "float16": np.float16}
"""How features can be kept."""


def encoder_fingerprint(encoder: FrozenEncoder, reading: str = "") -> str:
    """Hash of what decides a clip's features: shapes, weights, and how files are read.

    Args:
        encoder: the clip encoder; every weight is read.
        reading: whatever else decides (decoding, tokenizer, data), for instance the fingerprint of
            the data module.

    Returns:
        32 hexadecimal digits.
    """
    digest = hashlib.blake2b(digest_size=16)
    read = sorted(encoder.widths.items())
    digest.update(json.dumps([encoder.config.to_dict(), read, reading], sort_keys=True).encode())
    for name, value in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


class FeatureStore:
    """Features of clips, by id.

    Args:
        folder: stores of several encoders may share it.
        encoder: the frozen encoder that the features are of.
        reading: see `encoder_fingerprint`. Clips are known by `Batch.ids`, so it must change
            where an id stands for another file.
        dtype: `"float32"` gives back what was computed, to the bit; `"float16"` takes half of the
            disk, with relative errors up to 2^-11.

    Raises:
        ValueError: the encoder is not frozen, or another dtype.
    """

    def __init__(
        self,
        folder: str | Path,
        encoder: FrozenEncoder,
        reading: str = "",
        dtype: str = "float32",
    ) -> None:
        if dtype not in DTYPES:
            raise ValueError(f"dtype {dtype!r} is unknown; choose one of {', '.join(DTYPES)}")
        self.reading, self.dtype = reading, dtype
        _refuse_trained(encoder)
        self.features = type(encoder).features_class
        self.fingerprint = encoder_fingerprint(encoder, reading)
        self.folder = Path(folder) / f"{self.fingerprint}-{dtype}"
        self._places: dict[str, tuple[str, int]] = {}
        self._arrays: dict[str, dict[str, np.ndarray]] = {}
        self._pending: dict[str, ClipRows] = {}
        self._known: set[str] = set()
        self.refresh()

    def check(self, encoder: FrozenEncoder) -> None:
        """Refuse an encoder that these features are not of.

        Raises:
            ValueError: it is not frozen, or differs in shape or weights.
        """
        _refuse_trained(encoder)
        given = encoder_fingerprint(encoder, self.reading)
        if given != self.fingerprint:
            raise ValueError(
                f"features in {self.folder} are of an encoder with fingerprint "
                f"{self.fingerprint}, the model's has {given}; make a store for this encoder"
            )

    def refresh(self) -> None:
        """Take in shards that were completed since the last look."""
        if not self.folder.is_dir():
            return
        for shard in sorted(self.folder.glob("shard-*")):
            if shard.name in self._known:
                continue
            self._known.add(shard.name)
            for row, key in enumerate(_read_index(shard)):
                self._places.setdefault(key, (shard.name, row))

    def __contains__(self, clip: str) -> bool:
        return clip in self._places or clip in self._pending

    def __len__(self) -> int:
        return len(self._places.keys() | self._pending.keys())

    def fill(self, encoder: FrozenEncoder, batches: Iterable[Batch]) -> int:
        """Encode what is missing and write it, in whole shards; begin again where it stopped.

        Args:
            encoder: the encoder of this store.
            batches: clips in any order, also several times.

        Returns:
            How many clips were encoded.
        """
        self.check(encoder)
        before = len(self)
        try:
            for batch in batches:
                self._encode_missing(encoder, batch)
        finally:
            self.flush()  # what is done stays done, also after Ctrl-C
        return len(self) - before

    def encode(self, encoder: FrozenEncoder, batch: Batch) -> ClipRows:
        """Give the features of a batch: from the store, or encoded now and put there."""
        self._encode_missing(encoder, batch)
        return self.gather(batch.ids).to(batch.device)

    def _encode_missing(self, encoder: FrozenEncoder, batch: Batch) -> None:
        rows = [row for row, clip in enumerate(batch.ids) if clip not in self]
        if not rows:
            return
        with torch.no_grad():
            features = encoder(_rows(batch, rows))
        self.add([batch.ids[row] for row in rows], features)

    def add(self, clips: Sequence[str], features: ClipRows) -> None:
        """Put features there; they are written when a shard is full or at `flush`."""
        features = features.to("cpu")
        for row, clip in enumerate(clips):
            if clip not in self:
                one = features[row : row + 1]._map(lambda t: t.detach().clone())
                self._pending[clip] = one._map(self._rounded)
        if len(self._pending) >= SHARD_CLIPS:
            self.flush()

    def _rounded(self, tensor: torch.Tensor) -> torch.Tensor:
        """As it will come back from the disk, so that a clip's features never change in a run."""
        if not tensor.is_floating_point():
            return tensor
        return tensor.to(getattr(torch, self.dtype)).float()

    def flush(self) -> None:
        """Write what has been collected as one shard.

        Raises:
            OSError: nothing can be written there; no half shard is left.
        """
        if not self._pending:
            return
        features = self.features.cat(list(self._pending.values()))
        name = uuid.uuid4().hex
        draft = self.folder / f"draft-{name}"
        try:
            draft.mkdir(parents=True)
            columns = []
            for f in dataclasses.fields(features):
                value = getattr(features, f.name)
                if value is None:
                    continue
                array = value.numpy()
                if value.is_floating_point():
                    array = array.astype(DTYPES[self.dtype])
                np.save(draft / f"{f.name}.npy", array)
                columns.append(f.name)
            index = {"clips": list(self._pending), "columns": columns}
            (draft / "index.json").write_text(json.dumps(index))
            draft.rename(self.folder / f"shard-{name}")
        except OSError:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        self._pending.clear()
        self.refresh()

    def gather(self, clips: Sequence[str]) -> ClipRows:
        """Read many clips at once.

        Args:
            clips: B ids, in any order, also several times.

        Returns:
            Their features, float32, on the CPU.

        Raises:
            KeyError: a clip is not there.
        """
        parts: list[Any] = []
        order: list[int] = []
        by_shard: dict[str, tuple[list[int], list[int]]] = {}
        for position, clip in enumerate(clips):
            if clip in self._pending:
                parts.append(self._pending[clip])
                order.append(position)
            else:
                shard, row = self._places[clip]
                positions, rows = by_shard.setdefault(shard, ([], []))
                positions.append(position)
                rows.append(row)
        for shard, (positions, rows) in by_shard.items():
            arrays = {name: array[rows] for name, array in self._open(shard).items()}
            columns = {
                name: torch.from_numpy(array if array.dtype == bool else array.astype(np.float32))
                for name, array in arrays.items()
            }
            parts.append(self.features(**columns))
            order += positions
        return self.features.cat(parts)[torch.tensor(order).argsort()]

    def _open(self, shard: str) -> dict[str, np.ndarray]:
        if shard not in self._arrays:
            self._arrays[shard] = {
                file.stem: np.load(file, mmap_mode="r", allow_pickle=False)
                for file in (self.folder / shard).glob("*.npy")
            }
        return self._arrays[shard]

    def __getstate__(self) -> dict[str, Any]:
        # A mapped array would be pickled with its content; a worker process maps its own.
        return {**self.__dict__, "_arrays": {}}


def _rows(batch: Batch, rows: list[int]) -> Batch:
    """Some clips of a batch, the public part."""
    if len(rows) == len(batch):
        return batch.public()
    index = torch.tensor(rows, device=batch.device)
    some = batch.public()._map(lambda tensor: tensor[index])
    return dataclasses.replace(some, ids=tuple(batch.ids[row] for row in rows))


def _read_index(shard: Path) -> list[str]:
    """Ids of a shard; none where somebody has damaged it."""
    try:
        index = json.loads((shard / "index.json").read_text())
        clips = list(index["clips"])
        for name in index["columns"]:
            column = np.load(shard / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            if len(column) != len(clips):
                return []
        return clips
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return []


def _refuse_trained(encoder: FrozenEncoder) -> None:
    if not encoder.config.frozen:
        raise ValueError(
            "features of encoders that are trained (frozen=False) go out of date and cannot be "
            "kept; freeze the encoders or do without a store"
        )


__all__ = ["DTYPES", "SHARD_CLIPS", "FeatureStore", "FrozenEncoder", "encoder_fingerprint"]
