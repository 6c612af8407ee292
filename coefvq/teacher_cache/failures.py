"""What to say when a cache cannot be written."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ELSEWHERE = ", or set cache_dir to another disk"
_WAYS = {
    errno.ENOSPC: ("no space left", f"free some space and start again{_ELSEWHERE}"),
    errno.EDQUOT: ("no space left in the quota", f"free some space and start again{_ELSEWHERE}"),
    errno.EFBIG: ("no file may become large enough", "lift the limit (ulimit -f) and start again"),
}


def cannot_write(folder: Path, rows: int, error: OSError) -> OSError:
    """The same error with a sentence.

    Args:
        folder: of the cache.
        rows: that are on the disk.
        error: what the system said.

    >>> full = OSError(errno.ENOSPC, "No space left on device")
    >>> print(cannot_write(Path("here"), 12, full).strerror)  # doctest: +NORMALIZE_WHITESPACE
    no space left for the teacher cache in here; 12 rows are safe there: free some space and start
    again, or set cache_dir to another disk
    """
    number = error.errno or errno.EIO
    said = f"nothing can be written ({error.strerror or error})"
    reason, way = _WAYS.get(number, (said, f"start again{_ELSEWHERE}"))
    return OSError(
        number, f"{reason} for the teacher cache in {folder}; {rows} rows are safe there: {way}"
    )


@contextmanager
def with_a_sentence(folder: Path, rows: int) -> Iterator[None]:
    """Whatever cannot be written here says so as above."""
    try:
        yield
    except OSError as error:
        raise cannot_write(folder, rows, error) from error


__all__ = ["cannot_write", "with_a_sentence"]
