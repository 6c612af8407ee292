"""An opened media file: its packets in memory, its timeline, and what is wrong with it.

Reading all packets of a short clip costs about a hundredth of decoding it, and afterwards every
question has an exact answer: how many frames there are (WebM and Matroska headers do not say),
when each is shown, where the key frames are, whether the file ends early. Jumping to a key frame
is then a matter of which packets are handed to the decoder, and no container's seeking is trusted.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

KEEP_BYTES = 256 * 2**20
"""Packets of larger files are read twice rather than kept in memory."""

_AV_MAJOR = int(av.__version__.split(".")[0])
# Damaged files carry damaged metadata; PyAV 19 always tolerates that and dropped the argument.
_OPEN_OPTIONS: dict[str, Any] = {"metadata_errors": "replace"} if _AV_MAJOR < 19 else {}


class UnreadableClip(ValueError):
    """A clip that cannot be read, and why.

    Args:
        message: the whole sentence.
        path: the file.
        reason: the part of the sentence that says what is wrong.
    """

    def __init__(self, message: str, path: str | Path | None = None, reason: str = "") -> None:
        super().__init__(message, path, reason)
        self.path = None if path is None else Path(path)
        self.reason = reason or message

    def __str__(self) -> str:
        return str(self.args[0])

    @classmethod
    def because(cls, path: str | Path, reason: str) -> UnreadableClip:
        """Say that `path` cannot be read because of `reason`, and what to do."""
        return cls(
            f"clip {str(path)!r} cannot be read: {reason}; "
            "repair or remove it, or set data.on_bad_clip=skip",
            path,
            reason,
        )


@dataclass(frozen=True)
class BadClip:
    """A clip that was left out: its id, its file, and the reason in words."""

    id: str
    path: Path
    reason: str


@dataclass(frozen=True)
class Timeline:
    """When the frames of a video stream are shown, all arrays in the order of the packets.

    Args:
        pts: (n,) int64 presentation times in units of `time_base`.
        key: (n,) bool, True where decoding can start.
        shown: (n,) bool, False for frames that an edit list hides.
        time_base: seconds per unit.
        frame_ticks: duration of a typical frame in units.
        end: where the last shown frame ends, in units.
        announced_end: where the header says the video ends, in units; equals `end` unless the
            data stop clearly earlier, that is, unless the file is truncated.
        trusted: False where `pts` are not the frames' own times but their numbers, because the
            container stores none (AVI, raw streams).
    """

    pts: np.ndarray
    key: np.ndarray
    shown: np.ndarray
    time_base: float
    frame_ticks: float
    end: float
    announced_end: float
    trusted: bool

    @property
    def truncated(self) -> bool:
        """Whether the data stop clearly before the header says."""
        return self.announced_end > self.end


class Media:
    """An open file with its first real video stream and its first sound stream.

    Use as a context manager; `container` is closed on leaving, whatever happens.

    Args:
        path: a local file.
        sound: whether packets of the sound stream are collected as well.
        sound_seconds: how much of them, from the start.

    Raises:
        UnreadableClip: the file is missing, empty, or no media file.
    """

    def __init__(
        self, path: str | Path, *, sound: bool = False, sound_seconds: float = 1e9
    ) -> None:
        self.path = Path(path)
        self._stack = contextlib.ExitStack()
        try:
            size = self.path.stat().st_size
            if self.path.is_dir():
                raise UnreadableClip.because(path, "it is a folder")
            if size == 0:
                raise UnreadableClip.because(path, "the file is empty (0 bytes)")
            self.container = self._open()
            self.video = _first_video(self.container)
            self.sound = next(iter(self.container.streams.audio), None) if sound else None
            if self.sound is not None and self.sound.codec_context is None:
                self.sound = None
            self._keep = size <= KEEP_BYTES
            self.video_packets: list[Any] = []
            self.sound_packets: list[Any] = []
            self._ticks: list[tuple[int | None, bool, bool, int]] = []
            self._ends: dict[int, int] = {}
            self._demux(sound_seconds)
        except UnreadableClip:
            self.close()
            raise
        except (av.FFmpegError, OSError, ValueError) as error:
            self.close()
            raise UnreadableClip.because(path, _words(error)) from error

    def _open(self) -> Any:
        return self._stack.enter_context(open_file(self.path))

    def _demux(self, sound_seconds: float) -> None:
        video = -1 if self.video is None else self.video.index
        sound = -1 if self.sound is None else self.sound.index
        sound_ticks = 0.0
        if self.sound is not None:
            # A second of margin: sound may start before the picture.
            sound_ticks = (sound_seconds + 1) / float(self.sound.time_base)
        sound_first: int | None = None
        try:
            for packet in self.container.demux():
                if not packet.size:
                    continue
                stream, pts, length = packet.stream_index, packet.pts, packet.duration or 0
                if pts is not None:
                    self._ends[stream] = max(self._ends.get(stream, 0), pts + length)
                if stream == video:
                    self._ticks.append((pts, packet.is_keyframe, packet.is_discard, length))
                    if self._keep:
                        self.video_packets.append(packet)
                elif stream == sound:
                    sound_first = (pts or 0) if sound_first is None else sound_first
                    if (pts or 0) - sound_first <= sound_ticks:
                        self.sound_packets.append(packet)
        except av.FFmpegError:
            # Damage in the middle: what was read so far counts, and `truncated` tells the rest.
            if not self._ticks and not self.sound_packets:
                raise

    def packets(self, first: int, last: int) -> Iterator[tuple[int, Any]]:
        """Yield (number, packet) of the video packets `first` to `last`, both included."""
        if self._keep:
            yield from enumerate(self.video_packets[first : last + 1], first)
            return
        number = -1
        with contextlib.closing(self._open()) as again:
            for packet in again.demux(again.streams[self.video.index]):
                number += bool(packet.size)
                if packet.size and number >= first:
                    yield number, packet
                if number >= last:
                    return

    @property
    def sound_start(self) -> float | None:
        """When the sound starts, in seconds; None where there is none or it has no times."""
        first = self.sound_packets[0].pts if self.sound_packets else None
        return None if first is None else first * float(self.sound.time_base)

    @property
    def video_start(self) -> float | None:
        """When the first picture is shown, in seconds; None where the container has no times."""
        shown = [pts for pts, _, hidden, _ in self._ticks if pts is not None and not hidden]
        return min(shown) * float(self.video.time_base) if shown else None

    def timeline(self) -> Timeline:
        """Return when each frame is shown.

        Raises:
            UnreadableClip: there is no video in the file.
        """
        if self.video is None or self.video.codec_context is None:
            raise UnreadableClip.because(self.path, "it has no video stream that can be decoded")
        if not self._ticks:
            raise UnreadableClip.because(self.path, "its video stream is empty")
        pts = [tick[0] for tick in self._ticks]
        key = np.array([tick[1] for tick in self._ticks])
        rate = float(self.video.average_rate or self.video.base_rate or 25)
        if "avi" in self.container.format.name.split(",") or any(p is None for p in pts):
            count = len(pts)
            announced = self.video.frames or count
            if announced - count <= max(0.5 * rate, 0.05 * announced):
                announced = count
            everything = np.ones(count, bool)
            return Timeline(
                np.arange(count), key, everything, 1 / rate, 1.0, count, announced, False
            )
        ticks = np.array(pts, np.int64)
        shown = ~np.array([tick[2] for tick in self._ticks])
        shown = shown if shown.any() else np.ones_like(shown)
        first = np.zeros_like(shown)
        first[np.unique(ticks, return_index=True)[1]] = True
        shown &= first
        time_base = float(self.video.time_base)
        visible = np.sort(ticks[shown])
        gaps = np.diff(visible)
        frame = float(np.median(gaps)) if len(gaps) else 1 / (rate * time_base)
        last = int(np.flatnonzero(ticks == visible[-1])[0])
        end = float(visible[-1] + (self._ticks[last][3] or frame))
        start = float(visible[0])
        announced_end, data_end = self._announced(start, time_base)
        slack = max(0.5 / time_base, 0.05 * (announced_end - start))
        if announced_end - max(end, float(ticks.max()) + frame, data_end) <= slack:
            announced_end = end
        return Timeline(ticks, key, shown, time_base, frame, end, announced_end, True)

    def _announced(self, start: float, time_base: float) -> tuple[float, float]:
        """Where the header says the video ends, and where the data it speaks of end, in ticks."""
        if self.video.duration:
            return start + float(self.video.duration), start
        tags = {name.upper(): value for name, value in self.video.metadata.items()}
        if (seconds := _clock(tags.get("DURATION", ""))) is not None:
            return seconds / time_base, start
        if self.container.duration:
            # It speaks of all streams together, so all of them have to end early.
            seconds = self.container.duration / av.time_base
            streams = self.container.streams
            ends = [end * float(streams[index].time_base) for index, end in self._ends.items()]
            return start + seconds / time_base, max(ends) / time_base
        return start, start

    def close(self) -> None:
        """Close the file."""
        self.video_packets = self.sound_packets = []
        self._stack.close()

    def __enter__(self) -> Media:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_file(path: str | Path) -> Any:
    """Open a local file with PyAV, whatever its name looks like.

    Raises:
        av.FFmpegError: there is no such file, or it is no media file.
    """
    # "file:" keeps a name such as "http:x.mp4" or "concat:..." from being taken as a protocol.
    return av.open("file:" + os.fspath(path), **_OPEN_OPTIONS)


def _first_video(container: Any) -> Any:
    """The first video stream that is not a cover picture."""
    for stream in container.streams.video:
        if not int(getattr(stream, "disposition", 0)) & 0x400:  # AV_DISPOSITION_ATTACHED_PIC
            return stream
    return None


def _clock(text: str) -> float | None:
    """Seconds in "00:01:02.5", the form of Matroska's DURATION tag; None for anything else."""
    try:
        hours, minutes, seconds = text.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return None


def _words(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    text = (getattr(error, "strerror", None) or str(error)).strip().rstrip(".")
    return f"it is no media file that can be opened ({text})"


__all__ = ["KEEP_BYTES", "BadClip", "Media", "Timeline", "UnreadableClip", "open_file"]
