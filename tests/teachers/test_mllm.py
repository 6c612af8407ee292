"""The teacher of single clips: outputs, saving, checkpoints of others."""

import dataclasses

import pytest
import torch
from small_mllm import (
    LetterTokenizer,
    random_clips,
    rows,
    shake,
    small_audio,
    small_backbone,
    small_mllm,
)

from coefvq.modules.mllm.backbone import open_backbone
from coefvq.modules.mllm.config import LoraSettings
from coefvq.modules.mllm.lora import trainable_parameters
from coefvq.modules.pretrained import load_metadata
from coefvq.teachers.mllm import ClipMLLM
from coefvq.types import TeacherOutput


def make(
    mode="saliency",
    *,
    seed=0,
    num_outputs=1,
    layout=None,
    tokenizer=None,
    text_fields=(),
    **changes,
):
    torch.manual_seed(seed)
    more = {} if layout is None else {"layout": layout}
    config = small_mllm(mode, **changes)
    more["text_fields"] = text_fields
    return ClipMLLM(config, num_outputs, tokenizer=tokenizer, **more).eval()


def test_it_answers_with_logits_and_features():
    output = make(num_outputs=4)(random_clips(3))
    assert isinstance(output, TeacherOutput)
    assert output.logits.shape == (3, 4)
    assert output.features.shape == (3, 10)
    assert output.sub_logits is None
    assert make()(random_clips(3)).logits.shape == (3,)


@pytest.mark.parametrize("mode", ["token", "late"])
def test_the_likeliest_tokens_are_those_of_the_whole_vocabulary(mode, tmp_path):
    batch = random_clips(3)
    teacher = make(mode, topk=4)
    output = teacher(batch)
    plain = make(mode)
    assert plain(batch).topk_indices is None
    torch.testing.assert_close(plain(batch).logits, output.logits)  # nothing else has changed
    assert output.topk_indices.shape == output.topk_logprobs.shape == (3, 1, 4)
    # All tokens of the vocabulary, asked one after the other, have no more.
    everything = make(mode, topk=teacher.mllm.backbone.vocab_size)(batch)
    assert torch.equal(everything.topk_indices[..., :4], output.topk_indices)
    torch.testing.assert_close(everything.topk_logprobs.exp().sum(-1), torch.ones(3, 1))
    assert not output.topk_logprobs.requires_grad
    teacher.save_pretrained(tmp_path)
    assert torch.equal(ClipMLLM.from_pretrained(tmp_path)(batch).topk_indices, output.topk_indices)
    with pytest.raises(ValueError, match="topk is a number of tokens from 0, got -1"):
        make(topk=-1)


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


def test_it_starts_from_folders_that_transformers_wrote(tmp_path):
    torch.manual_seed(3)
    backbone = open_backbone(small_backbone())
    backbone.model.save_pretrained(tmp_path)
    teacher = make(backbone=small_backbone(model_name_or_path=str(tmp_path)))
    rows = teacher.mllm.backbone.model.get_input_embeddings().weight
    assert torch.equal(rows, backbone.model.get_input_embeddings().weight)
    # Opened by name or made by shape: the same architecture, so weights may go across.
    assert teacher.config == make().config


def test_another_architecture_is_named(tmp_path):
    make().save_pretrained(tmp_path)
    other = make(lora=LoraSettings(rank=3), audio=small_audio(mode="late"))
    with pytest.raises(ValueError, match=r"mllm\.audio\.mode='saliency' \(expected 'late'\)"):
        other.load_pretrained(tmp_path)


def test_a_layout_for_pairs_is_refused():
    with pytest.raises(ValueError, match="has 2 clips, a teacher of single clips takes one"):
        make(layout="{video_1} {audio_1} {video_2}")


MODES = ("saliency", "token", "late", "mid")
FIELDS = ("title", "subtitles", "ocr")
NAMED = "{text:title|ab} {text:subtitles|cd} {text:ocr|ef} {video} {audio|gh}"


def named_clips(clips=4):
    """Clips whose fields are there or not: all, the first, the last, none; the last is silent."""
    ids = torch.randint(1, 30, (clips, 3, 5), generator=torch.Generator().manual_seed(3))
    mask = torch.zeros(clips, 3, 5, dtype=torch.bool)
    mask[0, :, :2] = mask[1, 0, :4] = mask[2, 2, :1] = True
    return dataclasses.replace(random_clips(clips), field_ids=ids, field_mask=mask)


def named(mode="late", **changes):
    teacher = make(mode, layout=NAMED, tokenizer=LetterTokenizer(), text_fields=FIELDS, **changes)
    shake(teacher)
    return teacher


def lengths(teacher, batch, monkeypatch):
    """Tokens of each row's sequence."""
    seen = []
    inner = teacher.mllm.backbone.forward
    monkeypatch.setattr(teacher.mllm.backbone, "forward", lambda s: seen.extend(s) or inner(s))
    teacher(batch)
    return [sum(len(piece.tokens) for piece in row) for row in seen]


def test_an_empty_field_takes_its_label_along(monkeypatch):
    batch = named_clips()
    found = lengths(named(None), batch, monkeypatch)
    frames = (4 * batch.frame_mask.sum(1) + 1).tolist()  # 2x2 tokens each, and one that closes
    assert found == [frames[0] + 3 * (2 + 2), frames[1] + 2 + 4, frames[2] + 2 + 1, frames[3]]


