"""Two files and a quality model that was never trained: its numbers are as good as any here."""

import dataclasses
import json
import shutil

import av
import numpy as np
import pytest
import torch

from coefvq.data.reader import collate
from coefvq.evaluation.score_calibration import ScoreCalibration
from coefvq.modules.frames import FrameConfig
from coefvq.modules.vision import ConvEncoderConfig
from coefvq.serving.predict_compare import Comparison, ScoreLine, compare_files
from coefvq.serving.served_model import load_served
from coefvq.students.blind_quality import BlindQuality
from coefvq.types import Clip, InputSpec, TaskSpec

TASK = TaskSpec("mos", "regression", label_range=(1, 5))
INPUTS = InputSpec(num_frames=2, frame_size=32, audio=False, text_fields=())


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A saved model whose scores are spread over the range that it was calibrated to."""
    torch.manual_seed(0)
    vision = ConvEncoderConfig(widths=(8, 8), width=8, residual_scales=2)
    frames = FrameConfig(size=32, mode="resize")
    module = BlindQuality(vision, frames, width=8, label_range=(1, 5), motion=False)
    unit = ScoreCalibration(
        kind="linear", parameters=(1.0, 0.0), label_range=(1.0, 5.0), half_width=0.5, coverage=0.8,
        residuals=tuple(np.linspace(-0.5, 0.5, 20)), rmse=0.3, clips=20,
    )  # fmt: skip
    metadata = {"task": TASK.to_dict(), "inputs": INPUTS.to_dict()}
    metadata["score_calibration"] = unit.to_dict()
    return module.save_pretrained(tmp_path_factory.mktemp("quality") / "model", metadata=metadata)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A clip of noise and one of a grey picture."""
    folder, draw = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    for name in ("noise", "grey"):
        with av.open(str(folder / f"{name}.mp4"), "w") as out:
            stream = out.add_stream("mpeg4", rate=5)
            stream.width = stream.height = 32
            for _ in range(4):
                picture = np.full((32, 32, 3), 99, np.uint8)
                if name == "noise":
                    picture = draw.integers(256, size=(32, 32, 3), dtype=np.uint8)
                out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
            out.mux(stream.encode(None))
    return folder / "noise.mp4", folder / "grey.mp4"


@pytest.fixture
def changed(model, tmp_path):
    """A copy of the model with other metadata: `changed(lambda metadata: …)`."""

    def change(edit):
        folder = shutil.copytree(model, tmp_path / "changed")
        content = json.loads((folder / "config.json").read_text())
        edit(content["metadata"])
        (folder / "config.json").write_text(json.dumps(content))
        return folder

    return change


def test_scores_are_those_of_the_served_model_with_their_unit(model, clips):
    found = compare_files(model, clips)
    served = load_served(model)
    raw = [float(served.logits(collate([served.reader().read(Clip("x", path))]))) for path in clips]
    assert raw[0] != raw[1]
    for side, path, value in zip((found.first, found.second), clips, raw, strict=True):
        percent = 25 * (value - 1)  # of labels from 1 to 5
        assert side.path == str(path) and side.score == pytest.approx(percent)
        assert side.low == pytest.approx(max(percent - 12.5, 0))
        assert side.high == pytest.approx(min(percent + 12.5, 100))
        assert (
            side.level == ["bad", "poor", "fair", "good", "excellent"][min(int(percent // 20), 4)]
        )
    assert found.coverage == 0.8
    assert (found.better > 0.5) == (found.first.score > found.second.score)


def test_turned_round_it_says_the_same(model, clips):
    found, turned = compare_files(model, clips), compare_files(model, clips[::-1])
    assert (found.first, found.second) == (turned.second, turned.first)
    assert found.better == pytest.approx(1 - turned.better)
    assert compare_files(model, [clips[0], clips[0]]).better == pytest.approx(0.5)


def test_what_is_printed():
    first = ScoreLine("a.mp4", 74.96, 60.2, 89.9, "good")
    found = Comparison(first, ScoreLine("longer.mp4", 8.0, 0.0, 23.4, "bad"), 0.987, 0.9)
    assert found.lines().splitlines() == [
        "a.mp4        75.0  (60–90, 90% interval)  good",
        "longer.mp4    8.0  (0–23, 90% interval)  bad",
        "a.mp4 is the better one with probability 0.99",
    ]
    assert turned(found).lines().endswith("a.mp4 is the better one with probability 0.99")
    alike = dataclasses.replace(found, better=0.5)
    assert alike.lines().endswith("either may be the better one: the probability is 0.50")
    short = dataclasses.replace(found, first=dataclasses.replace(first, remark="a single frame"))
    assert short.lines().splitlines()[0].endswith("good  (a single frame)")


def turned(found):
    return Comparison(found.second, found.first, 1 - found.better, found.coverage)


def test_a_file_of_one_frame_is_said_to_be_one(model, clips, tmp_path):
    path = tmp_path / "one.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 128
        stream.pix_fmt = "yuv420p"
        picture = np.full((128, 128, 3), 99, np.uint8)
        out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        out.mux(stream.encode(None))
    found = compare_files(model, [clips[0], path])
    assert (found.first.remark, found.second.remark) == ("", "a single frame")


@pytest.mark.parametrize("count", [0, 1, 3])
def test_it_takes_two_files(model, clips, count):
    with pytest.raises(
        ValueError, match=f"compare= takes two video files, got {count}; write com.*with commas"
    ):
        compare_files(model, [clips[0]] * count)


def test_one_name_is_one_file_and_not_its_letters(model, clips):
    for name in (clips[0], "ab"):
        with pytest.raises(ValueError, match="two video files, got 1"):
            compare_files(model, name)


def test_a_file_that_cannot_be_read_is_named(model, clips, tmp_path):
    (tmp_path / "words.mp4").write_text("no video")
    for name in ("gone.mp4", "words.mp4"):
        with pytest.raises(ValueError, match=rf"compare=.*{name} cannot be read: .*; give a video"):
            compare_files(model, [clips[0], tmp_path / name])


def test_scores_without_a_unit_are_not_compared(changed, clips):
    sentence = r"has no calibrated scores \(task 'mos', regression\); give the student of a run"
    with pytest.raises(ValueError, match=sentence):
        compare_files(changed(lambda metadata: metadata.pop("score_calibration")), clips)


def test_a_model_of_another_task_has_no_scores(changed, clips):
    task = TaskSpec("bad", "binary", ("good", "bad")).to_dict()
    with pytest.raises(ValueError, match=r"has no calibrated scores \(task 'bad', binary\)"):
        compare_files(changed(lambda metadata: metadata.update(task=task)), clips)


def test_a_folder_that_does_not_say_what_it_answers_is_refused(changed, clips, tmp_path):
    with pytest.raises(ValueError, match="does not say how it reads a clip"):
        compare_files(changed(lambda metadata: metadata.clear()), clips)
    with pytest.raises(ValueError, match="holds no model"):
        compare_files(tmp_path / "nowhere", clips)


def test_a_model_of_pairs_has_words_of_its_own(tmp_path, clips):
    (tmp_path / "config.json").write_text('{"class": "MatchLite", "config": {}}')
    with pytest.raises(ValueError, match=r"judges pairs; give query= and candidate= in place of "):
        compare_files(tmp_path, clips[:2])
