"""A folder per model: what lies where, what is ours, and what is said of a broken one."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_mllm import random_clips, shake, small_backbone, small_mllm
from torch import nn
from transformers import LlavaOnevisionForConditionalGeneration
from transformers.utils import logging

from coefvq.modules.mllm import folder as module
from coefvq.modules.mllm.config import MLLMConfig
from coefvq.modules.mllm.folder import FOLDERS, MLLMFolder
from coefvq.modules.mllm.model import MLLM


class Box(MLLMFolder, nn.Module):
    """The least that has an `mllm`."""

    def __init__(self, config):
        super().__init__()
        self.mllm = MLLM(config, layout="{text} {video} {audio}")

    @property
    def config(self):
        return {"mllm": self.mllm.config.to_dict()}

    @classmethod
    def from_config(cls, values):
        return cls(MLLMConfig.from_dict(values["mllm"]))


def make(mode="saliency", *, seed=0, **changes):
    torch.manual_seed(seed)
    box = Box(small_mllm(mode, **changes)).eval()
    shake(box)
    return box


def same(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    return [name for name, value in ours.items() if not torch.equal(value, theirs[name])] == []


@pytest.fixture(scope="module")
def box():
    return make()


@pytest.fixture(scope="module")
def saved(box, tmp_path_factory):
    return box.save_pretrained(tmp_path_factory.mktemp("box") / "model", metadata={"note": 1})


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def test_every_weight_comes_back(box, saved):
    again = Box.from_pretrained(saved)
    assert same(again, box) and not again.training and again.config == box.config
    other = make(seed=3)
    assert not same(other, box)
    other.load_pretrained(saved)
    assert same(other, box)


def test_each_part_lies_where_its_library_looks_for_it(box, saved):
    assert {path.name for path in saved.iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "audio", "backbone", "config.json",
        "model.safetensors",
    }  # fmt: skip
    model = LlavaOnevisionForConditionalGeneration.from_pretrained(saved / "backbone")
    ours = box.mllm.backbone.model.get_input_embeddings().weight
    assert torch.equal(model.get_input_embeddings().weight, ours)
    assert not any("lora_" in name or "base_layer" in name for name in model.state_dict())


def test_heads_and_projectors_are_ours_and_nothing_else(box, saved):
    kept = load_file(saved / "model.safetensors")
    (projector,) = {name.split(".")[4] for name in kept if name.startswith("mllm.backbone.")}
    assert projector == "multi_modal_projector"
    towers = ("mllm.audio.tower.encoder.", "mllm.backbone.model.model.language_model")
    assert not any(name.startswith(towers) or "lora_" in name for name in kept)
    assert any(name.startswith("mllm.read_out.") for name in kept)
    state = box.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in kept.items())


def test_weights_in_bfloat16_come_back_to_the_bit(tmp_path):
    box, clips = make(backbone=small_backbone(dtype="bfloat16")), random_clips(3)
    again = Box.from_pretrained(box.save_pretrained(tmp_path / "half"))
    assert again.mllm.backbone.tower.dtype == torch.bfloat16
    assert torch.equal(again.mllm([clips]).logits, box.mllm([clips]).logits)


def test_replacing_a_model_leaves_nothing_of_it(copy, saved):
    bare = make(None, lora=None)
    with pytest.raises(ValueError, match="already holds a model; choose another or pass overwrite"):
        bare.save_pretrained(copy)
    assert same(Box.from_pretrained(copy), Box.from_pretrained(saved))
    for name in FOLDERS:
        (copy / name).mkdir(exist_ok=True)
    bare.save_pretrained(copy, overwrite=True)
    assert {path.name for path in copy.iterdir()} == {
        "backbone",
        "config.json",
        "model.safetensors",
    }
    assert same(Box.from_pretrained(copy), bare)


def test_a_model_that_is_half_written_is_none(box, copy, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save_adapter", full)
    with pytest.raises(OSError, match="No space left"):
        box.save_pretrained(copy, overwrite=True)
    assert not (copy / "config.json").exists()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("backbone", r"folder .*backbone is missing; save the model again"),
        ("audio", r"folder .*audio is missing; save the model again"),
        ("adapter_model.safetensors", "save the model again"),
        ("model.safetensors", r"has no model\.safetensors; save the model again"),
        ("backbone/model.safetensors", r"backbone cannot be read: .*; save the model again"),
    ],
)
def test_what_is_missing_is_named(copy, name, sentence):
    path = copy / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ValueError, match=sentence):
        Box.from_pretrained(copy)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("model.safetensors", r"model\.safetensors is damaged: .*; save the model again"),
        ("audio/model.safetensors", r"audio cannot be read: .*; save the model again"),
    ],
)
def test_what_is_cut_off_is_damaged(copy, name, sentence):
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=sentence):
        Box.from_pretrained(copy)


def test_weights_of_another_shape_or_name_are_refused(copy):
    path = copy / "model.safetensors"
    given = load_file(path)
    first, second = sorted(given)[:2]
    changes = [{first: given[first][None]}, {"another": torch.zeros(1)}]
    for change in changes:
        save_file(given | change, path)
        with pytest.raises(ValueError, match=r"its config\.json: 1 weights differ .*, first "):
            Box.from_pretrained(copy)
    del given[first], given[second]
    save_file(given, path)
    with pytest.raises(ValueError, match=f": 2 weights differ in name or shape, first {first}"):
        Box.from_pretrained(copy)


def test_progress_bars_of_others_are_left_as_they_were(box, tmp_path):
    shown = logging.is_progress_bar_enabled()
    try:
        for number, (set_to, expected) in enumerate(
            ((logging.enable_progress_bar, True), (logging.disable_progress_bar, False))
        ):
            set_to()
            box.save_pretrained(tmp_path / str(number))
            assert logging.is_progress_bar_enabled() is expected
    finally:
        (logging.enable_progress_bar if shown else logging.disable_progress_bar)()


def test_metadata_are_kept_beside_the_model(saved):
    assert json.loads((saved / "config.json").read_text())["metadata"] == {"note": 1}
