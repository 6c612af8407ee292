"""Clips whose score has to be read with care are named, others are not."""

import dataclasses

import av
import numpy as np
import pytest

from coefvq.data.reading_remarks import reading_notes, reading_remarks, remarks_note
from coefvq.types import InputSpec

FRAGMENTS = InputSpec(num_frames=4, frame_size=126, fit="fragments", audio=False, text_fields=())


@pytest.fixture
def clip(tmp_path):
    def make(width, height):
        path = tmp_path / f"{width}x{height}.mp4"
        with av.open(str(path), "w") as out:
            stream = out.add_stream("mpeg4", rate=5)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            picture = np.full((height, width, 3), 99, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
            out.mux(stream.encode(None))
        return path

    return make


@pytest.mark.parametrize(
    ("frames", "said"),
    [(4, ""), (3, ""), (2, "2 frames where 4 are read"), (1, "a single frame")],
)
def test_few_frames_are_said(clip, frames, said):
    assert reading_remarks(clip(128, 128), FRAGMENTS, frames) == said


def test_a_model_of_one_frame_misses_none(clip):
    one = InputSpec(num_frames=1, frame_size=126, fit="fragments", audio=False, text_fields=())
    assert reading_remarks(clip(128, 128), one, 1) == ""


@pytest.mark.parametrize(
    ("size", "fit", "said"),
    [
        ((32, 16), "fragments", "32×16 pixels, enlarged to 126"),
        ((640, 34), "fragments", "640×34 pixels, enlarged to 126"),
        ((640, 34), "letterbox", ""),  # its long side is what counts
        ((160, 120), "fragments", ""),  # hardly enlarged
        ((160, 100), "crop", "160×100 pixels, enlarged to 126"),
    ],
)
def test_enlarged_pictures_are_said(clip, size, fit, said):
    inputs = InputSpec(num_frames=4, frame_size=126, fit=fit, audio=False, text_fields=())
    assert reading_remarks(clip(*size), inputs, 4) == said


def test_all_of_it_is_said_and_a_file_without_a_header_is_let_pass(clip, tmp_path):
    assert reading_remarks(clip(32, 16), FRAGMENTS, 1).split("; ") == [
        "a single frame", "32×16 pixels, enlarged to 126",
    ]  # fmt: skip
    assert reading_remarks(tmp_path / "gone.mp4", FRAGMENTS, 4) == ""


def test_the_note_counts_and_names_two():
    found = {"a": "a single frame", "b": "", "c": "x", "d": "y"}
    note = remarks_note(found, 9)
    assert note.startswith("3 of 9 clips") and "(a: a single frame; c: x; …)" in note
    assert remarks_note({"b": ""}, 1) is None


def test_a_clip_shorter_than_a_chunk_is_said(clip):
    """One picture at five a second lasts a fifth of one."""
    chunks = dataclasses.replace(FRAGMENTS, motion_frames=4, motion_seconds=0.5)
    said = "0.2 s, shorter than a chunk of 0.5 s: its last picture is repeated"
    assert reading_remarks(clip(128, 128), chunks, 4) == said
    assert reading_remarks(clip(128, 128), dataclasses.replace(chunks, motion_seconds=0.2), 4) == ""
    assert reading_remarks(clip(128, 128), FRAGMENTS, 4) == ""


def test_a_report_names_such_clips_by_their_headers(clip):
    paths = [clip(32, 16), clip(160, 120)]
    (note,) = reading_notes(paths, FRAGMENTS)
    assert note.startswith("2 of 2 clips are short, of few frames or enlarged (32x16.mp4: a single")
    one = InputSpec(num_frames=1, frame_size=126, fit="fragments", audio=False, text_fields=())
    assert reading_notes(paths[1:], one) == []
    (note,) = reading_notes(paths, FRAGMENTS, alike=True)
    assert note == "every clip: a single frame; 32×16 pixels, enlarged to 126"
    assert reading_notes([], FRAGMENTS, alike=True) == []


def test_clips_of_one_name_in_several_folders_are_counted(clip, tmp_path):
    paths = []
    for folder in "abc":
        (tmp_path / folder).mkdir()
        paths.append(clip(32, 16).rename(tmp_path / folder / "0.mp4"))
    (note,) = reading_notes(paths, FRAGMENTS)
    assert note.startswith("3 of 3 clips are short")
