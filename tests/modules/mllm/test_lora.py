"""Adapters: only in the language model, in peft's format, mergeable."""

import logging
import re

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from small_mllm import shake, small_backbone

from coefvq.modules.mllm.backbone import Piece, open_backbone
from coefvq.modules.mllm.config import LoraSettings, MLLMConfig
from coefvq.modules.mllm.lora import (
    ADAPTER,
    add_lora,
    base_state,
    load_adapter,
    note_full_training,
    save_adapter,
    target_pattern,
)


def adapted(rank=2):
    torch.manual_seed(0)
    backbone = open_backbone(small_backbone()).eval()
    wrapper = add_lora(backbone.model, LoraSettings(rank=rank, dropout=0.0), backbone.language_path)
    return backbone, wrapper


def hidden(backbone):
    tokens = torch.randn(5, 16, generator=torch.Generator().manual_seed(3))
    return backbone([[Piece(tokens)]])[0]


def test_only_the_language_model_is_adapted():
    backbone, _ = adapted()
    names = [name for name, p in backbone.named_parameters() if p.requires_grad]
    assert names
    assert all(".language_model.layers." in name and ".lora_" in name for name in names)
    # Two layers of seven linear maps, two matrices each; the vision tower has a q_proj too.
    assert len(names) == 2 * 7 * 2
    assert any("vision_tower" in n and "q_proj" in n for n, _ in backbone.named_parameters())


def test_adapters_start_as_nothing_and_base_names_come_back():
    torch.manual_seed(0)
    plain = open_backbone(small_backbone()).eval()
    backbone, _ = adapted()
    assert torch.equal(hidden(plain), hidden(backbone))
    ours, theirs = base_state(backbone.model), plain.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_plain_peft_reads_what_is_saved(tmp_path):
    backbone, wrapper = adapted()
    shake(backbone)
    save_adapter(wrapper, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "adapter_model.safetensors",
        "adapter_config.json",
    }
    torch.manual_seed(0)
    fresh = open_backbone(small_backbone()).eval()
    with pytest.warns(FutureWarning, match="is_gradient_checkpointing"):
        PeftModel.from_pretrained(fresh.model, str(tmp_path))
    assert torch.equal(hidden(fresh), hidden(backbone))
    other, into = adapted()
    load_adapter(into, tmp_path)
    assert torch.equal(hidden(other), hidden(backbone))


def test_merging_gives_the_same_states():
    backbone, wrapper = adapted()
    before = hidden(backbone)
    shake(backbone)
    want = hidden(backbone)
    assert not torch.allclose(before, want, atol=1e-2)
    wrapper.merge_and_unload()
    torch.testing.assert_close(hidden(backbone), want, atol=1e-5, rtol=1e-5)
    assert not any("lora" in name for name, _ in backbone.named_parameters())


def test_adapters_that_do_not_fit_are_refused(tmp_path):
    _, wrapper = adapted()
    with pytest.raises(ValueError, match="has no adapter_model"):
        load_adapter(wrapper, tmp_path)
    save_adapter(adapted(rank=3)[1], tmp_path)
    with pytest.raises(ValueError, match="does not fit the model"):
        load_adapter(wrapper, tmp_path)
    save_adapter(wrapper, tmp_path)
    tensors = load_file(tmp_path / ADAPTER)
    tensors.pop(next(iter(tensors)))
    save_file(tensors, tmp_path / ADAPTER)
    with pytest.raises(ValueError, match="is on one side only"):
        load_adapter(wrapper, tmp_path)


def test_targets_that_match_nothing_are_refused():
    backbone = open_backbone(small_backbone())
    with pytest.raises(ValueError, match=r"no layer below model\.language_model is named query"):
        add_lora(backbone.model, LoraSettings(targets=("query",)), backbone.language_path)


def test_the_pattern_stops_at_the_language_model():
    pattern = target_pattern("model.language_model", LoraSettings())
    assert re.fullmatch(pattern, "model.language_model.layers.3.self_attn.q_proj")
    assert not re.fullmatch(pattern, "model.vision_tower.encoder.layers.3.self_attn.q_proj")
    assert not re.fullmatch(pattern, "model.visual.blocks.0.mlp.gate_proj")


def test_full_training_of_public_weights_is_said_once(caplog):
    public = small_backbone(model_name_or_path="hf/model")
    with caplog.at_level(logging.WARNING):
        note_full_training(MLLMConfig(small_backbone(), lora=None, train_language=True))
        note_full_training(MLLMConfig(public))
        assert not caplog.records
        note_full_training(MLLMConfig(public, lora=None, train_language=True))
    (record,) = caplog.records
    assert "hf/model is trained in full" in record.message and "lora={rank: 16}" in record.message
