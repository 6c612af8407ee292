"""What goes wrong with a clip on its way to the audience: doses of physical degradations."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

ARTEFACTS = ("compression", "blur", "noise", "freeze")
"""Degradations of the picture, in the order of the labels of the task `artefacts`."""

SHARE = {"compression": 0.30, "blur": 0.22, "noise": 0.22, "freeze": 0.18}
"""How often each is there. They are drawn independently, so that they occur together."""


@dataclass(frozen=True)
class Doses:
    """How much of each degradation a clip gets, 0 (none) to 1 (all there is).

    Args:
        compression: x264's CRF runs from 32 to 50; without it from 18 to 26.
        blur: standard deviation of a Gaussian, 0.6 to 3 pixels.
        noise: amplitude of temporal noise, 6 to 40 grey levels.
        freeze: share of the frames that repeat the one before, 0.2 to 0.8.
        crf: the resulting CRF, of clean clips too.
        clipping: of the sound, at 0.5 down to 0.03 of its peak.
        hiss: white noise at 25 down to 0 dB below the sound.
        dropouts: share of the sound that is silenced, 0.1 to 0.5.
    """

    compression: float
    blur: float
    noise: float
    freeze: float
    crf: float
    clipping: float
    hiss: float
    dropouts: float

    def to_dict(self) -> dict[str, float]:
        """Plain numbers by name, prefixed with `dose_`."""
        return {f"dose_{name}": value for name, value in dataclasses.asdict(self).items()}


def draw_doses(rng: np.random.Generator) -> Doses:
    """Draw what happens to a clip; equal generators draw equal doses."""

    def maybe(share: float) -> float:
        there, dose = rng.random() < share, rng.uniform(0.05, 1.0)
        return float(dose) if there else 0.0

    picture = {name: maybe(share) for name, share in SHARE.items()}
    clean = rng.uniform(18, 26)
    crf = 32 + 18 * picture["compression"] if picture["compression"] else clean
    sound = {name: maybe(0.08) for name in ("clipping", "hiss", "dropouts")}
    return Doses(**picture, crf=float(crf), **sound)


def picture_filters(doses: Doses, seed: int) -> list[tuple[str, str]]:
    """FFmpeg filters, with arguments, for blur and noise."""
    chain = []
    if doses.blur:
        chain.append(("gblur", f"sigma={0.6 + 2.4 * doses.blur:.3f}"))
    if doses.noise:
        strength = round(6 + 34 * doses.noise)
        chain.append(("noise", f"alls={strength}:allf=t:all_seed={seed}"))
    return chain


def frozen(rng: np.random.Generator, frames: int, dose: float) -> np.ndarray:
    """Which frame is shown at each time: (frames,) indices, runs of repeats where it is frozen."""
    shown = np.arange(frames)
    if dose:
        repeated = round(frames * (0.2 + 0.6 * dose))
        start = int(rng.integers(1, max(2, frames - repeated + 1)))
        shown[start : start + repeated] = shown[start - 1]
    return shown


def degrade_sound(
    rng: np.random.Generator, sound: np.ndarray, rate: int, doses: Doses
) -> np.ndarray:
    """Clip, hiss and drop out a waveform (n,) in [-1, 1]."""
    out = sound.copy()
    if doses.clipping:
        level = (0.5 - 0.47 * doses.clipping) * max(float(np.abs(out).max()), 1e-3)
        out = np.clip(out, -level, level) * (0.5 / level) * np.abs(sound).max()
    if doses.hiss:
        power = float(np.mean(out**2)) * 10 ** (-(25 - 25 * doses.hiss) / 10)
        out = out + rng.normal(0, np.sqrt(power), len(out))
    if doses.dropouts:
        silent = (0.1 + 0.4 * doses.dropouts) * len(out)
        while silent > 0:
            length = int(rng.uniform(0.03, 0.15) * rate)
            start = int(rng.integers(0, max(1, len(out) - length)))
            out[start : start + length] = 0.0
            silent -= length
    return np.clip(out, -1, 1).astype(np.float32)
