import dataclasses
import logging
import pickle
import re

import pytest
import torch
from safetensors.torch import save_file
from small_models import small_swin, small_trunk
from transformers import BertConfig, BertModel

from coefvq.modules.checkpoints import (
    BERT_LAYER,
    Pretrained,
    load_bert,
    load_swin,
    load_xvlm,
    swin_from_original,
)
from coefvq.modules.xvlm import XVLM

CONFIG = small_trunk(vision=small_swin(), sound=None, pool="text")


def fresh(seed, **changes):
    """A trunk in which no weight is at its initial 0 or 1, so that equality means something."""
    torch.manual_seed(seed)
    trunk = XVLM(dataclasses.replace(CONFIG, **changes)).eval()
    for parameter in trunk.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return trunk


def answer(trunk):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(2, 3, 3, 32, 32, generator=generator)
    ids = torch.randint(5, 40, (2, 6), generator=generator)
    return trunk(pixels, torch.ones(2, 3, dtype=torch.bool), ids)


def official(trunk):
    """The names that the authors' code would give these weights, written out from its modules."""
    ours = {theirs: part for part, theirs in BERT_LAYER.items()}
    given, qkv = {}, {}
    for name, value in trunk.state_dict().items():
        value = value.clone()
        if name.startswith("text.bert."):
            given["text_encoder." + name.removeprefix("text.")] = value
        elif match := re.match(r"cross_modal\.layers\.(\d+)\.(.*)", name):
            layer = int(match[1]) + trunk.config.text_layers
            part = max((p for p in ours if match[2].startswith(p)), key=len)
            rest = ours[part] + match[2].removeprefix(part)
            given[f"text_encoder.bert.encoder.layer.{layer}.{rest}"] = value
        elif name.startswith("vision.swin."):
            name = name.removeprefix("vision.swin.")
            name = name.replace("embeddings.patch_embeddings.projection", "patch_embed.proj")
            name = name.replace("embeddings.norm", "patch_embed.norm")
            name = name.replace("encoder.layers", "layers").replace("layernorm_before", "norm1")
            name = name.replace("layernorm_after", "norm2").replace("attention.o_proj", "attn.proj")
            name = name.replace("attention.relative_position_bias.", "attn.")
            name = re.sub(r"^layernorm\.", "norm.", name)
            if match := re.match(r"(.*)\.attention\.([qkv])_proj\.(.*)", name):
                qkv.setdefault(f"{match[1]}.attn.qkv.{match[3]}", {})[match[2]] = value
            else:
                given[f"vision_encoder.{name}"] = value
    for name, parts in qkv.items():
        given[f"vision_encoder.{name}"] = torch.cat([parts[letter] for letter in "qkv"])
    given["vision_encoder.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(16, 16)
    given["vision_encoder.layers.0.blocks.1.attn_mask"] = torch.zeros(4, 16, 16)
    given["text_encoder.bert.embeddings.position_ids"] = torch.arange(12)[None]
    given["text_encoder.cls.predictions.bias"] = torch.zeros(40)
    given["itm_head.0.weight"] = torch.zeros(32, 16)
    given["temp"] = torch.tensor(0.07)
    return given


@pytest.mark.parametrize("suffix", [".th", ".safetensors"])
def test_official_checkpoint(tmp_path, suffix):
    trunk, other, path = fresh(0), fresh(1), tmp_path / f"xvlm{suffix}"
    # Frame positions are X²-VLM's and not in an X-VLM file.
    for model in (trunk, other):
        torch.nn.init.zeros_(model.frame_position)
    given = official(trunk)
    if suffix == ".th":
        torch.save({"model": given, "epoch": 3}, path)
    else:
        save_file(given, path)
    report = load_xvlm(other, path)
    torch.testing.assert_close(answer(other), answer(trunk), rtol=0, atol=0)
    assert set(report.unused) == {"itm_head.0.weight", "temp", "text_encoder.cls.predictions.bias"}
    assert set(other.state_dict()) - set(report.loaded) == {"frame_position"}
    assert "not used: " in str(report)


def test_names_without_bert_as_fine_tuned_models_have_them(tmp_path):
    trunk, other = fresh(0), fresh(1)
    given = {
        k.replace("text_encoder.bert.", "text_encoder."): v for k, v in official(trunk).items()
    }
    torch.save(given, tmp_path / "xvlm.pth")
    load_xvlm(other, tmp_path / "xvlm.pth")
    torch.nn.init.zeros_(trunk.frame_position)
    torch.nn.init.zeros_(other.frame_position)
    torch.testing.assert_close(answer(other), answer(trunk), rtol=0, atol=0)


def test_original_swin_names():
    """One block's names as Microsoft's code has them."""
    names = ("norm1.weight", "attn.proj.bias", "norm2.bias", "mlp.fc1.weight")
    given = {f"layers.1.blocks.0.{name}": torch.zeros(1) for name in names}
    given["layers.0.downsample.reduction.weight"] = torch.zeros(1)
    given["layers.1.blocks.0.attn.qkv.bias"] = torch.arange(6)
    block = "encoder.layers.1.blocks.0"
    renamed = swin_from_original(given)
    assert renamed.keys() == {
        f"{block}.layernorm_before.weight",
        f"{block}.layernorm_after.bias",
        f"{block}.attention.o_proj.bias",
        f"{block}.attention.q_proj.bias",
        f"{block}.attention.k_proj.bias",
        f"{block}.attention.v_proj.bias",
        f"{block}.mlp.fc1.weight",
        "encoder.layers.0.downsample.reduction.weight",
    }
    assert renamed[f"{block}.attention.k_proj.bias"].tolist() == [2, 3]


def test_another_window_interpolates_the_position_tables(tmp_path):
    trunk = fresh(0)
    tables = {k: v for k, v in trunk.state_dict().items() if k.endswith("bias_table")}
    for table in tables.values():  # a plane survives interpolation: its corners must stay
        rows = torch.arange(7.0).repeat_interleave(7)
        table.copy_(rows[:, None].expand_as(table))
    save_file(official(trunk), tmp_path / "xvlm.safetensors")
    other = fresh(1, vision=small_swin(window_size=2))
    load_xvlm(other, tmp_path / "xvlm.safetensors")
    for name in tables:
        table = other.state_dict()[name]
        assert table.shape == (9, tables[name].shape[1])
        torch.testing.assert_close(table[:, 0], torch.tensor([0.0, 3, 6]).repeat_interleave(3))


def test_hugging_face_folders(tmp_path):
    torch.manual_seed(0)
    trunk, source = fresh(0), fresh(1)
    source.vision.swin.save_pretrained(tmp_path / "swin")
    config = BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=20,
    )
    bert = BertModel(config)
    bert.save_pretrained(tmp_path / "bert")
    cross = trunk.cross_modal.layers[0].cross_attention.query.weight.clone()
    reports = Pretrained(vision=str(tmp_path / "swin"), text=str(tmp_path / "bert")).load_into(
        trunk
    )

    pixels = torch.randn(2, 3, 32, 32)
    assert torch.equal(trunk.vision(pixels), source.vision(pixels))
    theirs, ours = bert.encoder.layer, trunk.cross_modal.layers
    assert torch.equal(trunk.text.bert.embeddings.word_embeddings.weight, bert.embeddings.word_embeddings.weight)  # noqa: E501  # fmt: skip
    for layer, number in ((0, 1), (1, 2)):
        name = "attention.self.value.weight"
        assert torch.equal(
            theirs[number].get_parameter(name), ours[layer].self_attention.value.weight
        )
        assert torch.equal(theirs[number].output.LayerNorm.bias, ours[layer].feedforward.norm.bias)
    assert torch.equal(trunk.text.bert.encoder.layer[0].intermediate.dense.weight, theirs[0].intermediate.dense.weight)  # noqa: E501  # fmt: skip
    assert torch.equal(ours[0].cross_attention.query.weight, cross)
    assert not reports[0].unused
    assert len(reports[1].unused) == 16, "the fourth layer has no place"


