"""Video files to frames: only those that are sampled are converted, only what they need is decoded.

For each sampled frame the decoder is given the packets from the last key frame before it; frames
that nothing refers to are skipped on the way (the decoder's own `NONREF` mode, which leaves the
frames that are kept bit for bit the same). If a wanted frame does not come out that way, the clip
is decoded again from the start without short cuts.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np

from coefvq.data.chunks import Chunks, Pictures, Shown, around_frames, chunk_shape
from coefvq.data.fragments import Fragments, fitted
from coefvq.data.media import Media, Timeline, UnreadableClip
from coefvq.data.picture import Square
from coefvq.data.sampling import EVAL_POLICIES, frames_at, sample_times

Fit = Square | Fragments


@dataclass(frozen=True)
class VideoInfo:
    """What a file says about itself: pixels as stored, frames per second, seconds, codec."""

    width: int
    height: int
    fps: float
    seconds: float
    num_frames: int
    codec: str
    pix_fmt: str
    has_sound: bool
    truncated: bool


def probe(path: str | Path) -> VideoInfo:
    """Read what a file says about itself, without decoding it.

    Frames are counted from the packets, so WebM and Matroska files without a count work.

    Raises:
        UnreadableClip: the file cannot be opened or has no video.
    """
    with Media(path, sound=True, sound_seconds=0) as media:
        line = media.timeline()
        context = media.video.codec_context
        count = int(line.shown.sum())
        seconds = float(line.end - line.pts[line.shown].min()) * line.time_base
        return VideoInfo(
            width=context.width,
            height=context.height,
            fps=count / seconds if seconds > 0 else 0.0,
            seconds=seconds,
            num_frames=count,
            codec=context.name,
            pix_fmt=context.pix_fmt or "",
            has_sound=media.sound is not None,
            truncated=line.truncated,
        )


def decode_frames(
    path: str | Path,
    num_frames: int,
    sampling: str = "uniform",
    size: int = 128,
    fit: str = "crop",
    rng: np.random.Generator | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Decode the sampled frames of a file.

    Args:
        path: a local file.
        num_frames: F.
        sampling: policy, see `coefvq.data.sampling.sample_times`.
        size: side of the square output in pixels.
        fit: how a picture becomes a square: `"crop"` (short side to `size`, then the centre),
            `"squash"`, `"letterbox"` (long side to `size`, black bars), or `"fragments"` (patches
            at native resolution, see `coefvq.data.fragments`).
        rng: for random policies.

    Returns:
        frames (F, 3, size, size) uint8 RGB, upright and with square pixels; zeros where missing.
        mask (F,) bool, True where a frame is real: a clip with fewer frames fills the first ones.
        times (F,) float64 seconds from the first frame; NaN where missing.

    Raises:
        UnreadableClip: the file cannot be opened, has no video, or not all sampled frames could
            be decoded (the message says how many of how many).
        ValueError: unknown policy or fit.
    """
    with Media(path) as media:
        return frames_of(media, num_frames, sampling, size, fit, rng)


