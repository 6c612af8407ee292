"""Measures against the pristine source: for privileged features, and for the labels' own scale.

PSNR, SSIM, SI-SDR and segmental SNR become privileged features. The perceptual and the
log-spectral distance are what labels are cut from and no model's input; being full-reference too,
they are relatives of the features.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Array = np.ndarray


def psnr(reference: Array, shown: Array) -> Array:
    """Peak signal-to-noise ratio of each frame, in dB, at most 60; (F, H, W) luma in [0, 255]."""
    error = ((reference - shown) ** 2).mean((1, 2))
    return np.minimum(10 * np.log10(255**2 / np.maximum(error, 1e-9)), 60.0)


def ssim(reference: Array, shown: Array, window: int = 8) -> Array:
    """Structural similarity of each frame, in [-1, 1], over windows side by side.

    Wang et al. (2004) with C1 = (0.01·255)², C2 = (0.03·255)²; equal weights instead of the
    Gaussian, and no overlap: ten times as fast, and ordered alike.
    """

    def mean(x: Array) -> Array:
        frames, height, width = x.shape
        rows = x.reshape(frames, height // window, window, width).sum(2)
        blocks = rows.reshape(frames, height // window, width // window, window)
        return blocks.sum(3) / window**2

    a, b = mean(reference), mean(shown)
    var_a, var_b = mean(reference**2) - a * a, mean(shown**2) - b * b
    covariance = mean(reference * shown) - a * b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = ((2 * a * b + c1) * (2 * covariance + c2)) / (
        (a * a + b * b + c1) * (var_a + var_b + c2)
    )
    return values.mean((1, 2))


def gradient_similarity(reference: Array, shown: Array) -> tuple[Array, Array]:
    """Deviation and mean of the loss of gradient-magnitude similarity, per frame, in [0, 1].

    GMSD (Xue et al., 2014): Prewitt gradients after halving, constant 170.
    """

    def magnitude(x: Array) -> Array:
        x = (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4
        rows = x[:, :, :-2] + x[:, :, 1:-1] + x[:, :, 2:]
        columns = x[:, :-2] + x[:, 1:-1] + x[:, 2:]
        vertical = (rows[:, 2:] - rows[:, :-2]) / 3
        horizontal = (columns[:, :, 2:] - columns[:, :, :-2]) / 3
        return np.sqrt(vertical**2 + horizontal**2)

    a, b = magnitude(reference), magnitude(shown)
    loss = 1 - (2 * a * b + 170) / (a * a + b * b + 170)
    return loss.std((1, 2)), loss.mean((1, 2))


def visible_freeze(reference: Array, shown_index: Array) -> float:
    """Motion that a viewer misses: mean grey levels per frozen frame, over 20, at most 1."""
    repeated = np.flatnonzero(np.diff(shown_index, prepend=-1) == 0)
    if not len(repeated):
        return 0.0
    motion = np.abs(reference[repeated] - reference[repeated - 1]).mean((1, 2))
    return float(np.minimum(motion / 20, 1.0).sum() / len(shown_index))


def perceptual_distance(reference: Array, shown: Array, shown_index: Array) -> float:
    """How bad the picture looks, from 0; about 1 is visible, above 3 is hard to watch.

    Eight times the gradient deviation plus six times its mean plus five times the visible freeze:
    a made-up scale with a human-like order, not a published measure. (F, H, W) luma in [0, 255].
    """
    deviation, mean = gradient_similarity(reference, shown)
    freeze = visible_freeze(reference, shown_index)
    return float(8 * deviation.mean() + 6 * mean.mean() + 5 * freeze)


def si_sdr(reference: Array, heard: Array) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al., 2019), in [-30, 40]."""
    n = min(len(reference), len(heard))
    reference, heard = reference[:n].astype(float), heard[:n].astype(float)
    reference, heard = reference - reference.mean(), heard - heard.mean()
    energy = float((reference * reference).sum())
    if energy < 1e-9:
        return -30.0
    target = (heard * reference).sum() / energy * reference
    noise = float(((heard - target) ** 2).sum())
    ratio = 10 * np.log10(max(float((target * target).sum()), 1e-12) / max(noise, 1e-12))
    return float(np.clip(ratio, -30, 40))


def segmental_snr(reference: Array, heard: Array, window: int = 512) -> float:
    """Signal-to-noise ratio in dB, mean over segments of 32 ms, each clipped to [-10, 35].

    Segments more than 40 dB below the loudest count as pauses and are left out.
    """
    n = min(len(reference), len(heard)) // window * window
    a = reference[:n].astype(float).reshape(-1, window)
    b = heard[:n].astype(float).reshape(-1, window)
    signal, noise = (a**2).sum(1), ((a - b) ** 2).sum(1)
    spoken = signal > max(1e-4 * float(signal.max(initial=0.0)), 1e-9)
    if not spoken.any():
        return -10.0
    ratio = 10 * np.log10(signal[spoken] / np.maximum(noise[spoken], 1e-9))
    return float(np.clip(ratio, -10, 35).mean())


def log_spectral_distance(reference: Array, heard: Array, window: int = 512) -> float:
    """Root mean square difference of log spectra in dB, frames of 32 ms, floor 50 dB below peak."""
    n = min(len(reference), len(heard))
    shape = np.hanning(window)

    def spectrum(x: Array) -> Array:
        frames = sliding_window_view(x[:n].astype(float), window)[:: window // 2] * shape
        return np.abs(np.fft.rfft(frames, axis=1)) ** 2

    a, b = spectrum(reference), spectrum(heard)
    floor = max(float(a.max()), 1e-9) * 1e-5
    difference = 10 * np.log10((a + floor) / (b + floor))
    return float(np.sqrt((difference**2).mean(1)).mean())
