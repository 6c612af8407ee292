"""Every family, tiny: frames of different numbers, LoRA backward, folders, batches."""

import pytest
import torch
from small_mllm import LetterTokenizer, random_clips, rows, shake, small_backbone, small_mllm

from coefvq.modules.mllm.backbone import open_backbone
from coefvq.modules.mllm.lora import trainable_parameters
from coefvq.teachers.mllm import ClipMLLM

FAMILIES = ("llava_onevision", "qwen2_5_vl", "qwen2_5_omni", "smolvlm")


def shape(family, **changes):
    return small_backbone(
        family=family, width=32, image_size=36 if "qwen" in family else 24, **changes
    )


def make(family, **changes):
    torch.manual_seed(0)
    config = small_mllm(backbone=shape(family), **changes)
    layout = "ab {text} {video} {audio} c"
    return ClipMLLM(config, layout=layout, tokenizer=LetterTokenizer("yes", "no")).eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_forward_and_backward_through_adapters(family):
    teacher = make(family, gradient_checkpointing=True).train()
    shake(teacher)
    teacher(random_clips(4)).logits.square().sum().backward()
    trained = trainable_parameters(teacher)
    adapters = [name for name in trained if "lora_" in name]
    assert len(adapters) == 2 * 7 * 2  # two layers of seven linear maps, two matrices each
    assert all(".layers." in name and "visual" not in name for name in adapters)
    assert all(trained[name].grad.abs().sum() > 0 for name in adapters)
    towers = [teacher.mllm.backbone.tower, teacher.mllm.backbone.audio_tower]
    assert not any(p.requires_grad for t in towers if t is not None for p in t.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_answers_the_same_in_any_batch(family):
    teacher, batch = make(family), random_clips(4)
    shake(teacher)
    together = teacher(batch).logits
    assert together.std() > 0
    for row in range(4):
        alone = teacher(rows(batch, row, row + 1)).logits
        torch.testing.assert_close(alone, together[row : row + 1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_folders_and_merging(family, tmp_path):
    teacher, batch = make(family), random_clips(3)
    shake(teacher)
    teacher.save_pretrained(tmp_path)
    again = ClipMLLM.from_pretrained(tmp_path)
    assert again.config == teacher.config
    want = teacher(batch).logits
    assert torch.equal(again(batch).logits, want)
    again.merge_lora()
    torch.testing.assert_close(again(batch).logits, want, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_says_its_own_family(family, tmp_path):
    torch.manual_seed(0)
    made = open_backbone(shape(family))
    made.model.save_pretrained(tmp_path)
    opened = open_backbone(
        small_backbone(model_name_or_path=str(tmp_path), image_size=made.frame_size)
    )
    assert type(opened) is type(made)
    assert opened.plain_config() == made.plain_config()
    pixels = torch.randn(3, 3, made.frame_size, made.frame_size)
    pairs = zip(
        made.eval().encode_frames(pixels, [2, 1]),
        opened.eval().encode_frames(pixels, [2, 1]),
        strict=True,
    )
    assert all(torch.equal(a.tokens, b.tokens) for a, b in pairs)


@pytest.mark.parametrize("family", FAMILIES)
def test_answer_words_and_bfloat16(family):
    torch.manual_seed(0)
    teacher = make(family, read_out="yes_no")
    logits = teacher(random_clips(3)).logits
    assert torch.isfinite(logits).all()
    torch.manual_seed(0)
    config = small_mllm(backbone=shape(family, dtype="bfloat16"))
    half = ClipMLLM(config).train()
    output = half(random_clips(3))
    assert output.logits.dtype == torch.float32
    output.logits.sum().backward()
    assert {p.dtype for p in trainable_parameters(half).values()} == {torch.float32}


@pytest.mark.parametrize("family", FAMILIES)
def test_no_frames_no_tokens(family):
    backbone = open_backbone(shape(family)).eval()
    size = backbone.frame_size
    pieces = backbone.encode_frames(torch.randn(3, 3, size, size), [0, 3, 0])
    assert [len(piece.tokens) > 0 for piece in pieces] == [False, True, False]
    none = backbone.encode_frames(torch.zeros(0, 3, size, size), [0, 0])
    assert [len(piece.tokens) for piece in none] == [0, 0]
