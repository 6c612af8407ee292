import pytest
import torch
from omegaconf import OmegaConf
from small_lmm_vqa import moving_clips, small_encoder, small_lmm_vqa

from coefvq import pipeline
from coefvq.clip_features import clip_features, use_clip_features
from coefvq.prepare import prepared_data
from coefvq.student_start import start_student
from coefvq.types import InputSpec

WORDS = ("student.config.encoders.frozen=true", "seed=5")


@pytest.fixture
def made(small, small_pairs, tmp_path):
    cfg = small("+recipe=matchlite", *small_pairs, *WORDS, folder=tmp_path / "run")
    data = prepared_data(cfg)
    return cfg, data, start_student(cfg, data, print).eval()


def test_each_clip_is_encoded_once_for_all_runs(made, home):
    cfg, data, student = made
    batch = next(iter(data.test_dataloader())).public()
    with torch.no_grad():
        before = student(batch).logits
    said = []
    use_clip_features(cfg, data, student, said.append)
    clips = len(data.clip_dataset().ids)
    assert said == [f"clips    features of {clips} clips, {clips} added"]
    calls = []
    student.encoder.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        torch.testing.assert_close(student(batch).logits, before)
    assert calls == []
    use_clip_features(cfg, data, student, said.append)
    assert said[1] == f"clips    features of {clips} clips, reused"


def test_trained_encoders_have_no_store(small, small_pairs, tmp_path):
    cfg = small("+recipe=matchlite", *small_pairs, "seed=5", folder=tmp_path / "other")
    data = prepared_data(cfg)
    student, said = start_student(cfg, data, print), []
    use_clip_features(cfg, data, student, said.append)
    assert said == [] and student._store is None


def test_a_run_with_frozen_encoders(small, small_pairs, tmp_path):
    words = ("+recipe=matchlite", *small_pairs, *WORDS)
    report = pipeline.run(small(*words, folder=tmp_path / "r"), show=False)
    known, whole = report["compute"]["student_known_clips"], report["compute"]["student"]
    assert known["gflop"] < whole["gflop"]


class _Data:
    inputs, public_fingerprint = InputSpec(), "data"


def test_a_teachers_frozen_encoders_read_each_clip_once(tmp_path):
    cfg, clips = OmegaConf.create({"cache_dir": str(tmp_path)}), moving_clips(3)
    teacher, calls = small_lmm_vqa(), []
    want = teacher(clips).logits
    teacher.encoder.register_forward_hook(lambda *_: calls.append(1))
    for _ in range(2):
        with clip_features(cfg, _Data, teacher):
            assert torch.equal(teacher(clips).logits, want)
    assert len(calls) == 1
    teacher(clips)  # the store is for as long as that lasts
    assert len(calls) == 2


@pytest.mark.parametrize("why", ["trained", "random frames", "no encoder"])
def test_features_that_change_are_not_kept(why, tmp_path):
    cfg, data = OmegaConf.create({"cache_dir": str(tmp_path)}), _Data()
    teacher = small_lmm_vqa()
    if why == "trained":
        teacher = small_lmm_vqa(encoder=small_encoder(train_spatial=True))
    elif why == "random frames":
        data.inputs = InputSpec(train_sampling="random_segments")
    else:
        teacher = torch.nn.Linear(1, 1)
    with clip_features(cfg, data, teacher):
        assert getattr(teacher, "_store", None) is None
    assert not any(tmp_path.iterdir())
