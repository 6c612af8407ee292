"""Make one clip: everything about clip i of pool s follows from (s, i) alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from coefvq.data.shortform import degrade, history, measures, sound, sources
from coefvq.data.shortform.codec import read_back, render, write_clip

MISMATCH_SHARE = 0.3
MISSING_REFERENCE, MISSING_HISTORY = 0.30, 0.25
"""Share of clips without full-reference measures (the source was not kept) and without history."""

REFERENCE = ("psnr_mean", "psnr_min", "ssim_mean", "ssim_min", "si_sdr", "segmental_snr")
ENCODER = ("qp_mean", "qp_std", "bytes_first", "bytes_mean", "bytes_std")
"""Privileged features: against the pristine source, and from the encoder."""

_NAN = float("nan")


def clip_name(index: int) -> str:
    """File name of a clip."""
    return f"{index:06d}.mp4"


def make_clip(folder: Path, seed: int, index: int) -> dict[str, object]:
    """Make the file of one clip and measure it.

    Args:
        folder: where the file goes.
        seed: of the pool.
        index: of the clip.

    Returns:
        The clip's row: `index`, `kind`, `title`, `mismatch`, doses, the labels' own scales
        (`distance`, `sound_distance`), and every privileged feature, NaN where missing.
    """
    # Streams of their own: what one step draws does not move what the next one draws.
    subject = _subject(seed, index)
    damage, audio, audience, fate = (
        np.random.default_rng([seed, index, stream]) for stream in range(1, 5)
    )
    picture = sources.draw_picture(subject)
    mismatch = bool(subject.random() < MISMATCH_SHARE)
    title = sources.draw_title(subject, picture.kind, mismatch)
    doses = degrade.draw_doses(damage)
    filters = degrade.picture_filters(doses, int(damage.integers(1, 2**31 - 1)))
    pristine, filtered = render(picture, filters)
    shown_index = degrade.frozen(damage, len(pristine), doses.freeze)
    clean = sound.make_sound(audio)
    degraded = degrade.degrade_sound(damage, clean, sound.RATE, doses)
    path = folder / clip_name(index)
    write_clip(path, filtered[shown_index], degraded, sound.RATE, crf=doses.crf, title=title)
    luma, heard, encoder = read_back(path)
    reference = pristine[:, : sources.SIZE].astype(np.float32)
    shown = luma.astype(np.float32)
    psnr, ssim = measures.psnr(reference, shown), measures.ssim(reference, shown)
    distance = measures.perceptual_distance(reference, shown, shown_index)
    sound_distance = measures.log_spectral_distance(clean, heard)
    row: dict[str, object] = {
        "index": index,
        "kind": picture.kind,
        "title": title,
        "mismatch": mismatch,
        **doses.to_dict(),
        "distance": distance,
        "sound_distance": sound_distance,
    }
    features = {
        "psnr_mean": float(psnr.mean()),
        "psnr_min": float(psnr.min()),
        "ssim_mean": float(ssim.mean()),
        "ssim_min": float(ssim.min()),
        "si_sdr": measures.si_sdr(clean, heard),
        "segmental_snr": measures.segmental_snr(clean, heard),
        **encoder,
        **history.simulate(
            audience, distance=distance, sound_distance=sound_distance, mismatch=mismatch
        ),
    }
    lost = {
        **dict.fromkeys(REFERENCE, fate.random() < MISSING_REFERENCE),
        **dict.fromkeys(history.NAMES, fate.random() < MISSING_HISTORY),
    }
    return row | {k: _NAN if lost.get(k) else v for k, v in features.items()}


def pool_for(count: int, alone: int, seed: int) -> int:
    """How many clips to make for `count`, `alone` of them not of `sources.SAME_PICTURES`.

    Args:
        count: clips that are wanted.
        alone: how many of them must have a content of their own; at most `count`.
        seed: of the pool.
    """
    index = found = 0
    while index < count or found < alone:
        found += sources.draw_picture(_subject(seed, index)).kind not in sources.SAME_PICTURES
        index += 1
    return index


def _subject(seed: int, index: int) -> np.random.Generator:
    """What draws picture and title of a clip."""
    return np.random.default_rng([seed, index, 0])


__all__ = ["ENCODER", "REFERENCE", "clip_name", "make_clip", "pool_for"]
