"""What is in a file, as a name: known after a few reads, the same for every copy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from coefvq.types import Clip

BLOCK = 64 * 1024
"""Bytes that are read at the beginning, in the middle and at the end."""


def file_content(path: str | Path) -> str | None:
    """Hash the size of a file and three blocks of it; a file of three blocks or less is read whole.

    Encoded video differs all over when the picture does, so a replaced clip of the same length is
    noticed; a change of single bytes between the blocks is not. Unlike the time of the last change,
    the answer stays with a copy.

    Returns:
        32 hex digits; None where there is no file that can be read.
    """
    try:
        return _hash(Path(path))
    except OSError:
        return None


def clip_content(clip: Clip, text_fields: Sequence[str]) -> str:
    """Hash all that a teacher may know of a clip: file, texts, privileged features, and its split.

    The label counts for nothing, as no answer depends on it; the split does, because a teacher may
    have been trained on a clip that would now be tested.

    Args:
        clip: one.
        text_fields: names of the texts that are read, in their order.

    Returns:
        32 hex digits.
    """
    known = [
        file_content(clip.path),
        [clip.text.get(name, "") for name in text_fields],
        sorted((name, repr(float(value))) for name, value in clip.privileged.items()),
        clip.split,
    ]
    return hashlib.blake2b(json.dumps(known).encode(), digest_size=16).hexdigest()


def _hash(path: Path) -> str:
    size = path.stat().st_size
    digest = hashlib.blake2b(f"{size}\0".encode(), digest_size=16)
    with path.open("rb") as file:
        if size <= 3 * BLOCK:
            digest.update(file.read())
        else:
            for start in (0, (size - BLOCK) // 2, size - BLOCK):
                file.seek(start)
                digest.update(file.read(BLOCK))
    return digest.hexdigest()


__all__ = ["BLOCK", "clip_content", "file_content"]
