"""The model: order in the sequence, masks, audio modes, what is trained, numbers that stay."""

import dataclasses
import math

import pytest
import torch
from small_mllm import (
    VOCABULARY,
    LetterTokenizer,
    random_clips,
    rows,
    shake,
    small_backbone,
    small_mllm,
)

from coefvq.modules.mllm.config import LoraSettings
from coefvq.modules.mllm.lora import trainable_parameters
from coefvq.modules.mllm.model import MLLM

LAYOUT = "{text} {video} {audio}"
MODES = ("saliency", "token", "late", "mid")


def make(mode="saliency", layout=LAYOUT, *, seed=0, tokenizer=None, outputs=1, sub=0, **changes):
    torch.manual_seed(seed)
    model = MLLM(
        small_mllm(mode, **changes),
        num_outputs=outputs,
        num_sub_labels=sub,
        layout=layout,
        tokenizer=tokenizer,
    )
    return model.eval()


@pytest.mark.parametrize("mode", [*MODES, None])
def test_a_row_answers_the_same_in_any_batch(mode):
    model, batch = make(mode), random_clips(4)
    shake(model)
    together = model([batch])
    for row in range(4):
        alone = model([rows(batch, row, row + 1)])
        torch.testing.assert_close(alone.logits, together.logits[row : row + 1])
        torch.testing.assert_close(alone.features, together.features[row : row + 1])


@pytest.mark.parametrize("mode", MODES)
def test_what_is_masked_is_never_read(mode):
    model, batch = make(mode), random_clips(4)
    shake(model)
    want = model([batch]).logits
    other = dataclasses.replace(
        batch,
        frames=torch.where(batch.frame_mask[..., None, None, None], batch.frames, 0),
        input_ids=batch.input_ids.masked_fill(~batch.text_mask, 0),
        audio=batch.audio.masked_fill(~batch.audio_mask[:, None], math.nan),
    )
    assert torch.equal(model([other]).logits, want)


@pytest.mark.parametrize("mode", MODES)
def test_sound_is_heard_where_there_is_some(mode):
    model, batch = make(mode), random_clips(3)
    shake(model)
    want = model([batch]).logits
    got = model([dataclasses.replace(batch, audio=-batch.audio)]).logits
    assert (got != want).tolist() == [True, True, False]


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_without_sound_equals_one_of_silence(mode):
    model, batch = make(mode), random_clips(3)
    shake(model)
    silent = dataclasses.replace(batch, audio_mask=torch.zeros_like(batch.audio_mask))
    bare = dataclasses.replace(batch, audio=None, audio_mask=None)
    torch.testing.assert_close(model([silent]).logits, model([bare]).logits)


def test_mid_fusion_starts_as_the_model_without_sound():
    deaf = make(None)
    hearing = make("mid")
    hearing.load_state_dict(deaf.state_dict(), strict=False)
    batch = random_clips(3)
    assert torch.equal(deaf([batch]).logits, hearing([batch]).logits)


def test_parts_stand_in_the_order_of_the_layout(monkeypatch):
    tokenizer = LetterTokenizer()
    model = make(layout="ab {audio} c {video} {text}", tokenizer=tokenizer)
    batch = rows(random_clips(3), 1, 2)
    seen = []
    inner = model.backbone.forward
    monkeypatch.setattr(model.backbone, "forward", lambda s: seen.extend(s) or inner(s))
    model([batch])
    words, audio, more, video, text = (piece.tokens for piece in seen[0])
    embed = model.backbone.embed
    assert torch.equal(words, embed(torch.tensor(tokenizer.encode("ab", add_special_tokens=False))))
    assert len(more) == 1
    assert torch.equal(audio, model.audio(batch.audio, batch.audio_mask)[0][0])
    assert len(video) == 4 * batch.frame_mask.sum() + 1
    assert torch.equal(text, embed(batch.input_ids[batch.text_mask]))


def test_frames_can_be_chosen_from_outside():
    model, batch = make(None, "{video}"), random_clips(3)
    first = torch.zeros_like(batch.frame_mask)
    first[:, 0] = True
    want = model([dataclasses.replace(batch, frame_mask=first)]).logits
    assert torch.equal(model([batch], [first]).logits, want)


