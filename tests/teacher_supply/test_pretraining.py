import pytest
import torch
from omegaconf import open_dict
from safetensors.torch import load_file

from coefvq import engine
from coefvq.prepare import prepared_data
from coefvq.teacher_supply import pretraining
from coefvq.teacher_supply.pretraining import WEIGHTS, pretrain
from coefvq.teacher_supply.training import _own_words, get_teacher, teacher_settings

BACKBONE = "teacher.model.mllm.backbone."


@pytest.fixture
def prepared(small, small_pairs, tmp_path):
    def prepare(*words):
        narrow = (
            f"{BACKBONE}width=32",
            f"{BACKBONE}feedforward=64",
            "teacher.model.frame_budget=4",
        )
        cfg = small("+recipe=matchlm", *small_pairs, *narrow, *words, folder=tmp_path / "run")
        return cfg, prepared_data(cfg)

    return prepare


def fresh(cfg, data):
    engine.seed_everything(cfg.seed)
    return engine.build(cfg.teacher.model, **_own_words(cfg, data))


def weights(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(one, two):
    return {name for name in one if not torch.equal(one[name], two[name])}


def test_what_is_trainable_learns_and_frozen_towers_do_not(prepared, tmp_path):
    cfg, data = prepared()
    module = fresh(cfg, data)
    before = weights(module)
    pretrain(cfg, data, module, tmp_path)
    names = changed(before, weights(module))
    assert any("language_model" in name for name in names)
    assert any("multi_modal_projector" in name for name in names)
    assert not any("vision_tower" in name or "audio.tower" in name for name in names)
    assert not (tmp_path / "pretraining").exists()


def test_what_was_learnt_is_found_again(prepared, tmp_path, monkeypatch):
    cfg, data = prepared()
    module = fresh(cfg, data)
    pretrain(cfg, data, module, tmp_path)
    kept = load_file(tmp_path / WEIGHTS)
    assert kept and not changed(kept, weights(module))
    monkeypatch.setattr(engine, "fit", None)  # nothing is trained
    again = fresh(cfg, data)
    pretrain(cfg, data, again, tmp_path)
    assert not changed(weights(module), weights(again))


def test_null_is_none(prepared, tmp_path):
    cfg, data = prepared("teacher.pretraining=null")
    module = fresh(cfg, data)
    before = weights(module)
    pretrain(cfg, data, module, tmp_path)
    assert not changed(before, weights(module)) and not list(tmp_path.glob(WEIGHTS))


def test_no_label_is_read(prepared, tmp_path):
    """Other labels, the same weights."""
    cfg, data = prepared()
    one, two = fresh(cfg, data), fresh(cfg, data)
    pretrain(cfg, data, one, tmp_path / "one")
    for dataset in data._datasets.values():
        dataset.labels = 1 - dataset.labels
        dataset.label_mask = torch.zeros_like(dataset.label_mask)
    pretrain(cfg, data, two, tmp_path / "two")
    assert not changed(weights(one), weights(two))


def test_single_clips_are_refused(small, tmp_path):
    cfg = small("+recipe=cpfd", folder=tmp_path / "run")
    with open_dict(cfg):
        cfg.teacher.pretraining = {"max_steps": 2, "lr": 1e-3, "clips": 4}
    data = prepared_data(cfg)
    with pytest.raises(ValueError, match=r"teacher.pretraining=null for single clips"):
        teacher_settings(cfg, data)


def test_a_killed_pretraining_goes_on(prepared, tmp_path, monkeypatch):
    words = ("teacher.pretraining.max_steps=6", "teacher.pretraining.clips=12")
    cfg, data = prepared(*words)
    whole = fresh(cfg, data)
    pretrain(cfg, data, whole, tmp_path / "whole")

    stopped = fresh(cfg, data)
    forward, calls = type(stopped).forward, []

    def dies(self, batch):
        calls.append(None)
        if len(calls) > 5:
            raise KeyboardInterrupt
        return forward(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(type(stopped), "forward", dies)
        with pytest.raises(KeyboardInterrupt):
            pretrain(cfg, data, stopped, tmp_path / "killed")
    assert (tmp_path / "killed" / "pretraining" / "checkpoints" / "last.ckpt").exists()

    second, calls[:] = fresh(cfg, data), []
    with monkeypatch.context() as patch:
        patch.setattr(type(second), "forward",
                      lambda self, batch: calls.append(None) or forward(self, batch))  # fmt: skip
        pretrain(cfg, data, second, tmp_path / "killed")
    assert len(calls) < 6
    assert not changed(weights(whole), weights(second))


def test_a_teacher_is_known_by_its_pretraining(prepared):
    cfg, data = prepared("seed=41")
    first = get_teacher(cfg, data)
    assert get_teacher(cfg, data).reused
    assert not (first.folder.parent / pretraining.WEIGHTS).exists()
    other, _ = prepared("seed=41", "teacher.pretraining.max_steps=3")
    none, _ = prepared("seed=41", "teacher.pretraining=null")
    settings = [teacher_settings(c, data) for c in (cfg, other, none)]
    assert settings[0] != settings[1] and "pretraining" not in settings[2]["teacher"]
