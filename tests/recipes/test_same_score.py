"""The study of repeated scores: on two clips, and a student that is not quite itself in bf16."""

import av
import numpy as np
import pytest
import torch
from scripts import load_script

from coefvq.evaluation.score_calibration import calibrate_scores
from coefvq.modules.fragments import FragmentConfig
from coefvq.modules.vision import ConvEncoderConfig
from coefvq.students.blind_quality import BlindQuality
from coefvq.types import InputSpec


@pytest.fixture(scope="module")
def script():
    module = load_script("studies/same_score.py")
    module.RUNS = 2
    return module


@pytest.fixture
def made(tmp_path):
    torch.manual_seed(0)
    vision = ConvEncoderConfig(widths=(8, 16), width=16)
    student = BlindQuality(vision, FragmentConfig(patch=4), width=8, label_range=(1, 5)).eval()
    labels = np.linspace(1, 5, 30)
    inputs = InputSpec(num_frames=2, frame_size=28, fit="fragments", audio=False, text_fields=())
    student.save_pretrained(
        tmp_path / "student",
        metadata={
            "inputs": inputs.to_dict(),
            "score_calibration": calibrate_scores(labels, labels, (1.0, 5.0)).to_dict(),
        },
    )
    (tmp_path / "clips").mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        with av.open(str(tmp_path / f"clips/{number}.mp4"), "w") as out:
            stream = out.add_stream("mpeg4", rate=12)
            stream.width = stream.height = 64
            stream.pix_fmt = "yuv420p"
            for _ in range(4):
                noise = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
                out.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
            out.mux(stream.encode(None))
    return tmp_path


def test_runs_are_equal_batches_nearly_and_bf16_is_not(script, made, capsys):
    found = script.main([f"model={made / 'student'}", f"clips={made / 'clips'}"])
    assert found["2 runs"]["most"] == 0.0
    assert found["batches of 1, 8, all"]["most"] < 1e-3
    for half in ("weights in bf16", "autocast to bf16"):
        assert 0.0 < found[half]["most"] < 5
    assert "autocast to bf16" in capsys.readouterr().out


def test_what_is_missing_is_a_sentence(script):
    with pytest.raises(SystemExit, match="give model=<folder of a quality student> and clips="):
        script.main(["model=x"])
