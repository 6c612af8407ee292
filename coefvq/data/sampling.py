"""Which moments of a clip are looked at.

Everything is decided in time, never by frame numbers, so that clips of a variable frame rate and
copies of one recording at different rates are sampled at the same moments.
"""

from __future__ import annotations

import numpy as np

from coefvq.types import InputSpec

EVAL_POLICIES = ("uniform", "per_second")
"""Policies that choose the same frames every time."""

POLICIES = (*EVAL_POLICIES, "random_segments")
"""All policies; `random_segments` needs a random generator and is for training."""


def check_policy(sampling: str, *, training: bool = True) -> None:
    """Refuse an unknown policy, or a random one where the same frames are needed every time.

    Raises:
        ValueError: `sampling` is not one of the policies that are allowed here.
    """
    allowed = POLICIES if training else EVAL_POLICIES
    if sampling not in allowed:
        where = "train_sampling" if training else "sampling"
        raise ValueError(f"{where} {sampling!r} is unknown; choose one of {', '.join(allowed)}")


def sample_times(
    sampling: str, num_frames: int, seconds: float, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Choose at most `num_frames` moments of a clip.

    `"uniform"`: the middles of `num_frames` equal segments. `"per_second"`: the middle of every
    second, thinned evenly when there are more seconds than frames; a clip of less than half a
    second gives its middle. `"random_segments"`: one uniformly random moment in each of
    `num_frames` equal segments.

    Args:
        sampling: the policy.
        num_frames: F, at least 1.
        seconds: length of the clip.
        rng: needed by `"random_segments"`.

    Returns:
        (n,) float64 seconds from the start of the clip, n ≤ F, increasing.

    Raises:
        ValueError: unknown policy, `num_frames` below 1, or no `rng` for a random policy.

    >>> sample_times("uniform", 4, 2.0).tolist()
    [0.25, 0.75, 1.25, 1.75]
    >>> sample_times("per_second", 2, 4.0).tolist()
    [1.5, 3.5]
    """
    check_policy(sampling)
    if num_frames < 1:
        raise ValueError(f"num_frames must be at least 1, got {num_frames}")
    if sampling == "uniform":
        return (np.arange(num_frames) + 0.5) * (seconds / num_frames)
    if sampling == "per_second":
        # Half of a last, broken second has its middle inside the clip.
        count = int(seconds + 0.5)
        times = np.arange(count) + 0.5 if count else np.array([seconds / 2])
        if len(times) > num_frames:
            times = times[((np.arange(num_frames) + 0.5) * (len(times) / num_frames)).astype(int)]
        return times[times < seconds] if (times < seconds).any() else np.array([seconds / 2])
    if rng is None:
        raise ValueError("random_segments needs a random generator; pass rng")
    return (np.arange(num_frames) + rng.random(num_frames)) * (seconds / num_frames)


def chunk_times(middles: np.ndarray, num_frames: int, seconds: float, length: float) -> np.ndarray:
    """Choose the moments of a chunk of video around each of some moments.

    A chunk that would reach out of the clip is moved inside. A clip shorter than a chunk fills its
    beginning; the moments after its end are still there, and show the last picture again.

    Args:
        middles: (n,) seconds from the start of the clip.
        num_frames: K, evenly spread over a chunk: the middles of K equal parts.
        seconds: how long a chunk lasts.
        length: of the clip, in seconds.

    Returns:
        (n, K) float64 seconds from the start of the clip.

    >>> chunk_times(np.array([0.25, 1.5]), 2, 1.0, 3.0).tolist()
    [[0.25, 0.75], [1.25, 1.75]]
    """
    starts = np.clip(middles - seconds / 2, 0.0, max(length - seconds, 0.0))
    return starts[:, None] + (np.arange(num_frames) + 0.5) * (seconds / num_frames)


def frames_at(times: np.ndarray, shown: np.ndarray, frame_ticks: float) -> np.ndarray:
    """Find the frames that are on the screen at `times`.

    A moment that falls on the boundary of two frames belongs to the later one; a tenth of a frame
    of tolerance makes that hold in containers that round times to milliseconds, too. A frame that
    would be taken twice is taken once.

    Args:
        times: (n,) moments, in the unit of `shown`.
        shown: (m,) sorted times at which frames appear.
        frame_ticks: duration of a typical frame in the same unit.

    Returns:
        (k,) int64 indices into `shown`, increasing, k ≤ n.
    """
    return np.unique(frame_on_screen(times, shown, frame_ticks))


def frame_on_screen(times: np.ndarray, shown: np.ndarray, frame_ticks: float) -> np.ndarray:
    """Like `frames_at`, with one index for each moment: the same frame may be taken again."""
    found = np.searchsorted(shown, times + 0.1 * frame_ticks, side="right") - 1
    return np.clip(found, 0, len(shown) - 1)


def view_name(inputs: InputSpec, sampling: str, index: int | None = None) -> str:
    """Name what a batch shows of a clip: which frames, and how they were brought to a square.

    Random crops and mirrors are no part of it: they happen inside a model that is trained, and a
    frozen teacher makes none.

    Args:
        inputs: how clips are read.
        sampling: the frame policy.
        index: which of several random draws; None for policies without chance.

    >>> view_name(InputSpec(num_frames=2), "random_segments", 3)
    'random_segments-2x128-crop#3'
    """
    name = f"{sampling}-{inputs.num_frames}x{inputs.frame_size}-{inputs.fit}"
    return name if index is None else f"{name}#{index}"


__all__ = [
    "EVAL_POLICIES",
    "POLICIES",
    "check_policy",
    "chunk_times",
    "frame_on_screen",
    "frames_at",
    "sample_times",
    "view_name",
]
