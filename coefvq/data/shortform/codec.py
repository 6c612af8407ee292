"""Write one mp4 and read it back with what only its encoder knows."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import av
import av.filter
import numpy as np

from coefvq.data.shortform.sources import FPS, FRAMES, SIZE, Picture


def render(picture: Picture, filters: list[tuple[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    """Render a picture source, pristine and filtered, in step.

    Returns:
        Two arrays (F, 3·H/2, W) uint8 in yuv420p's planar layout.
    """
    graph = av.filter.Graph()
    graph.threads = 1  # the processes of the pool are as many as there are cores
    last = graph.add(picture.kind, picture.arguments)
    for name, arguments in (
        ("hue", f"h={picture.hue:.2f}"),
        ("format", "pix_fmts=yuv420p"),
        ("lutyuv", f"y=clip((val-128)*{picture.contrast:.3f}+128\\,16\\,235)"),
        ("format", "pix_fmts=yuv420p"),
        ("split", "2"),
    ):
        following = graph.add(name, arguments)
        last.link_to(following)
        last = following
    sinks = graph.add("buffersink"), graph.add("buffersink")
    last.link_to(sinks[0], 0, 0)
    port = 1
    for name, arguments in [*filters, ("format", "pix_fmts=yuv420p")]:
        following = graph.add(name, arguments)
        last.link_to(following, port, 0)
        last, port = following, 0
    last.link_to(sinks[1])
    graph.configure()
    pairs = [(sinks[0].pull().to_ndarray(), sinks[1].pull().to_ndarray()) for _ in range(FRAMES)]
    pristine, degraded = zip(*pairs, strict=True)
    return np.stack(pristine), np.stack(degraded)


def write_clip(
    path: Path, frames: np.ndarray, sound: np.ndarray, rate: int, *, crf: float, title: str
) -> None:
    """Encode H.264 and AAC into an mp4; the file appears whole or not at all.

    Args:
        path: the file.
        frames: (F, 3·H/2, W) uint8, yuv420p.
        sound: (n,) float32 in [-1, 1].
        rate: of the sound, Hz.
        crf: x264's constant rate factor.
        title: container metadata.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with av.open(str(part), "w", format="mp4") as container:
        container.metadata["title"] = title
        video = container.add_stream("libx264", rate=FPS)
        video.width = video.height = SIZE
        video.pix_fmt = "yuv420p"
        video.options = {"crf": f"{crf:.2f}", "preset": "veryfast", "threads": "1"}
        audio = container.add_stream("aac", rate=rate, layout="mono")
        for frame in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="yuv420p")))
        container.mux(video.encode(None))
        wave = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        wave.sample_rate, wave.pts = rate, 0
        container.mux(audio.encode(wave))
        container.mux(audio.encode(None))
    part.replace(path)


def read_back(path: Path) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    """Decode a clip of ours with its encoder's statistics.

    Returns:
        Luma (F, H, W) uint8, sound (n,) float32, and the features
        `qp_mean`, `qp_std`, `bytes_first`, `bytes_mean`, `bytes_std`.
    """
    luma, qps, sizes, sound = [], [], [], []
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        video.codec_context.options = {"export_side_data": "venc_params"}
        video.codec_context.thread_count = 1
        for packet in container.demux(video, audio):
            if packet.stream is video and packet.size:
                sizes.append(packet.size)
            for frame in packet.decode():
                if packet.stream is video:
                    luma.append(_luma(frame))
                    qps.append(_mean_qp(frame))
                else:
                    # The encoder's run-in has negative time and is no part of the sound.
                    sound.append(frame.to_ndarray()[0][max(0, -(frame.pts or 0)) :])
    p_frames = np.array(sizes[1:], dtype=float)
    return (
        np.stack(luma),
        np.concatenate(sound),
        {
            "qp_mean": float(np.mean(qps)),
            "qp_std": float(np.std(qps)),
            "bytes_first": float(sizes[0]),
            "bytes_mean": float(p_frames.mean()),
            "bytes_std": float(p_frames.std()),
        },
    )


def _luma(frame: av.VideoFrame) -> np.ndarray:
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return rows[: frame.height, : frame.width].copy()


def _mean_qp(frame: av.VideoFrame) -> float:
    """Mean quantiser of a frame's blocks, from AVVideoEncParams (libavutil/video_enc_params.h)."""
    data = frame.side_data.get("VIDEO_ENC_PARAMS")
    if data is None:
        return float("nan")
    raw = bytes(data)
    count, offset, size, _, base = struct.unpack_from("<IxxxxQQii", raw)
    if not count:
        return float(base)
    blocks = np.frombuffer(raw, np.uint8, count * size, offset).reshape(count, size)
    return float(base + blocks[:, 16:20].copy().view(np.int32).mean())
