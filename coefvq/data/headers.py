"""What the headers of files say, and a few of the clips that there is something to say of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import av

from coefvq.data.media import UnreadableClip, open_file

SHOWN = 2
"""Clips that are named."""

T = TypeVar("T")


def from_header(path: str | Path, read: Callable[[Any], T | None]) -> T | None:
    """Ask the first video stream of a file, decoding nothing.

    Args:
        path: a local file.
        read: given the stream of PyAV, None where the file has no video.

    Returns:
        What `read` says; None for a file that cannot be opened.
    """
    try:
        with open_file(path) as container:
            return read(next(iter(container.streams.video), None))
    except (av.FFmpegError, UnreadableClip, OSError, ValueError):
        return None


def examples(found: Mapping[str, str]) -> str:
    """The first clips with what is said of them.

    >>> examples({"a.mp4": "PQ", "b.mp4": "HLG", "c.mp4": "PQ"})
    'a.mp4: PQ; b.mp4: HLG; …'
    """
    shown = [f"{name}: {words}" for name, words in list(found.items())[:SHOWN]]
    return "; ".join([*shown, *(["…"] if len(found) > SHOWN else [])])


def name_in(found: Mapping[str, str], path: str | Path) -> str:
    """What to call a file: its name, or all of its path where another one is called so."""
    name = Path(path).name
    return str(path) if name in found else name


__all__ = ["SHOWN", "examples", "from_header", "name_in"]
