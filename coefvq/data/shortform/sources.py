"""Pictures and titles: moving patterns of eight kinds from FFmpeg's own generators."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SIZE, FPS, FRAMES = 128, 12, 24
"""Pixels of the square picture, frames per second, frames per clip (two seconds)."""

KINDS = (
    "mandelbrot", "life", "cellauto", "sierpinski", "gradients", "testsrc2", "perlin", "zoneplate",
)  # fmt: skip

SAME_PICTURES = ("sierpinski", "testsrc2")
"""Kinds whose clips share pictures, in other colours: `testsrc2` has one, and a walk over either
Sierpinski pattern starts at one place. The pictures of other kinds follow their seed."""

_NOUNS = {
    "mandelbrot": ("fractal zoom", "mandelbrot flight", "diving into a fractal"),
    "life": ("game of life", "cells being born", "colony of cells"),
    "cellauto": ("cellular automaton", "rule table scrolling", "automaton weaving"),
    "sierpinski": ("sierpinski carpet", "triangle walk", "holes in a carpet"),
    "gradients": ("soft gradient", "melting colours", "colour wash"),
    "testsrc2": ("test card", "broadcast test", "camera calibration"),
    "perlin": ("drifting clouds", "smoke and fog", "cloud noise"),
    "zoneplate": ("zone plate rings", "rings and waves", "moire circles"),
}
_OPENINGS = ("watch this", "look", "my new", "relaxing", "amazing", "daily", "pure", "the best")
_ENDINGS = ("loop", "for you", "at night", "part two", "no edits", "so calm", "challenge", "again")


@dataclass(frozen=True)
class Picture:
    """One picture source.

    Args:
        kind: one of `KINDS`.
        arguments: of the FFmpeg source filter named `kind`.
        hue: rotation of the colours, degrees.
        contrast: factor around middle grey.
    """

    kind: str
    arguments: str
    hue: float
    contrast: float


def draw_picture(rng: np.random.Generator) -> Picture:
    """Draw a picture source; equal generators draw equal ones."""
    kind = str(rng.choice(KINDS))
    seed = int(rng.integers(1, 2**31 - 1))
    small = int(rng.integers(1, 10_000))
    u, v, w = rng.random(3)
    # FFmpeg's own choice of colours does not follow the filter's seed.
    colours = np.random.default_rng(seed).integers(0, 2**24, size=2 + small % 5)
    palette = ":".join(f"c{i}=0x{colour:06X}" for i, colour in enumerate(colours))
    special = {
        "mandelbrot": f"start_x={-0.75 + 0.05 * u:.4f}:start_y={0.08 + 0.06 * v:.4f}"
        f":start_scale={1.0 + w:.3f}:end_scale={0.05 + 0.2 * v:.3f}:end_pts=60",
        "life": f"seed={seed}:ratio={0.15 + 0.3 * u:.3f}:mold={int(5 + 20 * v)}"
        ":life_color=lime:death_color=maroon:mold_color=navy",
        "cellauto": f"seed={seed}:rule={(18, 30, 90, 110, 150)[small % 5]}:scroll=1",
        "sierpinski": f"seed={seed}:type={('carpet', 'triangle')[small % 2]}",
        "gradients": f"seed={seed}:nb_colors={2 + small % 5}:{palette}:speed={0.02 + 0.1 * u:.3f}"
        f":type={('linear', 'radial', 'circular', 'spiral')[small % 4]}",
        "testsrc2": "",
        "perlin": f"random_mode=seed:random_seed={seed}:octaves={1 + small % 3}"
        f":xscale={0.5 + 3.5 * u:.3f}:yscale={0.5 + 3.5 * v:.3f}:tscale={0.2 + 0.5 * w:.3f}",
        "zoneplate": f"kx2={int(40 + 160 * u)}:ky2={int(40 + 160 * v)}:kt={int(1 + 6 * w)}",
    }[kind]
    arguments = f"size={SIZE}x{SIZE}:rate={FPS}" + (f":{special}" if special else "")
    return Picture(kind, arguments, float(rng.uniform(0, 360)), float(rng.uniform(0.7, 1.2)))


def draw_title(rng: np.random.Generator, kind: str, mismatch: bool) -> str:
    """Write a title about `kind`, or, where it mismatches, about another kind."""
    if mismatch:
        kind = str(rng.choice([other for other in KINDS if other != kind]))
    noun = str(rng.choice(_NOUNS[kind]))
    return f"{rng.choice(_OPENINGS)} {noun} {rng.choice(_ENDINGS)}"
