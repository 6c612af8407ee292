import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from coefvq.modules.fragments import FragmentConfig
from coefvq.modules.vision import ConvEncoderConfig, SwinEncoderConfig
from coefvq.students.blind_quality import BlindQuality
from coefvq.students.export_blind_onnx import export_blind_onnx

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "clips"
SIDE = 126
CONV = ConvEncoderConfig(widths=(8, 16), width=16, residual_scales=2)
SWIN = SwinEncoderConfig(embed_dim=8, depths=(1, 2), num_heads=(1, 2), window_size=7)


def session_of(model, folder):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    file = export_blind_onnx(model, folder, SIDE)
    return runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])


def made(vision):
    torch.manual_seed(0)
    return BlindQuality(vision, FragmentConfig(patch=16), width=16, label_range=(1, 5)).eval()


def ask(session, frames, mask):
    return session.run(None, {"frames": frames.numpy(), "frame_mask": mask.numpy()})[0]


def test_any_number_of_clips_and_frames(tmp_path):
    model = made(CONV)
    session = session_of(model, tmp_path)
    for clips, count in ((1, 2), (3, 4), (2, 7), (1, 1), (4, 1)):
        frames = torch.randint(0, 256, (clips, count, 3, SIDE, SIDE), dtype=torch.uint8)
        mask = torch.ones(clips, count, dtype=torch.bool)
        mask[0, 1:][-1:] = False
        with torch.no_grad():
            expected = model.score(model.frames(frames), mask)[0].numpy()
        assert np.abs(ask(session, frames, mask) - expected).max() < 1e-4


def test_a_swin_scores_one_clip_of_any_number_of_frames_at_a_time(tmp_path):
    model = made(SWIN)
    session = session_of(model, tmp_path)
    assert session.get_inputs()[0].shape[0] == 1
    for count in (1, 2, 5):
        frames = torch.randint(0, 256, (1, count, 3, SIDE, SIDE), dtype=torch.uint8)
        mask = torch.ones(1, count, dtype=torch.bool)
        with torch.no_grad():
            expected = model.score(model.frames(frames), mask)[0].numpy()
        assert np.abs(ask(session, frames, mask) - expected).max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("vision", [CONV, SWIN], ids=["conv", "swin"])
def test_parity_on_real_clips(vision, tmp_path):
    """Scores within a thousandth of the range, and in the same order."""
    from coefvq.data.reader import ClipReader, collate
    from coefvq.types import Clip, InputSpec

    if not REAL.is_dir():
        pytest.skip("the folder ../shared/data/clips with real clips is not there")
    model = made(vision)
    session = session_of(model, tmp_path)
    inputs = InputSpec(
        num_frames=6, sampling="per_second", frame_size=SIDE, fit="fragments", audio=False,
        text_fields=(),
    )  # fmt: skip
    reader = ClipReader(inputs)
    theirs, ours = [], []
    files = sorted(p for p in REAL.iterdir() if p.suffix in (".mp4", ".mkv", ".webm"))
    for path in files[:12]:
        batch = collate([reader.read(Clip(path.name, path))])
        with torch.no_grad():
            ours.append(model(batch).logits.item())
        theirs.append(ask(session, batch.frames, batch.frame_mask).item())
    assert len(ours) == 12 and np.ptp(ours) > 0
    assert np.abs(np.array(ours) - theirs).max() < 1e-3 * 4
    assert np.argsort(ours).tolist() == np.argsort(theirs).tolist()


def test_mistakes_are_a_sentence(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"call model\.eval\(\) before"):
        export_blind_onnx(made(CONV).train(), tmp_path, SIDE)
    with pytest.raises(ValueError, match="smaller than the model's 16"):
        export_blind_onnx(made(CONV), tmp_path, 98)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ValueError, match=r"pip install 'coefvq\[onnx\]'"):
        export_blind_onnx(made(CONV), tmp_path, SIDE)