def test_towers_are_frozen_and_stay_in_eval_mode():
    model = make().train()
    names = list(trainable_parameters(model))
    starts = {name.split(".")[0] for name in names}
    assert starts == {"backbone", "audio", "read_out"}
    assert not any("vision_tower" in name or "audio.tower" in name for name in names)
    assert any("multi_modal_projector" in name for name in names)
    assert all("lora_" in name for name in names if "language_model" in name)
    assert not model.backbone.tower.training
    assert not model.audio.tower.training
    assert model.backbone.language.training
    free = make(lora=None, train_vision=True, train_audio=True, train_language=True).train()
    assert free.backbone.tower.training
    assert free.audio.tower.training
    left = {n for n, p in free.named_parameters() if not p.requires_grad}
    assert left == {"backbone.model.model.image_newline"}


@pytest.mark.parametrize("mode", MODES)
def test_every_trained_weight_gets_a_gradient(mode):
    model = make(mode, sub=2, gradient_checkpointing=mode == "late").train()
    shake(model)
    answers = model([random_clips(4)])
    (answers.logits.square().sum() + answers.sub_logits.square().sum()).backward()
    without = [n for n, p in trainable_parameters(model).items() if p.grad is None]
    assert not without
    # A bias of all saliencies shifts them alike.
    still = [n for n, p in trainable_parameters(model).items() if not p.grad.abs().sum() > 0]
    assert all(name == "audio.pool.score.bias" for name in still)


@pytest.mark.parametrize("mode", MODES)
def test_silence_leaves_no_weight_out_of_the_graph(mode):
    model, batch = make(mode).train(), random_clips(2)
    silent = dataclasses.replace(batch, audio_mask=torch.zeros_like(batch.audio_mask))
    model([silent]).logits.sum().backward()
    assert all(p.grad is not None for p in trainable_parameters(model).values())


def test_checkpointing_changes_no_gradient():
    grads = []
    for flag in (False, True):
        model = make(gradient_checkpointing=flag).train()
        shake(model)
        model([random_clips(3)]).logits.sum().backward()
        grads.append({n: p.grad for n, p in trainable_parameters(model).items()})
    for name, value in grads[0].items():
        torch.testing.assert_close(value, grads[1][name])


def test_yes_no_is_the_language_models_own_opinion():
    tokenizer = LetterTokenizer("yes", "no")
    model = make(layout="ab {video} {audio} c", read_out="yes_no", tokenizer=tokenizer)
    answers = model([random_clips(3)])
    head = model.backbone.model.lm_head
    log_odds = head(answers.features)[:, 40] - head(answers.features)[:, 41]
    torch.testing.assert_close(answers.logits, log_odds)


def test_bfloat16_weights_keep_heads_and_projectors_in_float32():
    model = make(sub=2, backbone=small_backbone(dtype="bfloat16")).train()
    dtypes = {p.dtype for p in trainable_parameters(model).values()}
    assert dtypes == {torch.float32}
    assert model.backbone.tower.dtype == torch.bfloat16
    answers = model([random_clips(3)])
    assert answers.logits.dtype == answers.features.dtype == torch.float32
    (answers.logits.sum() + answers.sub_logits.sum()).backward()
    plain = make(sub=2)
    torch.testing.assert_close(
        answers.logits, plain([random_clips(3)]).logits, atol=0.05, rtol=0.05
    )


def test_it_learns_a_handful_of_clips():
    model = make(lora=LoraSettings(rank=4, dropout=0.0)).train()
    batch, labels = random_clips(6), torch.tensor([0.0, 1, 1, 0, 1, 0])
    optimizer = torch.optim.AdamW(trainable_parameters(model).values(), lr=0.01)
    for _ in range(40):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model([batch]).logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1  # ln 2 = 0.69 at the start


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layout": "{video}"}, "audio mode 'saliency' puts tokens into the sequence"),
        ({"read_out": "yes_no", "outputs": 3}, "gives one logit, the task has 3 outputs"),
        ({"layout": "ab {video} {audio}"}, "need a tokenizer"),
    ],
)
def test_what_cannot_be_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        make(**options)


def test_another_number_of_clips_is_refused():
    model = make()
    with pytest.raises(ValueError, match="is for 1 clips, got 2"):
        model([random_clips(2), random_clips(2)])


def test_the_config_says_what_was_opened():
    made = make()
    again = MLLM(made.config, layout=LAYOUT)
    assert again.config == made.config
    assert made.config.backbone.architecture["text_config"]["vocab_size"] == VOCABULARY
