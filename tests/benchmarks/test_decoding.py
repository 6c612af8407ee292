"""Decoding against a bare PyAV loop that takes the same frames: `pytest -m benchmark -s`."""

import time
from pathlib import Path

import av
import numpy as np
import pytest

from coefvq.data.media import Media
from coefvq.data.reader import ClipReader
from coefvq.data.sampling import frames_at, sample_times
from coefvq.data.video import decode_frames
from coefvq.types import Clip, InputSpec

CLIPS = Path(__file__).parents[2].parent / "shared" / "data" / "clips"
FRAMES, SIZE, ROUNDS = 4, 128, 3


def plan(path):
    """Numbers of the sampled frames in display order, worked out beforehand for the bare loop."""
    with Media(path) as media:
        line = media.timeline()
    shown = np.sort(line.pts[line.shown]).astype(float)
    seconds = (line.end - shown[0]) * line.time_base
    times = shown[0] + sample_times("uniform", FRAMES, seconds) / line.time_base
    return set(frames_at(times, shown, line.frame_ticks).tolist())


def bare(path, wanted):
    """What one writes without a library: decode from the start, convert what is wanted."""
    frames = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for number, frame in enumerate(container.decode(stream)):
            if number in wanted:
                scale = SIZE / min(frame.width, frame.height)
                width, height = round(frame.width * scale), round(frame.height * scale)
                image = frame.reformat(width, height, "rgb24", interpolation=2).to_ndarray()
                top, left = (height - SIZE) // 2, (width - SIZE) // 2
                image = image[top : top + SIZE, left : left + SIZE]
                frames.append(np.ascontiguousarray(image.transpose(2, 0, 1)))
                if len(frames) == len(wanted):
                    break
    return np.stack(frames)


@pytest.mark.benchmark
def test_decoding_against_a_bare_loop():
    if not CLIPS.is_dir():
        pytest.skip("the folder ../shared/data/clips with real clips is not there")
    paths = sorted(path for path in CLIPS.iterdir() if path.suffix != ".csv")
    plans = {path: plan(path) for path in paths}
    silent = ClipReader(InputSpec(num_frames=FRAMES, frame_size=SIZE, audio=False))
    heard = ClipReader(InputSpec(num_frames=FRAMES, frame_size=SIZE))
    ways = {
        "bare PyAV loop": lambda path: bare(path, plans[path]),
        "decode_frames": lambda path: decode_frames(path, FRAMES, size=SIZE)[0],
        "ClipReader": lambda path: silent.read(Clip("a", path)).frames.numpy(),
        "ClipReader with sound": lambda path: heard.read(Clip("a", path)).frames.numpy(),
    }
    seconds = dict.fromkeys(ways, 0.0)
    for _ in range(ROUNDS):
        for path in paths:
            expected = None
            for name, way in ways.items():  # in turn, so that a busy machine is fair to all
                start = time.perf_counter()
                frames = way(path)
                seconds[name] += time.perf_counter() - start
                expected = frames if expected is None else expected
                assert np.array_equal(frames, expected), f"{name} takes other frames of {path}"
    count = ROUNDS * len(paths)
    print(f"\n{len(paths)} clips, {FRAMES} frames each, one thread")
    for name, took in seconds.items():
        ratio = seconds["bare PyAV loop"] / took
        print(f"{name:22s} {count / took:6.1f} clips/s {FRAMES * count / took:7.1f} frames/s "
              f"{ratio:5.2f} x bare loop")  # fmt: skip
