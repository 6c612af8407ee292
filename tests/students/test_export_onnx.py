import sys

import numpy as np
import pytest
import torch
from small_matchlite import published_encoders, small_encoders, small_matchlite
from small_models import random_batch

from coefvq.students.export_onnx import PREPARED, export_onnx


def run(session, inputs):
    return dict(
        zip((o.name for o in session.get_outputs()), session.run(None, inputs), strict=True)
    )


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
        query = model.encode(random_batch(clips))
        candidate = model.encode(random_batch(clips, frames=4))
        wanted = [i.name for i in clip.get_inputs()]
        sides = {}
        for side, features in (("query", query), ("candidate", candidate)):
            given = {name: getattr(features, name).detach().numpy() for name in wanted}
            prepared = run(clip, given)
            assert set(prepared) == set(PREPARED)
            sides |= {f"{side}_{name}": value for name, value in prepared.items()}
        answers = run(pair, sides)
        with torch.no_grad():
            expected = model.score(query, candidate)
        for name in ("logits", "features", "sub_logits"):
            value = getattr(expected, name)
            assert (value is None) == (name not in answers)
            if value is not None:
                np.testing.assert_allclose(answers[name], value.numpy(), atol=1e-4, rtol=1e-4)
                assert answers[name].shape == value.shape


def test_wrong_uses_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"call model\.eval\(\) before the export"):
        export_onnx(small_matchlite().train(), tmp_path)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ValueError, match=r"pip install 'coefvq\[onnx\]'"):
        export_onnx(small_matchlite().eval(), tmp_path / "never")
    assert not (tmp_path / "never").exists()
