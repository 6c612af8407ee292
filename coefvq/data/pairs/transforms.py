"""What a plan means for a file: which filters, which pieces one after the other, which sound."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from coefvq.data.media import UnreadableClip
from coefvq.data.pairs.films import (
    Film,
    NoFrames,
    encode,
    even,
    look_at,
    pictures_of,
    sound_of_part,
    upright,
)
from coefvq.data.pairs.plan import Plan

LEAST = 64
"""Fewest pixels along either side: encoders of AV1 refuse less."""


def make_copy(
    source: str | Path, target: str | Path, plan: Plan, donor: str | Path | None = None
) -> None:
    """Write a copy of a clip; the file appears whole or not at all.

    Args:
        source: the original.
        target: where the copy goes; `.webm` for VP9 and `.mp4` for the others, see `suffix_of`.
        plan: what is done to it.
        donor: the clip that it is spliced into or takes sound from, where the plan asks for that.

    Raises:
        UnreadableClip: the original or the donor cannot be read, or the original is so short that
            nothing can be put beside it; `path` is the one that is to blame.
        ValueError: the plan needs a donor and there is none.
    """
    target = Path(target)
    if donor is None and {"splice", "audio_replaced"} & set(plan.how):
        raise ValueError(f"a copy with {', '.join(plan.how)} needs a donor; give another clip")
    film = look_at(source)
    other = None if donor is None else look_at(donor)
    filters, width, height = picture_filters(film, plan)
    first, last = (share * film.seconds for share in plan.span)
    pieces = [pictures_of(film, (first, last), plan.speed, filters, film.rate)]
    sounds = [sound_of_part(film, (first, last), plan.speed)]
    if plan.splice is not None:
        assert other is not None
        fit = [*upright(other), ("scale", f"{width}:{height}"), ("setsar", "1")]
        before, after = (share * (last - first) / plan.speed for share in plan.splice)
        # The donor goes on behind the copy where it stopped before it, as far as it reaches.
        spans = [span for span in ((0.0, before), (before, before + after)) if span[1] > span[0]]
        spans = [_within(span, other.seconds) for span in spans]
        donated = [_donated(film, other, span, fit) for span in spans]
        donated_sound = [sound_of_part(other, span, 1.0, film.sound_rate) for span in spans]
        cut = 1 if before > 0 else 0
        pieces = [*donated[:cut], *pieces, *donated[cut:]]
        sounds = [*donated_sound[:cut], *sounds, *donated_sound[cut:]]
    wave = np.concatenate(sounds) if film.sound_rate else None
    sound_rate = film.sound_rate or (other.sound_rate if other else 0)
    if "audio_removed" in plan.how:
        wave = None
    elif "audio_replaced" in plan.how:
        assert other is not None
        length = len(wave) if wave is not None else int((last - first) / plan.speed * sound_rate)
        new = sound_of_part(other, (0.0, other.seconds), 1.0, sound_rate)
        wave = np.resize(new, length) if len(new) else None
    encode(target, itertools.chain(*pieces), (width, height), film.rate, plan, wave, sound_rate)


def suffix_of(codec: str) -> str:
    """The container that a codec goes into: `.webm` for VP9, `.mp4` for the others."""
    return ".webm" if codec == "libvpx-vp9" else ".mp4"


def picture_filters(film: Film, plan: Plan) -> tuple[list[tuple[str, str]], int, int]:
    """Spell a plan's transformations of the picture as FFmpeg filters.

    Returns:
        Names and arguments of the filters, and the width and height that come out, even numbers
        of at least `LEAST`.
    """
    width, height = film.width, film.height
    filters = upright(film)
    if plan.crop is not None:
        left, top, wide, high = plan.crop
        width, height = even(width * wide), even(height * high)
        filters.append(
            ("crop", f"{width}:{height}:{int(left * film.width)}:{int(top * film.height)}")
        )
    if plan.flip:
        filters.append(("hflip", ""))
    new = even(width * plan.scale[0]), even(height * plan.scale[1])
    if new != (width, height):
        width, height = new
        filters.append(("scale", f"{width}:{height}"))
    if plan.letterbox is not None:
        frame = (
            even(max(width, height * plan.letterbox)),
            even(max(height, width / plan.letterbox)),
        )
        filters.append(("pad", f"{frame[0]}:{frame[1]}:-1:-1:color={_colour(plan.colours[0])}"))
        width, height = frame
    if plan.overlay is not None:
        left, top, wide, high = (
            int(share * side) for share, side in zip(plan.overlay, (width, height) * 2, strict=True)
        )
        filters.append(_box(left, top, wide, high, plan.colours[1]))
        filters.append(
            _box(left + wide // 8, top + high // 4, wide // 2, max(high // 4, 2), plan.colours[2])
        )
    if width < LEAST or height < LEAST:
        grow = max(LEAST / width, LEAST / height)
        width, height = even(width * grow), even(height * grow)
        filters.append(("scale", f"{width}:{height}"))
    return [*filters, ("setsar", "1")], width, height


def _donated(
    film: Film, other: Film, span: tuple[float, float], filters: list[tuple[str, str]]
) -> Iterator[Any]:
    """Pictures of a donor; where they are none, the original asked for less than one frame."""
    try:
        yield from pictures_of(other, span, 1.0, filters, film.rate)
    except NoFrames as error:
        if span[1] - span[0] >= 2 / min(film.rate, other.rate):
            raise
        raise UnreadableClip.because(
            film.path, f"it is too short to be spliced ({film.seconds:.2f} s)"
        ) from error


def _within(span: tuple[float, float], seconds: float) -> tuple[float, float]:
    """Move a span so that it lies in a clip of this length, or shorten it to the whole clip."""
    length = min(span[1] - span[0], seconds)
    start = min(span[0], seconds - length)
    return start, start + length


def _colour(number: int) -> str:
    return f"0x{number:06X}"


def _box(left: int, top: int, width: int, height: int, colour: int) -> tuple[str, str]:
    return "drawbox", f"{left}:{top}:{width}:{height}:color={_colour(colour)}:t=fill"


__all__ = ["LEAST", "make_copy", "picture_filters", "suffix_of"]
