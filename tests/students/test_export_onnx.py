import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_matchlite import published_encoders, small_encoders, small_matchlite
from small_models import random_batch

from coefvq.data.reader import ClipReader, collate
from coefvq.students.export_onnx import PREPARED, _without_torchvision, export_onnx
from coefvq.types import Clip, InputSpec

CLIPS = Path(__file__).resolve().parents[3] / "shared" / "data" / "clips"


def run(session, inputs):
    return dict(
        zip((o.name for o in session.get_outputs()), session.run(None, inputs), strict=True)
    )


def check(model, clip, pair, one, other):
    """Both graphs, one behind the other, say what the model says."""
    with torch.no_grad():
        query, candidate = model.encode(one), model.encode(other)
        expected = model.score(query, candidate)
    wanted = [i.name for i in clip.get_inputs()]
    sides = {}
    for side, features in (("query", query), ("candidate", candidate)):
        prepared = run(clip, {name: getattr(features, name).numpy() for name in wanted})
        assert set(prepared) == set(PREPARED)
        sides |= {f"{side}_{name}": value for name, value in prepared.items()}
    answers = run(pair, sides)
    for name in ("logits", "features", "sub_logits"):
        value = getattr(expected, name)
        assert (value is None) == (name not in answers)
        if value is not None:
            np.testing.assert_allclose(answers[name], value.numpy(), atol=1e-4, rtol=1e-4)
            assert answers[name].shape == value.shape


@pytest.mark.parametrize(
    ("encoders", "changes", "sub_labels"),
    [
        (small_encoders(), {"symmetric": True}, 3),
        pytest.param(published_encoders(), {"modalities": "V+A"}, 0, marks=pytest.mark.slow),
    ],
)
def test_parity_with_torch(tmp_path, encoders, changes, sub_labels):
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    model = small_matchlite(sub_labels, encoders=encoders, **changes).eval()
    files = export_onnx(model, tmp_path / "onnx")
    assert sorted(f.name for f in (tmp_path / "onnx").iterdir()) == ["clip.onnx", "pair.onnx"]
    clip, pair = (runtime.InferenceSession(f, providers=["CPUExecutionProvider"]) for f in files)
    # Another number of clips than exported with; the first has no text, the last no sound.
    for clips in (1, 5):
        check(model, clip, pair, random_batch(clips), random_batch(clips, frames=4))


@pytest.mark.slow
def test_parity_on_real_clips(tmp_path):
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    files = sorted(p for p in CLIPS.glob("*") if p.suffix in (".mp4", ".webm"))[:6]
    if not files:
        pytest.skip("the folder ../shared/data/clips with real clips is not there")
    model = small_matchlite(modalities="V+A").eval()
    reader = ClipReader(InputSpec(num_frames=4, frame_size=40, text_fields=(), mel_bins=8))
    clips = [reader.read(Clip(id=p.name, path=p)) for p in files]
    clip, pair = (
        runtime.InferenceSession(f, providers=["CPUExecutionProvider"])
        for f in export_onnx(model, tmp_path / "onnx")
    )
    check(model, clip, pair, collate(clips), collate(clips[1:] + clips[:1]))


def test_wrong_uses_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"call model\.eval\(\) before the export"):
        export_onnx(small_matchlite().train(), tmp_path)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ValueError, match=r"pip install 'coefvq\[onnx\]'"):
        export_onnx(small_matchlite().eval(), tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_the_exporter_is_silent_about_torchvision_alone(caplog):
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    with caplog.at_level(logging.WARNING):
        with _without_torchvision():
            logger.warning("torchvision is not installed. Skipping %s", "torchvision::nms")
            logger.warning("something else")
        logger.warning("torchvision is not installed. Skipping %s", "torchvision::nms")
    said = [record.getMessage() for record in caplog.records if record.name == logger.name]
    assert said == ["something else", "torchvision is not installed. Skipping torchvision::nms"]
