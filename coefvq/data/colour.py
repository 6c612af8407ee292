"""Clips that are more than 8-bit SDR: what they are, and what is said of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from coefvq.data.headers import SHOWN, examples, from_header, name_in

TRANSFERS = {16: "PQ", 18: "HLG"}
"""Of HDR, by the numbers of ITU-T H.273."""

PRIMARIES = {9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}
"""Wider than BT.709's, likewise."""


def colour_of(path: str | Path) -> str | None:
    """Say what makes a file more than 8-bit SDR, as its header has it.

    Args:
        path: a local file.

    Returns:
        For instance `"PQ, BT.2020, 10 bits"`; None for SDR of 8 bits, for a file that says nothing
        (most SDR files do not), and for one that cannot be opened or has no video.
    """
    return from_header(path, stream_colour)


def stream_colour(stream: Any) -> str | None:
    """The same of a video stream of PyAV; None for none."""
    context = None if stream is None else stream.codec_context
    if context is None:
        return None
    try:
        # Metadata may name what the installed FFmpeg does not know.
        words = [TRANSFERS.get(int(context.color_trc or 0))]
        words.append(PRIMARIES.get(int(context.color_primaries or 0)))
        bits = 8 if context.format is None else context.format.components[0].bits
    except ValueError:
        return None
    words.append(f"{bits} bits" if bits > 8 else None)
    return ", ".join(word for word in words if word) or None


def colour_note(colours: Mapping[str, str], total: int) -> str | None:
    """One sentence about the clips that are more than 8-bit SDR; None without any.

    Decoding brings them to 8 bits, which by itself costs little, but maps no tones: the codes of
    HDR and of wide colours are taken for those of SDR, so that such pictures come out pale.

    Args:
        colours: what `colour_of` says, by the name of the clip.
        total: clips that were looked at.
    """
    if not colours:
        return None
    return (
        f"{len(colours)} of {total} clips are HDR, of wide colours or above 8 bits "
        f"({examples(colours)}): they are read as SDR of 8 bits without "
        "mapping tones, so a score of HDR or wide colours means little unless the model was "
        "trained on such clips read this way"
    )


def colours_of(paths: Iterable[str | Path]) -> tuple[dict[str, str], int]:
    """What `colour_note` is given, of files."""
    total, found = 0, {}
    for path in paths:
        total += 1
        if words := colour_of(path):
            found[name_in(found, path)] = words
    return found, total


__all__ = [
    "PRIMARIES",
    "SHOWN",
    "TRANSFERS",
    "colour_note",
    "colour_of",
    "colours_of",
    "stream_colour",
]
