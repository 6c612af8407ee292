"""What is done to a clip to make a copy of it, drawn by chance and written down as numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

PICTURE = ("crop", "scale", "letterbox", "overlay", "flip")
"""Transformations of single frames."""

TIME = ("speed", "trim", "splice")
"""Transformations of the course of a clip, picture and sound together."""

SOUND = ("audio_replaced", "audio_removed", "audio_reencoded")
"""Transformations of the sound; a copy has at most one of them."""

TRANSFORMATIONS = ("reencode", *PICTURE, *TIME, *SOUND, "title")
"""All of them, in the order in which they are listed everywhere; each is a sub-label."""

CODECS = {
    "libx264": (26, 32, 38),
    "libx265": (28, 34, 40),
    "libvpx-vp9": (36, 46, 56),
    "libsvtav1": (40, 50, 60),
}
"""Encoders of `reencode` with their constant rate factors: good, poor, bad."""

PLAIN = ("libx264", 18)
"""What a copy is encoded with that is not re-encoded on purpose: nearly without loss."""

_OPENINGS = ("repost:", "wow", "must see", "full video", "so good", "from my feed", "unbelievable")
_ENDINGS = ("(HD)", "part 1", "not mine", "share this", "2x", "clip of the day", "original")


class NothingApplies(ValueError):
    """None of the chosen transformations can be applied to a clip; the message says why."""


@dataclass(frozen=True)
class Plan:
    """How a copy is made. The steps are applied in the order of the fields.

    Args:
        how: names out of `TRANSFORMATIONS`, in their order.
        span: share of the clip that is kept, from and to, in [0, 1].
        speed: factor on the speed of picture and sound; the pitch stays.
        crop: what is kept of the picture: left, top, width, height as shares.
        flip: whether the picture is mirrored left to right.
        scale: factors on width and height.
        letterbox: bars that bring the picture to this ratio of width over height; None: none.
        overlay: a box over the picture: left, top, width, height as shares; None: none.
        colours: of bars, box and the mark in the box, as 0xRRGGBB.
        splice: seconds of another clip before and after, as shares of this clip's length.
        codec: an encoder of `CODECS`.
        crf: its constant rate factor.
        bitrate: of the sound, in bit/s.
        title: what the title becomes; None: it stays.
    """

    how: tuple[str, ...] = ()
    span: tuple[float, float] = (0.0, 1.0)
    speed: float = 1.0
    crop: tuple[float, float, float, float] | None = None
    flip: bool = False
    scale: tuple[float, float] = (1.0, 1.0)
    letterbox: float | None = None
    overlay: tuple[float, float, float, float] | None = None
    colours: tuple[int, int, int] = (0, 0xFFFFFF, 0xC02020)
    splice: tuple[float, float] | None = None
    codec: str = PLAIN[0]
    crf: int = PLAIN[1]
    bitrate: int = 96_000
    title: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return dataclasses.asdict(self)


def draw_plan(
    rng: np.random.Generator,
    *,
    least: int = 1,
    most: int = 3,
    span: tuple[float, float] | None = None,
    title: str = "",
    sound: bool = True,
    donors: bool = True,
    donor_sound: bool = True,
    among: Sequence[str] = TRANSFORMATIONS,
) -> Plan:
    """Draw how one copy is made; equal generators draw equal plans.

    Args:
        rng: where chance comes from.
        least: fewest transformations that are combined.
        most: most of them.
        span: keep this part of the clip, which counts as one of them, `trim`; None: by chance.
        title: of the clip; the empty title cannot be rewritten.
        sound: whether the clip has sound.
        donors: whether there is another clip to splice into.
        donor_sound: whether there is one to take sound from.
        among: names to choose from.

    Raises:
        NothingApplies: the clip lacks what each of `among` needs.
        ValueError: `among` names something unknown, or the counts are impossible.
    """
    if strangers := [name for name in among if name not in TRANSFORMATIONS]:
        raise ValueError(
            f"transformations {', '.join(strangers)} are unknown; choose from "
            f"{', '.join(TRANSFORMATIONS)}"
        )
    if not 1 <= least <= most:
        raise ValueError(f"a copy needs 1 or more transformations, got {least} to {most}")
    lacking = _lacking(title, sound, donors, donor_sound)
    usable = [name for name in TRANSFORMATIONS if name in among and name not in lacking]
    chosen = {"trim"} if span is not None else set()
    if span is not None:
        usable = [name for name in usable if name not in ("trim", "splice")]
    count = int(rng.integers(least, most + 1))
    for index in rng.permutation(len(usable)).tolist():
        name = usable[index]
        if len(chosen) < count and not (name in SOUND and chosen.intersection(SOUND)):
            chosen.add(name)
    if not chosen:
        reasons = "; ".join(f"{name}: {lacking[name]}" for name in TRANSFORMATIONS if name in among)
        raise NothingApplies(f"no transformation can be applied ({reasons})")
    values: dict[str, Any] = {"how": tuple(n for n in TRANSFORMATIONS if n in chosen)}
    if span is not None:
        values["span"] = span
    for name in values["how"]:
        values |= _draw(name, rng, title, span)
    colours = rng.integers(0, 2**24, size=3).tolist()
    values["colours"] = (0 if rng.random() < 0.6 else colours[0], colours[1], colours[2])
    return Plan(**values)


def _lacking(title: str, sound: bool, donors: bool, donor_sound: bool) -> dict[str, str]:
    """Transformations that cannot be applied to a clip, and what is not there."""
    lacking = {} if title.strip() else {"title": "the clip has no title"}
    if not sound:
        lacking |= dict.fromkeys(("audio_removed", "audio_reencoded"), "the clip has no sound")
    if not donors:
        alone = "there is no other clip in its split"
        lacking |= dict.fromkeys(("splice", "audio_replaced"), alone)
    elif not donor_sound:
        lacking["audio_replaced"] = "no other clip in its split has sound"
    return lacking


def _draw(
    name: str, rng: np.random.Generator, title: str, span: tuple[float, float] | None
) -> dict[str, Any]:
    """The numbers of one transformation."""
    if name == "reencode":
        codec = str(rng.choice(list(CODECS)))
        return {"codec": codec, "crf": int(rng.choice(CODECS[codec]))}
    if name == "crop":
        width, height = rng.uniform(0.55, 0.9, size=2)
        left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
        return {"crop": _rounded(left, top, width, height)}
    if name == "scale":
        factor = rng.uniform(0.5, 0.8) if rng.random() < 0.7 else rng.uniform(1.2, 1.5)
        return {"scale": _rounded(factor * rng.uniform(0.85, 1.15), factor)}
    if name == "letterbox":
        ratio = rng.choice([9 / 16, 3 / 4, 4 / 3, 16 / 9, 21 / 9])
        return {"letterbox": round(float(ratio), 4)}
    if name == "overlay":
        if rng.random() < 0.5:  # a banner for a caption, or a sticker
            height = rng.uniform(0.15, 0.3)
            return {"overlay": _rounded(0.0, rng.choice([0.0, 1 - height]), 1.0, height)}
        width, height = rng.uniform(0.25, 0.5, size=2)
        left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
        return {"overlay": _rounded(left, top, width, height)}
    if name == "flip":
        return {"flip": True}
    if name == "speed":
        low = rng.random() < 0.4
        return {"speed": round(float(rng.uniform(0.7, 0.9) if low else rng.uniform(1.1, 1.6)), 4)}
    if name == "trim":
        if span is not None:
            return {}
        length = rng.uniform(0.4, 0.85)
        start = rng.uniform(0, 1 - length)
        return {"span": _rounded(start, start + length)}
    if name == "splice":
        total = rng.uniform(0.4, 1.0)
        before = rng.choice([0.0, 0.5, 1.0]) * total
        return {"splice": _rounded(before, total - before)}
    if name == "audio_reencoded":
        return {"bitrate": int(rng.choice([12_000, 16_000, 24_000]))}
    if name == "title":
        return {"title": rewrite_title(rng, title)}
    return {}  # audio_replaced and audio_removed have no numbers


def rewrite_title(rng: np.random.Generator, title: str) -> str:
    """Write a title the way a reposter would: words are dropped, others put around them.

    The result always differs from `title`, and keeps some of its words.
    """
    words = title.split()
    if len(words) > 2:
        start = int(rng.integers(0, 2))
        words = words[start : start + max(1, int(len(words) * rng.uniform(0.4, 0.9)))]
    if rng.random() < 0.6:
        words = [str(rng.choice(_OPENINGS)), *words]
    if rng.random() < 0.6:
        words = [*words, str(rng.choice(_ENDINGS))]
    new = " ".join(words)
    return new if new != title else f"{_OPENINGS[0]} {new}"


def _rounded(*numbers: float) -> tuple[Any, ...]:
    return tuple(round(float(number), 4) for number in numbers)


__all__ = [
    "CODECS",
    "PICTURE",
    "PLAIN",
    "SOUND",
    "TIME",
    "TRANSFORMATIONS",
    "NothingApplies",
    "Plan",
    "draw_plan",
    "rewrite_title",
]
