"""The video around each frame: which pictures, in one pass, off by default."""

import dataclasses

import numpy as np
import pytest
import torch

from coefvq.data.chunks import Chunks
from coefvq.data.frame_cache import FrameCache, reading_name
from coefvq.data.media import Media
from coefvq.data.reader import ClipReader, collate, read_file, reading_shapes
from coefvq.data.sampling import chunk_times, frame_on_screen
from coefvq.data.video import frames_and_chunks_of, frames_of
from coefvq.types import Clip, InputSpec

PLAIN = InputSpec(num_frames=2, frame_size=32, audio=False, text_fields=(), sampling="per_second")
INPUTS = dataclasses.replace(PLAIN, motion_frames=4, motion_size=16)


def read(path, chunks, count=2, sampling="per_second", **options):
    with Media(path) as media:
        return frames_and_chunks_of(media, count, sampling, 32, "crop", chunks=chunks, **options)


def numbers(motion, frame_number):
    return [[frame_number(picture) for picture in chunk] for chunk in motion]


def test_a_chunk_is_centred_and_stays_inside_the_clip():
    # Middles 0.1 and 2.9 of 3 s: the chunks are moved to [0, 1) and [2, 3).
    times = chunk_times(np.array([0.1, 1.5, 2.9]), 2, 1.0, 3.0)
    assert times.tolist() == [[0.25, 0.75], [1.25, 1.75], [2.25, 2.75]]
    # Half a second of video: the chunk starts with it and goes on behind its end.
    assert chunk_times(np.array([0.25]), 4, 1.0, 0.5).tolist() == [[0.125, 0.375, 0.625, 0.875]]


def test_a_moment_may_show_the_frame_of_another():
    assert frame_on_screen(np.array([0.0, 3.0, 5.0, 99.0]), np.array([0, 4]), 4.0).tolist() == [
        0, 0, 1, 1,
    ]  # fmt: skip


def test_the_right_pictures(write_clip, frame_number, tmp_path):
    # 12 pictures a second, frames 6 and 18 in the middle of the seconds (and half a frame later
    # in the middle of their time on the screen), every third picture of a second around them.
    path = write_clip(tmp_path / "a.mp4", 24)
    frames, mask, _, motion = read(path, Chunks(4, 1.0, 16))
    assert mask.all() and [frame_number(frame) for frame in frames] == [6, 18]
    assert motion.shape == (2, 4, 3, 16, 16) and motion.dtype == np.uint8
    assert numbers(motion, frame_number) == [[2, 5, 8, 11], [13, 16, 19, 22]]


def test_a_clip_shorter_than_a_chunk_repeats_its_last_picture(write_clip, frame_number, tmp_path):
    path = write_clip(tmp_path / "a.mp4", 6)
    _, mask, _, motion = read(path, Chunks(4, 1.0, 16))
    assert mask.tolist() == [True, False]
    assert numbers(motion[:1], frame_number) == [[1, 4, 5, 5]]
    assert not motion[1].any()
    # More pictures than there are: each as often as it is on the screen.
    _, _, _, many = read(path, Chunks(12, 0.5, 16), count=1)
    assert numbers(many, frame_number) == [[0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]]
    one = write_clip(tmp_path / "b.mp4", 1)
    assert numbers(read(one, Chunks(3, 1.0, 16))[3][:1], frame_number) == [[0, 0, 0]]


@pytest.mark.parametrize("size", [16, 32])
def test_frames_are_the_same_with_and_without_chunks(size, write_clip, tmp_path):
    path = write_clip(tmp_path / "a.mp4", 24, gop=7)
    with Media(path) as media:
        plain = frames_of(media, 2, "uniform", 32, "crop")
    whole = read(path, Chunks(8, 1.0, size), sampling="uniform")
    slow = read(path, Chunks(8, 1.0, size), sampling="uniform", shortcuts=False)
    for ours, theirs in zip(plain, whole, strict=False):
        assert np.array_equal(ours, theirs)
    for ours, theirs in zip(whole, slow, strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(("width", "height"), [(48, 96), (65, 49)])
def test_portrait_and_odd_sizes(width, height, write_clip, frame_number, tmp_path):
    path = write_clip(tmp_path / "a.mp4", 12, width=width, height=height, pix_fmt="yuv444p")
    assert numbers(read(path, Chunks(2, 1.0, 16), count=1)[3], frame_number) == [[3, 9]]


def test_readings_without_chunks_are_what_they_were():
    assert "motion" not in reading_shapes(PLAIN)
    other = dataclasses.replace(PLAIN, motion_size=99, motion_seconds=0.5)
    assert reading_name(PLAIN, "uniform") == reading_name(other, "uniform")
    assert reading_name(PLAIN, "uniform") != reading_name(INPUTS, "uniform")
    assert not any("motion" in name for name in PLAIN.to_dict())
    assert InputSpec(**INPUTS.to_dict()) == INPUTS


def test_a_batch_has_chunks_only_if_asked(write_clip, tmp_path):
    clips = [
        Clip("a", write_clip(tmp_path / "a.mp4")),
        Clip("b", write_clip(tmp_path / "b.mp4", 4)),
    ]
    plain = collate([ClipReader(PLAIN).read(clip) for clip in clips])
    batch = collate([ClipReader(INPUTS).read(clip) for clip in clips])
    assert plain.motion is None
    assert batch.motion.shape == (2, 2, 4, 3, 16, 16) and batch.motion.dtype == torch.uint8
    assert torch.equal(plain.frames, batch.frames) and batch.public().motion is not None


def test_chunks_come_back_from_a_cache(write_clip, tmp_path):
    reading = read_file(write_clip(tmp_path / "a.mp4"), INPUTS, "per_second")
    FrameCache(INPUTS, "per_second", tmp_path).append([("a", reading)])
    found = FrameCache(INPUTS, "per_second", tmp_path).gather(["a", "a"])
    assert np.array_equal(found["motion"][1], reading.motion)


def test_refusals():
    for wrong in ({"motion_frames": -1}, {"motion_size": 0}, {"motion_seconds": 0.0}):
        with pytest.raises(ValueError, match="chunks of video have 0 or more pictures"):
            InputSpec(**wrong)
