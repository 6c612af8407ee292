"""Clips that are more than 8-bit SDR: what they are, and what is said of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import av

from coefvq.data.media import UnreadableClip, open_file

TRANSFERS = {16: "PQ", 18: "HLG"}
"""Of HDR, by the numbers of ITU-T H.273."""

PRIMARIES = {9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}
"""Wider than BT.709's, likewise."""

SHOWN = 2
"""Clips that are named."""


def colour_of(path: str | Path) -> str | None:
    """Say what makes a file more than 8-bit SDR, as its header has it.

    Args:
        path: a local file.

    Returns:
        For instance `"PQ, BT.2020, 10 bits"`; None for SDR of 8 bits, for a file that says nothing
        (most SDR files do not), and for one that cannot be opened or has no video.
    """
    try:
        with open_file(path) as container:
            stream = next(iter(container.streams.video), None)
            context = None if stream is None else stream.codec_context
            if context is None:
                return None
            # Metadata may name what the installed FFmpeg does not know.
            words = [TRANSFERS.get(int(context.color_trc or 0))]
            words.append(PRIMARIES.get(int(context.color_primaries or 0)))
            bits = 8 if context.format is None else context.format.components[0].bits
            words.append(f"{bits} bits" if bits > 8 else None)
    except (av.FFmpegError, UnreadableClip, OSError, ValueError):
        return None
    return ", ".join(word for word in words if word) or None


def colour_note(paths: Iterable[str | Path]) -> str | None:
    """One sentence about the clips among these that are more than 8-bit SDR; None without any.

    Decoding brings them to 8 bits, which by itself costs little, but maps no tones: the codes of
    HDR and of wide colours are taken for those of SDR, so that such pictures come out pale.
    """
    total, found = 0, []
    for path in paths:
        total += 1
        if words := colour_of(path):
            found.append(f"{Path(path).name}: {words}")
    if not found:
        return None
    shown = "; ".join(found[:SHOWN]) + ("; …" if len(found) > SHOWN else "")
    return (
        f"{len(found)} of {total} clips are HDR, of wide colours or above 8 bits ({shown}): they "
        "are read as SDR of 8 bits without mapping tones, so a score of HDR or wide colours means "
        "little unless the model was trained on such clips read this way"
    )


__all__ = ["PRIMARIES", "SHOWN", "TRANSFERS", "colour_note", "colour_of"]
