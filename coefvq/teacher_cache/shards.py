"""One file of a cache: rows of teacher outputs as an Arrow table, and back as mapped arrays."""

from __future__ import annotations

import io
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

ENDING = ".arrow"
RAGGED = ("token_features", "topk_indices", "topk_logprobs", "topk_tail")
"""Columns with a row of their own length for each clip; all others have one shape."""

_OWNER, _ERRORS, _SUM = b"coefvq.fingerprint", b"coefvq.errors", b"coefvq.crc32"
_KEYS = ("id", "view", "content")

Column = np.ndarray | Sequence[np.ndarray]
"""(N,) or (N, K) numbers; ragged: N arrays (T_i,) or (T_i, K)."""


@dataclass(frozen=True)
class Shard:
    """A file, mapped into memory.

    Args:
        path: where.
        ids: N clip ids.
        views: N views.
        columns: (N,) or (N, K) arrays by name; ragged ones (T_1 + … + T_N, …).
        offsets: (N + 1,) first row of each clip in the ragged columns; None without any.
        contents: what was in each clip, as hex; None where nobody said.
        errors: of the numbers as they are kept, the largest by column.
    """

    path: Path
    ids: list[str]
    views: list[str]
    columns: dict[str, np.ndarray]
    offsets: np.ndarray | None
    contents: list[str] | None = None
    errors: Mapping[str, float] = field(default_factory=dict)


def write_shard(
    path: Path,
    ids: Sequence[str],
    views: Sequence[str],
    columns: Mapping[str, Column],
    *,
    fingerprint: str = "",
    contents: Sequence[str] | None = None,
    errors: Mapping[str, float] | None = None,
) -> None:
    """Write rows to a file that appears whole or not at all.

    Args:
        path: where.
        ids: N clip ids.
        views: N views.
        columns: N rows of each.
        fingerprint: of the cache that the file belongs to.
        contents: what was in each clip (`coefvq.data.content.clip_content`), to know it again.
        errors: see `Shard`.

    Raises:
        OSError: nothing can be written there, for instance because the disk is full; nothing is
            left behind.
    """
    arrays = {"id": pa.array(ids, pa.string()), "view": pa.array(views, pa.string())}
    if contents is not None:
        arrays["content"] = pa.array(contents, pa.string())
    for name, column in columns.items():
        arrays[name] = _ragged(column) if name in RAGGED else _fixed(np.asarray(column))
    about = {
        _OWNER: fingerprint.encode(),
        _ERRORS: json.dumps(dict(errors or {})).encode(),
        _SUM: str(_checksum(ids, views, contents, *_opened(arrays))).encode(),
    }
    table = pa.table(arrays, metadata=about)
    # Into memory first: a plain write says why it fails, and a shard is small.
    buffer = io.BytesIO()
    with pa.ipc.new_file(buffer, table.schema) as writer:
        writer.write_table(table)
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read_shard(path: Path, *, fingerprint: str = "") -> Shard:
    """Map a file.

    Args:
        path: where.
        fingerprint: of the cache that it has to belong to.

    Raises:
        ValueError: it is no shard of this library, it is damaged, or it belongs to another cache.
    """
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        ids, views = table.column("id").to_pylist(), table.column("view").to_pylist()
        known = "content" in table.column_names
        contents = table.column("content").to_pylist() if known else None
        about = table.schema.metadata or {}
        errors = json.loads(about.get(_ERRORS, b"{}"))
        whole = {name: table.column(name).combine_chunks() for name in table.column_names}
        columns, offsets = _opened(
            {n: a.chunk(0) if isinstance(a, pa.ChunkedArray) else a for n, a in whole.items()}
        )
        if about.get(_SUM, b"").decode() != str(_checksum(ids, views, contents, columns, offsets)):
            raise ValueError("its rows are not the ones that were written")
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise ValueError(
            f"{path} is no readable part of a teacher cache ({error}); remove it, and write the "
            "cache again: what is missing is added"
        ) from None
    owner = about.get(_OWNER, b"").decode()
    if owner != fingerprint:
        raise ValueError(
            f"{path} belongs to another teacher cache (fingerprint {owner[:16] or 'unknown'}, here "
            f"{fingerprint[:16] or 'unknown'}); move it back to where it came from"
        )
    return Shard(path, ids, views, columns, offsets, contents, errors)


def _opened(arrays: Mapping[str, pa.Array]) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """The numbers of all columns but the keys, and the offsets of the ragged ones."""
    columns: dict[str, np.ndarray] = {}
    offsets = None
    for name, array in arrays.items():
        if name in _KEYS:
            continue
        if name in RAGGED:
            offsets = array.offsets.to_numpy()
            array = array.values
        columns[name] = _numbers(array)
    return columns, offsets


def _checksum(
    ids: Sequence[str],
    views: Sequence[str],
    contents: Sequence[str] | None,
    columns: Mapping[str, np.ndarray],
    offsets: np.ndarray | None,
) -> int:
    """Notices a flipped bit, and numbers that stand in another row: about a second per gigabyte."""
    value = zlib.crc32(json.dumps([list(ids), list(views), contents and list(contents)]).encode())
    for name in sorted(columns):
        value = zlib.crc32(name.encode(), value)
        value = zlib.crc32(np.ascontiguousarray(columns[name]).view(np.uint8).data, value)
    return value if offsets is None else zlib.crc32(offsets.tobytes(), value)


def _fixed(values: np.ndarray) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _ragged(rows: Column) -> pa.Array:
    offsets = np.cumsum([0, *(len(row) for row in rows)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), _fixed(np.concatenate(list(rows))))


def _numbers(array: pa.Array) -> np.ndarray:
    if not isinstance(array, pa.FixedSizeListArray):
        return array.to_numpy(zero_copy_only=True)
    width = array.type.list_size
    return array.flatten().to_numpy(zero_copy_only=True).reshape(-1, width)


__all__ = ["ENDING", "RAGGED", "Shard", "read_shard", "write_shard"]
