"""The teacher of single clips: outputs, saving, checkpoints of others."""

import pytest
import torch
from small_mllm import (
    LetterTokenizer,
    random_clips,
    shake,
    small_audio,
    small_backbone,
    small_mllm,
)

from coefvq.modules.mllm.backbone import open_backbone
from coefvq.modules.mllm.config import LoraSettings
from coefvq.modules.pretrained import load_metadata
from coefvq.teachers.mllm import ClipMLLM
from coefvq.types import TeacherOutput


def make(mode="saliency", *, seed=0, num_outputs=1, layout=None, tokenizer=None, **changes):
    torch.manual_seed(seed)
    more = {} if layout is None else {"layout": layout}
    config = small_mllm(mode, **changes)
    return ClipMLLM(config, num_outputs, tokenizer=tokenizer, **more).eval()


def test_it_answers_with_logits_and_features():
    output = make(num_outputs=4)(random_clips(3))
    assert isinstance(output, TeacherOutput)
    assert output.logits.shape == (3, 4)
    assert output.features.shape == (3, 10)
    assert output.sub_logits is None
    assert make()(random_clips(3)).logits.shape == (3,)


def test_only_the_public_part_is_read():
    teacher, batch = make(), random_clips(3)
    assert torch.equal(teacher(batch).logits, teacher(batch.public()).logits)


@pytest.mark.parametrize("mode", ["saliency", "token", "late", "mid", None])
def test_a_saved_teacher_comes_back(tmp_path, mode):
    teacher, batch = make(mode), random_clips(3)
    shake(teacher)
    teacher.save_pretrained(tmp_path / "a", metadata={"note": 1})
    assert load_metadata(tmp_path / "a") == {"note": 1}
    again = ClipMLLM.from_pretrained(tmp_path / "a")
    assert not again.training
    assert again.config == teacher.config
    assert torch.equal(again(batch).logits, teacher(batch).logits)
    other = make(mode, seed=9)
    other.load_pretrained(tmp_path / "a")
    assert torch.equal(other(batch).logits, teacher(batch).logits)


def test_words_are_saved_as_ids(tmp_path):
    tokenizer = LetterTokenizer("yes", "no")
    teacher = make(layout="ab {video} {audio} c", tokenizer=tokenizer, read_out="yes_no")
    teacher.save_pretrained(tmp_path)
    again = ClipMLLM.from_pretrained(tmp_path)  # without the tokenizer
    batch = random_clips(3)
    assert torch.equal(again(batch).logits, teacher(batch).logits)


def test_weights_in_bfloat16_come_back_to_the_bit(tmp_path):
    teacher, batch = make(backbone=small_backbone(dtype="bfloat16")), random_clips(3)
    shake(teacher)
    teacher.save_pretrained(tmp_path)
    again = ClipMLLM.from_pretrained(tmp_path)
    assert torch.equal(again(batch).logits, teacher(batch).logits)


def test_a_merged_teacher_says_the_same_and_can_be_saved(tmp_path):
    teacher, batch = make(), random_clips(3)
    shake(teacher)
    want = teacher(batch).logits
    teacher.merge_lora()
    merged = teacher(batch).logits
    torch.testing.assert_close(merged, want, atol=1e-4, rtol=1e-4)
    teacher.save_pretrained(tmp_path)
    assert not (tmp_path / "adapter_model.safetensors").exists()
    again = ClipMLLM.from_pretrained(tmp_path)
    assert again.mllm.config.lora is None
    assert torch.equal(again(batch).logits, merged)


def test_replacing_a_model_leaves_nothing_of_it(tmp_path):
    make().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="already holds a model"):
        make().save_pretrained(tmp_path)
    bare = make(None, lora=None)
    bare.save_pretrained(tmp_path, overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {
        "backbone",
        "config.json",
        "model.safetensors",
    }
    batch = random_clips(2)
    assert torch.equal(ClipMLLM.from_pretrained(tmp_path)(batch).logits, bare(batch).logits)


def test_it_starts_from_folders_that_transformers_wrote(tmp_path):
    torch.manual_seed(3)
    backbone = open_backbone(small_backbone())
    backbone.model.save_pretrained(tmp_path)
    teacher = make(backbone=small_backbone(model_name_or_path=str(tmp_path)))
    rows = teacher.mllm.backbone.model.get_input_embeddings().weight
    assert torch.equal(rows, backbone.model.get_input_embeddings().weight)
    # Opened by name or made by shape: the same architecture, so weights may go across.
    assert teacher.config == make().config


def test_the_backbone_folder_is_transformers_own(tmp_path):
    from transformers import LlavaOnevisionForConditionalGeneration

    teacher = make()
    shake(teacher)
    teacher.save_pretrained(tmp_path)
    model = LlavaOnevisionForConditionalGeneration.from_pretrained(tmp_path / "backbone")
    ours = teacher.mllm.backbone.model.get_input_embeddings().weight
    assert torch.equal(model.get_input_embeddings().weight, ours)


@pytest.mark.parametrize("name", ["backbone", "adapter_model.safetensors", "model.safetensors"])
def test_a_folder_with_something_missing_says_so(tmp_path, name):
    import shutil

    make().save_pretrained(tmp_path)
    path = tmp_path / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ValueError, match="save the model again"):
        ClipMLLM.from_pretrained(tmp_path)


def test_another_architecture_is_named(tmp_path):
    make().save_pretrained(tmp_path)
    other = make(lora=LoraSettings(rank=3), audio=small_audio(mode="late"))
    with pytest.raises(ValueError, match=r"mllm\.audio\.mode='saliency' \(expected 'late'\)"):
        other.load_pretrained(tmp_path)


def test_a_layout_for_pairs_is_refused():
    with pytest.raises(ValueError, match="has 2 clips, a teacher of single clips takes one"):
        make(layout="{video_1} {audio_1} {video_2}")
