"""Files as streams of filtered pictures and waveforms, and back: the PyAV part of making copies.

Pictures are streamed, so that a long clip does not fill the memory. Whatever a file stores, its
pictures come out upright with square pixels at a constant rate, and its sound is mono.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.filter
import numpy as np

from coefvq.data.audio import decode_audio
from coefvq.data.media import UnreadableClip
from coefvq.data.pairs.plan import Plan
from coefvq.data.video import probe

_OPTIONS = {
    # Its macroblock tree reads memory that nothing was written to where rows of blocks do not fill
    # a vector (320 pixels, 426): other bytes, and pictures, with every call.
    "libx264": {"preset": "veryfast", "threads": "1", "x264-params": "mbtree=0"},
    "libx265": {
        "preset": "ultrafast",
        "x265-params": "pools=none:frame-threads=1:log-level=none",
    },
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "threads": "1", "b": "0"},
    "libsvtav1": {"preset": "12", "svtav1-params": "lp=1"},
}


class NoFrames(UnreadableClip):
    """A part of a file that holds no frame."""


@dataclass(frozen=True)
class Film:
    """A file as the transformations see it.

    Args:
        path: the file.
        width: of the upright picture with square pixels.
        height: likewise.
        rate: frames per second, at most 60.
        seconds: length of the picture.
        turn: quarter turns (anticlockwise) that make the stored picture upright.
        sound_rate: samples per second; 0 without sound.
    """

    path: Path
    width: int
    height: int
    rate: Fraction
    seconds: float
    turn: int
    sound_rate: int


def look_at(path: str | Path) -> Film:
    """Read what the transformations need to know of a file.

    Raises:
        UnreadableClip: it cannot be opened, or has no picture.
    """
    info = probe(path)
    if info.truncated:
        raise UnreadableClip.because(path, "it is truncated")
    try:
        with av.open("file:" + os.fspath(path)) as container:
            stream = next(s for s in container.streams.video if s.codec_context is not None)
            stream.codec_context.thread_count = 1
            frame = next(container.decode(stream))
            aspect = float(stream.sample_aspect_ratio or 0) or 1.0
            turn = round((getattr(frame, "rotation", 0) or 0) / 90) % 4
            rate = 48_000 if info.has_sound and container.streams.audio[0].rate > 24_000 else 16_000
    except (av.FFmpegError, StopIteration, OSError) as error:
        raise UnreadableClip.because(path, "its first frame cannot be decoded") from error
    width, height = frame.width * aspect, float(frame.height)
    width, height = (height, width) if turn % 2 else (width, height)
    fps = Fraction(info.fps).limit_denominator(1001) if 1 <= info.fps <= 60 else Fraction(25)
    return Film(
        Path(path), even(width), even(height), fps, info.seconds, turn,
        rate if info.has_sound else 0,
    )  # fmt: skip


def upright(film: Film) -> list[tuple[str, str]]:
    """Filters that make the stored picture upright, with square pixels and even sides."""
    turns = {1: [("transpose", "cclock")], 2: [("hflip", ""), ("vflip", "")],
             3: [("transpose", "clock")]}  # fmt: skip
    return [*turns.get(film.turn, []), ("scale", f"{film.width}:{film.height}")]


def pictures_of(
    film: Film,
    span: tuple[float, float],
    speed: float,
    filters: list[tuple[str, str]],
    rate: Fraction,
) -> Iterator[Any]:
    """Stream the filtered pictures of a part of a file.

    Raises:
        NoFrames: there is none in this part.
        UnreadableClip: the file cannot be decoded.
    """
    timing = [
        ("setpts", "PTS-STARTPTS"),
        ("fps", f"{film.rate}"),
        ("trim", f"start={span[0]:.6f}:end={span[1]:.6f}"),
        ("setpts", f"(PTS-STARTPTS)/{speed}"),
        ("fps", f"{rate}"),
    ]
    count = 0
    try:
        with contextlib.closing(av.open("file:" + os.fspath(film.path))) as container:
            stream = next(s for s in container.streams.video if s.codec_context is not None)
            stream.codec_context.thread_count = 1
            graph: Any = None
            for frame in itertools.chain(container.decode(stream), [None]):
                if graph is None:
                    graph = _graph(stream, [*timing, *filters, ("format", "pix_fmts=yuv420p")])
                if frame is not None and frame.pts is None:
                    continue
                with contextlib.suppress(av.error.EOFError):
                    graph.push(frame)
                for ready in _pull(graph):
                    count += 1
                    yield ready
                if frame is not None and frame.time is not None and _past(frame, stream, span):
                    break
            if graph is not None:
                with contextlib.suppress(av.error.EOFError):
                    graph.push(None)
                for ready in _pull(graph):
                    count += 1
                    yield ready
    except av.FFmpegError as error:
        raise UnreadableClip.because(film.path, "its picture cannot be decoded") from error
    if not count:
        raise NoFrames.because(
            film.path, f"no frame between {span[0]:.2f} and {span[1]:.2f} s could be decoded"
        )


def _past(frame: Any, stream: Any, span: tuple[float, float]) -> bool:
    start = float((stream.start_time or 0) * stream.time_base)
    return frame.time - start > span[1] + 1.0


def _graph(stream: Any, filters: list[tuple[str, str]]) -> Any:
    graph = av.filter.Graph()
    graph.threads = 1
    last = graph.add_buffer(template=stream, time_base=stream.time_base)
    for name, arguments in filters:
        following = graph.add(name, arguments) if arguments else graph.add(name)
        last.link_to(following)
        last = following
    last.link_to(graph.add("buffersink"))
    graph.configure()
    return graph


def _pull(graph: Any) -> Iterator[Any]:
    while True:
        try:
            yield graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return


def sound_of_part(
    film: Film, span: tuple[float, float], speed: float, rate: int | None = None
) -> np.ndarray:
    """Sound of a part of a file, exactly as long as its picture; silence where there is none."""
    rate = film.sound_rate if rate is None else rate
    length = round((span[1] - span[0]) / speed * rate)
    wave = decode_audio(film.path, rate, span[1]) if film.sound_rate and rate else None
    out = np.zeros(length, np.float32)
    if wave is None:
        return out
    wave = wave[round(span[0] * rate) :]
    if speed != 1.0 and len(wave):
        wave = _tempo(wave, rate, speed)
    out[: min(length, len(wave))] = wave[:length]
    return out


def _tempo(wave: np.ndarray, rate: int, speed: float) -> np.ndarray:
    """Change the speed of a sound and keep its pitch."""
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=rate, format="flt", layout="mono")
    tempo, sink = graph.add("atempo", f"{speed}"), graph.add("abuffersink")
    source.link_to(tempo)
    tempo.link_to(sink)
    graph.configure()
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave[None]), "flt", "mono")
    frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    graph.push(frame)
    graph.push(None)
    return np.concatenate([ready.to_ndarray()[0] for ready in _pull(graph)] or [wave[:0]])


def encode(
    target: Path,
    frames: Iterator[Any],
    size: tuple[int, int],
    rate: Fraction,
    plan: Plan,
    wave: np.ndarray | None,
    sound_rate: int,
) -> None:
    """Write pictures and sound into a file; it appears whole or not at all.

    Args:
        target: the file; its ending says which container.
        frames: `av.VideoFrame` of `size`, in yuv420p.
        size: width and height.
        rate: frames per second.
        plan: for its codec, rate factor and bitrate of the sound.
        wave: (n,) float32 mono; None for no sound track.
        sound_rate: samples per second.
    """
    os.environ.setdefault("SVT_LOG", "0")  # that encoder writes to the screen past FFmpeg's log
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    form = target.suffix.removeprefix(".")
    try:
        # Matroska would draw an id of the file by chance.
        exact = {"fflags": "+bitexact"}
        with av.open(str(part), "w", format=form, options=exact) as container:
            options = {"crf": str(plan.crf), **_OPTIONS[plan.codec]}
            video = container.add_stream(plan.codec, rate=rate, options=options)
            video.width, video.height = size
            video.pix_fmt = "yuv420p"
            voice: Any = None
            if wave is not None:
                name = "libopus" if form == "webm" else "aac"
                voice = container.add_stream(name, rate=sound_rate, layout="mono")
                voice.bit_rate = plan.bitrate
            for number, frame in enumerate(frames):
                frame.pts, frame.time_base = number, 1 / rate
                frame.pict_type = 0
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
            if wave is not None:
                sound = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(wave[None], np.float32), format="fltp", layout="mono"
                )
                sound.sample_rate, sound.pts, sound.time_base = (
                    sound_rate, 0, Fraction(1, sound_rate)
                )  # fmt: skip
                ready = av.AudioResampler(voice.format, "mono", sound_rate).resample(sound)
                for chunk in ready:
                    container.mux(voice.encode(chunk))
                container.mux(voice.encode(None))
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def even(number: float) -> int:
    """The even number of pixels next to a number, at least 2: yuv420p has no odd sides."""
    return max(2, 2 * round(number / 2))


__all__ = [
    "Film",
    "NoFrames",
    "encode",
    "even",
    "look_at",
    "pictures_of",
    "sound_of_part",
    "upright",
]