def frames_of(
    media: Media,
    num_frames: int,
    sampling: str,
    size: int,
    fit: str,
    rng: np.random.Generator | None = None,
    *,
    shortcuts: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Like `decode_frames`, for a file that is already open.

    `shortcuts=False` decodes everything from the start; the frames are the same, and a test
    holds the two against each other.
    """
    return frames_and_chunks_of(media, num_frames, sampling, size, fit, rng, shortcuts=shortcuts)[
        :3
    ]


def frames_and_chunks_of(
    media: Media,
    num_frames: int,
    sampling: str,
    size: int,
    fit: str,
    rng: np.random.Generator | None = None,
    *,
    chunks: Chunks | None = None,
    shortcuts: bool = True,
    line: Timeline | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Like `frames_of`, and in the same pass the video around each frame.

    Whoever has asked for the timeline already gives it as `line`.

    Returns:
        frames, mask, times as `decode_frames`, and (F, K, 3, h, h) uint8 RGB: chunk i is around
        frame i, zeros where that is missing; (F, 0, 3, 0, 0) without chunks.

    Raises:
        UnreadableClip: see `decode_frames`; a picture of a chunk counts as a sampled frame.
    """
    line = media.timeline() if line is None else line
    visible = np.sort(line.pts[line.shown])
    start = float(visible[0])
    length = announced_seconds(line)
    ticks = start + sample_times(sampling, num_frames, length, rng) / line.time_base
    present = ticks[ticks < line.end + line.frame_ticks] if line.truncated else ticks
    middles = visible[frames_at(present, visible, line.frame_ticks)].tolist()
    around = around_frames(middles, line, visible, length, chunks)
    wanted = sorted({*middles, *around.flatten().tolist()})

    aspect = float(media.video.sample_aspect_ratio or 0) or 1.0
    # A policy without chance shows the same pixels every time, whoever hands in a generator.
    square = Pictures(
        fitted(size, fit, aspect, None if sampling in EVAL_POLICIES else rng), set(middles)
    )
    if chunks is not None:
        whole = "crop" if fit == "fragments" else fit  # motion is seen in whole pictures
        square.add_chunks(Square(chunks.size, whole, aspect), set(around.flatten().tolist()))
    found: dict[int, Shown] = {}
    if shortcuts and line.trusted:
        _decode_runs(media, line, wanted, square, found)
    if len(found) < len(wanted):
        _decode_all(media, line, wanted, square, found)
    lost = len(wanted) - len(found) + len(ticks) - len(present)
    if lost:
        total = len(found) + lost
        cause = "it is damaged"
        if line.truncated:
            cause = (
                f"it is truncated (it announces {length:.1f} s of video and holds "
                f"{(line.end - start) * line.time_base:.1f} s)"
            )
        raise UnreadableClip.because(
            media.path, f"{cause}, and {len(found)} of {total} sampled frames could be decoded"
        )

    frames = np.zeros((num_frames, 3, size, size), np.uint8)
    times = np.full(num_frames, np.nan)
    motion = np.zeros((num_frames, *chunk_shape(chunks)), np.uint8)
    for place, tick in enumerate(middles):
        frames[place] = found[tick][0]
        times[place] = (tick - start) * line.time_base
        for number, beside in enumerate(around[place].tolist()):
            motion[place, number] = found[beside][1]
    return frames, ~np.isnan(times), times, motion


def announced_seconds(line: Timeline) -> float:
    """Seconds from the first shown frame to where the video is said to end."""
    return (line.announced_end - float(line.pts[line.shown].min())) * line.time_base


def _runs(line: Timeline, wanted: list[int]) -> list[tuple[int, int]]:
    """Stretches of packets to decode: from the key frame before each wanted frame up to it."""
    number_of = {
        tick: i for i, tick in reversed(list(enumerate(line.pts.tolist()))) if line.shown[i]
    }
    keys = np.flatnonzero(line.key)
    runs: list[tuple[int, int]] = []
    for last in sorted(number_of[tick] for tick in wanted):
        # Pictures shown before a key frame but stored behind it lean on the key frame before.
        before = keys[(keys <= last) & (line.pts[keys] <= line.pts[last])]
        first = int(before[-1]) if len(before) else 0
        if runs and first <= runs[-1][1]:
            runs[-1] = (runs[-1][0], last)
        else:
            runs.append((first, last))
    return runs


def _decode_runs(
    media: Media, line: Timeline, wanted: list[int], square: Pictures, found: dict[int, Shown]
) -> None:
    context = _prepare(media)
    asked = set(wanted)
    for first, last in _runs(line, wanted):
        skipping = False
        for _, packet in media.packets(first, last):
            if (packet.pts not in asked) != skipping:
                skipping = not skipping
                context.skip_frame = "NONREF" if skipping else "DEFAULT"
            with contextlib.suppress(av.FFmpegError):
                _keep(context.decode(packet), asked, square, found)
        with contextlib.suppress(av.FFmpegError):
            _keep(context.decode(None), asked, square, found)
        context.flush_buffers()
    context.skip_frame = "DEFAULT"


def _keep(pictures: list[Any], asked: set[int], square: Pictures, found: dict[int, Shown]) -> None:
    for picture in pictures:
        if picture.pts in asked and not picture.is_corrupt:
            found[picture.pts] = square(picture.pts, picture)


def _decode_all(
    media: Media, line: Timeline, wanted: list[int], square: Pictures, found: dict[int, Shown]
) -> None:
    """Decode from the start; a moment gets the last picture that was shown by then."""
    context = _prepare(media)
    # Containers that only number their frames may count a few that are never shown.
    reach = 1.5 * line.frame_ticks if line.trusted else max(2.0, 0.1 * len(line.pts))
    missing = [tick for tick in wanted if tick not in found]
    failed: set[int] = set()
    previous: tuple[int, Any] | None = None
    count = 0

    def settle(target: int) -> None:
        if previous is None or target in failed:
            return
        if target - previous[0] <= reach and not previous[1].is_corrupt:
            found[target] = square(target, previous[1])

    for number, packet in chain(media.packets(0, len(line.pts) - 1), [(-1, None)]):
        if not missing:
            break
        try:
            pictures = context.decode(packet)
        except av.FFmpegError:
            if packet is not None:
                failed.add(int(line.pts[number]))
            continue
        for picture in pictures:
            tick = picture.pts if line.trusted else count
            count += 1
            if tick is None:
                continue
            while missing and missing[0] < tick:
                settle(missing.pop(0))
            previous = (tick, picture)
            if missing and missing[0] == tick:
                settle(missing.pop(0))
    for target in missing:
        settle(target)
    context.flush_buffers()


def _prepare(media: Media) -> Any:
    context = media.video.codec_context
    if not context.is_open:
        context.thread_count = 1  # processes share the cores, not threads
    context.skip_frame = "DEFAULT"
    return context


__all__ = [
    "UnreadableClip",
    "VideoInfo",
    "announced_seconds",
    "decode_frames",
    "frames_and_chunks_of",
    "frames_of",
    "probe",
]
