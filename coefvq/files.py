"""Write files so that a reader sees the old or the new content, never half of one; say why not."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says where nothing more fits: the disk, a quota, a limit."""
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a name to write to, in the same folder; it becomes `path` when the block ends well.

    The folder is made if it is missing. What is half written is removed when the block fails.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON, indented and with sorted keys."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def refusal(error: OSError) -> str:
    """What to say where the system refused to read or write; empty if no user could mend it."""
    if error.errno is None or error.strerror is None:
        return ""
    if error.strerror != os.strerror(error.errno):
        return str(error.strerror)  # a sentence of ours
    if error.errno in FULL:
        return (
            f"no space left on the device ({error}); free some, lift the limit if there is one "
            "(ulimit -f), or move the cache with cache_dir= and the run with run_dir="
        )
    if error.errno in _FORBIDDEN:
        return (
            f"{error.filename} is not ours to read or write ({error.strerror}); change its rights, "
            "or move the cache with cache_dir= and the run with run_dir="
        )
    return ""


__all__ = ["FULL", "refusal", "replacing", "write_json", "write_text"]
