"""Make the file of a copy: decode, transform and encode through FFmpeg's libraries.

Pictures are streamed, so that a long clip does not fill the memory. A copy has a constant frame
rate, mono sound, and its picture upright with square pixels, whatever the original has.
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

LEAST = 64
"""Fewest pixels along either side: encoders of AV1 refuse less."""

_OPTIONS = {
    "libx264": {"preset": "veryfast", "threads": "1"},
    "libx265": {
        "preset": "ultrafast",
        "x265-params": "pools=none:frame-threads=1:log-level=none",
    },
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "threads": "1", "b": "0"},
    "libsvtav1": {"preset": "12", "svtav1-params": "lp=1"},
}


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
    from coefvq.data.video import probe

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
        Path(path), _even(width), _even(height), fps, info.seconds, turn,
        rate if info.has_sound else 0,
    )  # fmt: skip


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
        UnreadableClip: the original or the donor cannot be read.
        ValueError: the plan needs a donor and there is none.
    """
    target = Path(target)
    if donor is None and {"splice", "audio_replaced"} & set(plan.how):
        raise ValueError(f"a copy with {', '.join(plan.how)} needs a donor; give another clip")
    film = look_at(source)
    other = None if donor is None else look_at(donor)
    filters, width, height = picture_filters(film, plan)
    first, last = (share * film.seconds for share in plan.span)
    pieces = [_frames(film, (first, last), plan.speed, filters, film.rate)]
    sounds = [_sound(film, (first, last), plan.speed)]
    if plan.splice is not None:
        assert other is not None
        fit = [*_upright(other), ("scale", f"{width}:{height}"), ("setsar", "1")]
        before, after = (share * (last - first) / plan.speed for share in plan.splice)
        # The donor goes on behind the copy where it stopped before it, as far as it reaches.
        spans = [span for span in ((0.0, before), (before, before + after)) if span[1] > span[0]]
        spans = [_within(span, other.seconds) for span in spans]
        donated = [_frames(other, span, 1.0, fit, film.rate) for span in spans]
        donated_sound = [_sound(other, span, 1.0, film.sound_rate) for span in spans]
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
        new = _sound(other, (0.0, other.seconds), 1.0, sound_rate)
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
    filters = _upright(film)
    if plan.crop is not None:
        left, top, wide, high = plan.crop
        width, height = _even(width * wide), _even(height * high)
        filters.append(
            ("crop", f"{width}:{height}:{int(left * film.width)}:{int(top * film.height)}")
        )
    if plan.flip:
        filters.append(("hflip", ""))
    new = _even(width * plan.scale[0]), _even(height * plan.scale[1])
    if new != (width, height):
        width, height = new
        filters.append(("scale", f"{width}:{height}"))
    if plan.letterbox is not None:
        frame = (
            _even(max(width, height * plan.letterbox)),
            _even(max(height, width / plan.letterbox)),
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
        width, height = _even(width * grow), _even(height * grow)
        filters.append(("scale", f"{width}:{height}"))
    return [*filters, ("setsar", "1")], width, height


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
        with av.open(str(part), "w", format=form) as container:
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


def _frames(
    film: Film,
    span: tuple[float, float],
    speed: float,
    filters: list[tuple[str, str]],
    rate: Fraction,
) -> Iterator[Any]:
    """Stream the filtered pictures of a part of a file."""
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
        raise UnreadableClip.because(
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


def _sound(
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


def _within(span: tuple[float, float], seconds: float) -> tuple[float, float]:
    """Move a span so that it lies in a clip of this length, or shorten it to the whole clip."""
    length = min(span[1] - span[0], seconds)
    start = min(span[0], seconds - length)
    return start, start + length


def _upright(film: Film) -> list[tuple[str, str]]:
    """Filters that make the stored picture upright, with square pixels and even sides."""
    turns = {1: [("transpose", "cclock")], 2: [("hflip", ""), ("vflip", "")],
             3: [("transpose", "clock")]}  # fmt: skip
    return [*turns.get(film.turn, []), ("scale", f"{film.width}:{film.height}")]


def _even(number: float) -> int:
    return max(2, 2 * round(number / 2))


def _colour(number: int) -> str:
    return f"0x{number:06X}"


def _box(left: int, top: int, width: int, height: int, colour: int) -> tuple[str, str]:
    return "drawbox", f"{left}:{top}:{width}:{height}:color={_colour(colour)}:t=fill"


__all__ = ["LEAST", "Film", "encode", "look_at", "make_copy", "picture_filters", "suffix_of"]
