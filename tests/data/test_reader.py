import dataclasses

import numpy as np
import pytest
import torch

from coefvq.data.media import UnreadableClip
from coefvq.data.reader import ClipReader, collate, read_file, reading_shapes
from coefvq.data.text import train_tokenizer
from coefvq.types import Clip, InputSpec

INPUTS = InputSpec(frame_size=32, audio_seconds=1.0, mel_bins=20, max_text_length=8)


@pytest.fixture
def reader():
    return ClipReader(INPUTS, train_tokenizer(["a cat", "a cat"], 50))


def test_a_sample_has_the_shapes_of_its_input_spec(reader, clip_files):
    sample = reader.read(Clip("a", clip_files / "clip00.mp4", {"title": "a cat"}))
    assert sample.frames.shape == (4, 3, 32, 32) and sample.frames.dtype == torch.uint8
    assert sample.frame_mask.tolist() == [True] * 4
    assert sample.audio.shape == (20, 100) and sample.audio.dtype == torch.float32
    assert sample.audio_mask.shape == (100,) and sample.audio_mask.all()
    assert sample.input_ids.shape == (8,) and sample.text_mask.sum() == 4
    reading = read_file(clip_files / "clip00.mp4", INPUTS, "uniform")
    for field, (shape, kind) in reading_shapes(INPUTS).items():
        assert getattr(reading, field).shape == shape
        assert getattr(reading, field).dtype == kind


def test_fields_one_by_one_come_on_top_of_the_joined_text(reader, clip_files):
    inputs = dataclasses.replace(
        INPUTS, text_fields=("title", "ocr"), separate_text=True, max_field_length=3
    )
    both = ClipReader(inputs, reader.tokenizer)
    clips = [Clip("a", clip_files / "clip00.mp4", {"title": "a cat"}),
             Clip("b", clip_files / "clip01.mp4", {"ocr": "a cat a cat"})]  # fmt: skip
    batch = collate([both.read(clip) for clip in clips])
    assert batch.field_ids.shape == batch.field_mask.shape == (2, 2, 3)
    assert batch.field_mask.sum(-1).tolist() == [[2, 0], [0, 3]]
    plain = ClipReader(dataclasses.replace(inputs, separate_text=False), reader.tokenizer)
    without = collate([plain.read(clip) for clip in clips])
    assert without.field_ids is None and without.field_mask is None
    for name in ("frames", "audio", "input_ids", "text_mask"):
        assert torch.equal(getattr(batch, name), getattr(without, name))


def test_labels_and_privileged_features_are_not_looked_at(reader, clip_files):
    plain = Clip("a", clip_files / "clip00.mp4", {"title": "a cat"})
    loaded = Clip("a", plain.path, plain.text, 1.0, {"secret": 5.0}, "test", "g")
    first, second = reader.read(plain), reader.read(loaded)
    for name in ("frames", "audio", "input_ids"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    batch = collate([first, second])
    assert batch.labels is None and batch.privileged is None and len(batch) == 2


def test_training_may_have_a_policy_of_its_own(clip_files):
    inputs = InputSpec(frame_size=32, train_sampling="random_segments", audio=False, num_frames=2)
    reader = ClipReader(inputs)
    clip = Clip("a", clip_files / "clip00.mp4")
    steady = [reader.read(clip).frames for _ in range(2)]
    assert torch.equal(*steady)
    drawn = [reader.read(clip, train=True, rng=np.random.default_rng(s)).frames for s in range(5)]
    assert any(not torch.equal(steady[0], frames) for frames in drawn)


def test_a_silent_clip_among_others(reader, clip_files, write_clip, tmp_path):
    silent = write_clip(tmp_path / "a.mp4", 12)
    clips = [Clip("a", silent), Clip("b", clip_files / "clip01.mp4", {"title": "a cat"})]
    batch = collate([reader.read(clip) for clip in clips])
    assert batch.audio.shape == (2, 20, 100)
    assert batch.audio_mask.any(1).tolist() == [False, True]
    assert batch.text_mask.sum(1).tolist() == [2, 4]  # no text is [CLS][SEP]


def test_without_sound_and_text(clip_files):
    batch = collate([ClipReader(InputSpec(audio=False)).read(Clip("a", clip_files / "clip00.mp4"))])
    assert batch.audio is None and batch.audio_mask is None and batch.input_ids is None


def test_refusals(tmp_path, clip_files):
    with pytest.raises(ValueError, match="sampling 'random_segments' is unknown"):
        ClipReader(InputSpec(sampling="random_segments"))
    with pytest.raises(ValueError, match="train_sampling 'some' is unknown"):
        ClipReader(InputSpec(train_sampling="some"))
    with pytest.raises(ValueError, match="fit 'zoom' is unknown"):
        ClipReader(InputSpec(fit="zoom"))
    with pytest.raises(UnreadableClip, match="there is no such file"):
        ClipReader(INPUTS).read(Clip("a", tmp_path / "gone.mp4"))
    with pytest.raises(ValueError, match="no samples"):
        collate([])


def test_real_files_of_all_kinds_make_one_batch(real_clips):
    inputs = InputSpec(num_frames=2, frame_size=64)
    names = ["asl_no.mkv", "cars_a.mp4", "mdn_rabbit320.webm", "nasa.mp4", "pancake.mkv"]
    batch = collate([ClipReader(inputs).read(Clip(name, real_clips / name)) for name in names])
    assert batch.frames.shape == (5, 2, 3, 64, 64) and batch.frame_mask.all()
    assert batch.audio_mask.any(1).tolist() == [False, True, True, True, True]


def test_a_clip_says_how_long_it_lasts(write_clip, tmp_path, tone):
    quiet = dataclasses.replace(INPUTS, audio=False)
    for number, frames in enumerate((4, 12, 24)):
        write_clip(tmp_path / f"{number}.mp4", frames, sound=tone(300, 1.0))
    clips = [Clip(str(n), tmp_path / f"{n}.mp4") for n in range(3)]
    for inputs in (INPUTS, quiet):
        batch = collate([ClipReader(inputs).read(clip) for clip in clips])
        seconds = batch.public().seconds
        assert seconds.dtype == torch.float32
        torch.testing.assert_close(seconds / seconds[0], torch.tensor([1.0, 3.0, 6.0]))