def test_silence_takes_its_label_along(monkeypatch):
    batch = named_clips()
    deaf = lengths(named(None), batch, monkeypatch)
    found = lengths(named("saliency"), batch, monkeypatch)
    assert [a - b for a, b in zip(found, deaf, strict=True)] == [3, 3, 3, 0]


@pytest.mark.parametrize("mode", MODES)
def test_a_field_is_read_where_it_counts_and_nowhere_else(mode):
    teacher, batch = named(mode), named_clips()
    want = teacher(batch).logits
    hidden = batch.field_ids.masked_fill(~batch.field_mask, 0)
    assert torch.equal(teacher(dataclasses.replace(batch, field_ids=hidden)).logits, want)
    joined = dataclasses.replace(batch, input_ids=batch.input_ids.flip(1))
    assert torch.equal(teacher(joined).logits, want)
    for field, rows_that_move in enumerate(([1, 1, 0, 0], [1, 0, 0, 0], [1, 0, 1, 0])):
        ids = batch.field_ids.clone()
        ids[:, field] = 31 + ids[:, field] % 7
        moved = teacher(dataclasses.replace(batch, field_ids=ids)).logits != want
        assert moved.int().tolist() == rows_that_move


def test_the_same_words_in_another_field_are_another_question():
    teacher, batch = named(), named_clips()
    swapped = dataclasses.replace(
        batch, field_ids=batch.field_ids[:, [2, 1, 0]], field_mask=batch.field_mask[:, [2, 1, 0]]
    )
    differ = teacher(swapped).logits != teacher(batch).logits
    assert differ.tolist() == [True, True, True, False]


@pytest.mark.parametrize("mode", [*MODES, None])
def test_a_clip_answers_the_same_whatever_its_batch(mode):
    teacher, batch = named(mode), named_clips()
    together = teacher(batch).logits
    for row in range(4):
        alone = teacher(rows(batch, row, row + 1)).logits
        torch.testing.assert_close(alone, together[row : row + 1])


@pytest.mark.parametrize("mode", MODES)
def test_silent_and_textless_clips_are_answered(mode):
    teacher, batch = named(mode).train(), named_clips()
    bare = dataclasses.replace(
        batch,
        audio_mask=torch.zeros_like(batch.audio_mask),
        field_mask=torch.zeros_like(batch.field_mask),
    )
    logits = teacher(bare).logits
    assert logits.isfinite().all()
    logits.sum().backward()
    for name, parameter in trainable_parameters(teacher).items():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    quiet = dataclasses.replace(bare, audio=None, audio_mask=None)
    torch.testing.assert_close(teacher(quiet).logits, logits)


def test_mid_fusion_starts_as_the_teacher_without_sound():
    deaf, hearing, batch = make(None), make("mid"), random_clips(3)
    hearing.load_state_dict(deaf.state_dict(), strict=False)
    assert torch.equal(hearing(batch).logits, deaf(batch).logits)
    with torch.no_grad():
        hearing.mllm.audio.cross.gate += 1.0
    assert (hearing(batch).logits != deaf(batch).logits).tolist() == [True, True, False]


@pytest.mark.parametrize("mode", ["saliency", "token", "mid"])
def test_yes_no_is_the_log_odds_of_two_single_tokens(mode):
    tokenizer = LetterTokenizer("good", "bad")
    teacher = make(
        mode, layout="{video} {audio} ab", tokenizer=tokenizer, read_out="yes_no",
        answer_words=("bad", "good"),
    )  # fmt: skip
    output = teacher(random_clips(3))
    every = teacher.mllm.backbone.model.lm_head(output.features)
    torch.testing.assert_close(output.logits, every[:, 41] - every[:, 40])
    assert output.logits.shape == (3,)
    with pytest.raises(ValueError, match="'yes' is 3 tokens"):
        make(mode, layout="{video} {audio}", tokenizer=tokenizer, read_out="yes_no")


@pytest.mark.parametrize("mode", MODES)
def test_with_adapters_the_language_model_itself_stays(mode):
    teacher = make(mode).train()
    before = {n: p.clone() for n, p in teacher.named_parameters() if "language_model" in n}
    optimizer = torch.optim.SGD(trainable_parameters(teacher).values(), lr=1.0)
    for _ in range(2):  # the adapters' second matrix starts at 0
        optimizer.zero_grad()
        teacher(random_clips(3)).logits.square().sum().backward()
        optimizer.step()
    moved = {n for n, p in teacher.named_parameters() if n in before and not p.equal(before[n])}
    assert moved and all("lora_" in name for name in moved)


def test_fields_come_back_with_a_saved_teacher(tmp_path):
    teacher, batch = named(), named_clips()
    teacher.save_pretrained(tmp_path)
    again = ClipMLLM.from_pretrained(tmp_path)
    assert again.mllm.prompt.fields == FIELDS
    assert torch.equal(again(batch).logits, teacher(batch).logits)


def test_a_teacher_without_fields_is_saved_as_it_always_was():
    assert set(make().config["prompt"]) == {"layout", "ids", "answer_ids"}


def test_a_batch_without_fields_is_refused():
    with pytest.raises(ValueError, match="set separate_text=true for the data"):
        named()(random_clips(3))