def test_what_stays_random_is_logged(tmp_path, caplog):
    fresh(1).vision.swin.save_pretrained(tmp_path)
    with caplog.at_level(logging.INFO, logger="coefvq"):
        Pretrained(vision=str(tmp_path)).load_into(fresh(0))
    assert "stay random" in caplog.text
    assert "cross_modal.layers.0.cross_attention.key.weight" in caplog.text
    assert "vision.swin" not in caplog.text.split("stay random")[1]


class TestSentences:
    def test_no_swin_to_load_into(self, tmp_path):
        with pytest.raises(ValueError, match="vision is a ConvEncoder; choose student=xvlm_base"):
            load_swin(XVLM(small_trunk()), str(tmp_path))

    def test_another_width(self, tmp_path):
        fresh(1, vision=small_swin(embed_dim=4)).vision.swin.save_pretrained(tmp_path)
        with pytest.raises(ValueError, match=r"does not fit: .* has shape .* the model's is"):
            load_swin(fresh(0), str(tmp_path))

    def test_too_few_layers(self, tmp_path):
        BertModel(BertConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2)).save_pretrained(tmp_path)  # noqa: E501  # fmt: skip
        with pytest.raises(ValueError, match=r"has 2 layers, the trunk needs 1 \+ 2"):
            load_bert(fresh(0), str(tmp_path))

    def test_nothing_is_copied_when_one_shape_is_wrong(self, tmp_path):
        trunk, given = fresh(0), official(fresh(1))
        given["text_encoder.bert.embeddings.word_embeddings.weight"] = torch.zeros(50, 16)
        torch.save(given, tmp_path / "xvlm.th")
        before = answer(trunk)
        with pytest.raises(ValueError, match=r"\(50, 16\), the model's is \(40, 16\).*tokenizer"):
            load_xvlm(trunk, tmp_path / "xvlm.th")
        assert torch.equal(answer(trunk), before)

    def test_not_an_official_checkpoint(self, tmp_path):
        torch.save({"state": torch.zeros(1)}, tmp_path / "x.th")
        with pytest.raises(ValueError, match=r"no keys vision_encoder\.\* and text_encoder\.\*"):
            load_xvlm(fresh(0), tmp_path / "x.th")
        with pytest.raises(ValueError, match="is not a file"):
            load_xvlm(fresh(0), tmp_path / "y.th")
        torch.save([1, 2], tmp_path / "z.th")
        with pytest.raises(ValueError, match="is not a table of tensors"):
            load_xvlm(fresh(0), tmp_path / "z.th")

    def test_damaged_files(self, tmp_path):
        for name in ("x.safetensors", "x.th"):
            (tmp_path / name).write_bytes(b"PK" + bytes(30))
            with pytest.raises(ValueError, match="damaged"):
                load_xvlm(fresh(0), tmp_path / name)

    def test_code_in_a_pickle_is_not_run(self, tmp_path):
        class Evil:
            def __reduce__(self):
                return (open, (str(tmp_path / "ran"), "w"))

        torch.save({"model": Evil()}, tmp_path / "evil.th")
        (tmp_path / "old.pth").write_bytes(pickle.dumps(Evil(), protocol=2))
        for name in ("evil.th", "old.pth"):
            with pytest.raises(ValueError, match="is not unpickled"):
                load_xvlm(fresh(0), tmp_path / name)
        assert not (tmp_path / "ran").exists()
