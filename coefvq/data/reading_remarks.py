"""Clips that a model reads otherwise than most: of one frame, of few, short, or enlarged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coefvq.data.colour import colour_note, colours_of
from coefvq.data.headers import examples, from_header, name_in
from coefvq.types import InputSpec

ENLARGED = 1.25
"""From this factor on a picture that is enlarged is worth a word: scaling up blurs."""


def reading_remarks(
    path: str | Path,
    inputs: InputSpec,
    frames: int | None = None,
    *,
    percent: float | None = None,
) -> str:
    """Say what a score of this clip has to be read with.

    Args:
        path: a local file, which has been read.
        inputs: how.
        frames: different frames that were found in it, of the `inputs.num_frames` asked for; None:
            as many as the header says that there are.
        percent: the score, from 0 to 100, where it has that unit: ends of the scale are remarked.

    Returns:
        For instance `"a single frame; 32×16 pixels, enlarged to 126"`; empty where all is as usual.
    """
    said = []
    found, seconds, size = from_header(path, _length_and_size) or (None, None, None)
    if frames is None:
        frames = min(found or inputs.num_frames, inputs.num_frames)
    if frames == 1 < inputs.num_frames:
        said.append("a single frame")
    elif 2 * frames <= inputs.num_frames:
        said.append(f"{frames} frames where {inputs.num_frames} are read")
    if inputs.motion_frames and seconds is not None and seconds < inputs.motion_seconds:
        chunk = f"a chunk of {inputs.motion_seconds:g} s"
        said.append(f"{seconds:.2g} s, shorter than {chunk}: its last picture is repeated")
    if size is not None:
        side = max(size) if inputs.fit == "letterbox" else min(size)
        if side * ENLARGED < inputs.frame_size:
            said.append(f"{size[0]}×{size[1]} pixels, enlarged to {inputs.frame_size}")
    if percent is not None and not 0 < percent < 100:
        said.append("at the end of the scale, where scores are not told apart")
    return "; ".join(said)


def reading_notes(
    paths: Sequence[str | Path], inputs: InputSpec, *, alike: bool = False
) -> list[str]:
    """What the report of a run on such clips says of them; headers are read, nothing is decoded.

    Args:
        paths: local files.
        inputs: how they are read.
        alike: what is said of the first holds for all.
    """
    if alike:
        return [f"every clip: {words}" for p in paths[:1] if (words := reading_remarks(p, inputs))]
    found: dict[str, str] = {}
    for path in paths:
        if words := reading_remarks(path, inputs):
            found[name_in(found, path)] = words
    notes = [colour_note(*colours_of(paths))]
    if found:
        notes.append(
            f"{len(found)} of {len(paths)} clips are short, of few frames or enlarged "
            f"({examples(found)}): mind them where their scores are off"
        )
    return [note for note in notes if note]


def remarks_note(found: Mapping[str, str], total: int) -> str | None:
    """One sentence about such clips; None without any.

    Args:
        found: what `reading_remarks` says, by the name of the clip; empty ones don't count.
        total: clips that were looked at.

    >>> remarks_note({"a.mp4": "a single frame", "b.mp4": ""}, 2)
    '1 of 2 clips are unlike what models are trained on (a.mp4: a single frame): see column remarks'
    """
    found = {name: words for name, words in found.items() if words}
    if not found:
        return None
    return (
        f"{len(found)} of {total} clips are unlike what models are trained on "
        f"({examples(found)}): see column remarks"
    )


def _length_and_size(
    stream: Any,
) -> tuple[int | None, float | None, tuple[int, int] | None] | None:
    """Frames, seconds, and width and height, as one look at the header finds them."""
    if stream is None:
        return None
    seconds, rate = _seconds(stream), stream.average_rate
    frames = int(stream.frames) or None
    if frames is None and seconds is not None and rate:
        frames = max(1, round(seconds * float(rate)))
    return frames, seconds, _size(stream)


def _seconds(stream: Any) -> float | None:
    """Length as the header says it; None where it does not."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    whole = stream.container.duration  # in microseconds
    return None if whole is None else whole / 1e6


def _size(stream: Any) -> tuple[int, int] | None:
    """Width and height as stored; None where the header does not say them."""
    context = stream.codec_context
    if context is None or not context.width or not context.height:
        return None
    return context.width, context.height


__all__ = ["ENLARGED", "reading_notes", "reading_remarks", "remarks_note"]
