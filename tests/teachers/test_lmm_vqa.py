"""LMM-VQA: read-outs, prompts, what is trained, saving, the same answer in any batch."""

import dataclasses

import pytest
import torch
from small_lmm_vqa import LORA, SLOWFAST, VIDEOMAE, moving_clips, small_config, small_lmm_vqa
from small_mllm import rows, shake
from transformers import AutoModelForCausalLM, CLIPVisionModel, Qwen2Config, Qwen2ForCausalLM

from coefvq.losses.quality_answers import LevelAnswerLoss, NumberAnswerLoss
from coefvq.modules.mllm.language import LanguageConfig
from coefvq.modules.mllm.quality_prompts import read_prompts, small_tokenizer
from coefvq.students.feature_store import FeatureStore
from coefvq.teachers.lmm_vqa import LMMVQA
from coefvq.types import TeacherOutput

READ_OUTS = ["number", "level", "head"]


@pytest.mark.parametrize("read_out", READ_OUTS)
def test_it_answers_with_a_score_levels_and_features(read_out):
    output = small_lmm_vqa(read_out=read_out)(moving_clips(4))
    assert isinstance(output, TeacherOutput)
    assert output.logits.shape == output.score_std.shape == (4,)
    assert output.features.shape == (4, 10 if read_out == "head" else 16)
    assert output.level_logits.shape == (4, 5) and output.number_logits.shape == (4, 101)
    for logits in (output.level_logits, output.number_logits):
        torch.testing.assert_close(logits.exp().sum(1), torch.ones(4))


def test_levels_are_read_as_an_expectation():
    model, clips = small_lmm_vqa(read_out="level", score_range=(1.0, 5.0)), moving_clips(3)
    shake(model)
    output = model(clips)
    p = output.level_logits.softmax(-1)
    # excellent good fair poor bad: 1, .75, .5, .25, 0 of the way from 1 to 5.
    want = 1 + 4 * (p * torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0])).sum(-1)
    torch.testing.assert_close(output.logits, want)
    spread = (p * (torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0]) - want[:, None]) ** 2).sum(-1).sqrt()
    torch.testing.assert_close(output.score_std, spread)


def test_a_number_is_an_expectation_or_what_is_generated():
    clips, made = moving_clips(3), small_lmm_vqa(score_range=(0.0, 1.0))
    shake(made)
    output = made(clips)
    values = torch.arange(101) / 100
    torch.testing.assert_close(output.logits, output.number_logits.exp() @ values)
    greedy = small_lmm_vqa(decoding="greedy", score_range=(0.0, 1.0))
    greedy.load_state_dict(made.state_dict())
    hundredths = greedy(clips).logits * 100
    torch.testing.assert_close(hundredths, hundredths.round())
    levels = small_lmm_vqa(decoding="greedy", read_out="level")(clips)
    assert set(levels.logits.tolist()) <= {0.0, 25.0, 50.0, 75.0, 100.0}
    # In training there is something to learn from all the same.
    assert greedy.train()(clips).logits.requires_grad


def test_what_is_generated_is_what_a_plain_loop_generates():
    model, clips = small_lmm_vqa(decoding="greedy", questions=("score",)), moving_clips(3)
    shake(model, 1.0)
    scores = model(clips).logits.tolist()
    question, language = model.questions[0], model.language
    spoken = {answer: number for number, answer in enumerate(question.answers)}
    for tokens, score in zip(model.projector(model.encoder(clips)), scores, strict=True):
        after = language.embed(question.after[0], tokens.device)
        sequence, answer = torch.cat([tokens, after]), ()
        while True:
            hidden = language.language(inputs_embeds=sequence[None]).last_hidden_state[0, -1]
            logits = language.model.get_output_embeddings()(hidden)
            begun = [(*a, question.end) for a in spoken if a[: len(answer)] == answer]
            allowed = sorted({a[len(answer)] for a in begun})
            token = allowed[int(logits[allowed].argmax())]
            if token == question.end:
                break
            answer = (*answer, token)
            sequence = torch.cat([sequence, language.embed([token], tokens.device)])
        assert spoken[answer] == score


@pytest.mark.parametrize("kind", ["mean", "interleaved"])
@pytest.mark.parametrize("motion", [SLOWFAST, VIDEOMAE, None], ids=["slowfast", "videomae", "none"])
def test_a_clip_answers_the_same_in_any_batch(kind, motion):
    model, clips = small_lmm_vqa(kind, motion=motion), moving_clips(4)
    shake(model)
    together = model(clips)
    for row in range(4):
        alone = model(rows(clips, row, row + 1))
        for name in ("logits", "level_logits", "features", "score_std"):
            ours, theirs = getattr(alone, name), getattr(together, name)[row : row + 1]
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    # Ten times the same to the bit.
    assert all(torch.equal(model(clips).logits, together.logits) for _ in range(10))


def test_frames_that_are_not_real_are_not_read():
    model, clips = small_lmm_vqa("interleaved"), moving_clips(3)
    gone = ~clips.frame_mask
    other = dataclasses.replace(
        clips,
        frames=clips.frames.masked_fill(gone[..., None, None, None], 7),
        motion=clips.motion.masked_fill(gone[..., None, None, None, None], 7),
    )
    assert torch.equal(model(clips).logits, model(other).logits)


def test_what_is_published_as_frozen_gets_no_gradient():
    model = small_lmm_vqa().train()
    output = model(moving_clips(3))
    labels = torch.tensor([10.0, 50.0, 90.0])
    loss = NumberAnswerLoss(0.0, 100.0)(output.number_logits, labels)
    (loss + LevelAnswerLoss(0.0, 100.0)(output.level_logits, labels)).backward()
    for name, value in model.named_parameters():
        assert (value.grad is not None) == name.startswith("projector."), name
        assert value.requires_grad == name.startswith("projector."), name
    assert not model.encoder.spatial.training and not model.encoder.motion.training


def test_lora_is_optional_and_only_in_the_language_model():
    model = small_lmm_vqa(lora=LORA).train()
    model(moving_clips(2)).logits.sum().backward()
    trained = {name for name, value in model.named_parameters() if value.grad is not None}
    adapters = {name for name in trained if not name.startswith("projector.")}
    assert adapters and all(n.startswith("language.model.") and "lora_" in n for n in adapters)
    model.eval()
    shake(model)
    want = model(moving_clips(2)).logits
    model.merge_lora()
    torch.testing.assert_close(model(moving_clips(2)).logits, want, rtol=1e-4, atol=1e-3)


def test_wordings_are_drawn_by_seed_in_training_and_fixed_at_test_time(monkeypatch):
    model, clips, asked = small_lmm_vqa(), moving_clips(4), []
    inner = model.language.forward
    monkeypatch.setattr(
        model.language, "forward", lambda s, t: asked.append([len(r) for r in s]) or inner(s, t)
    )

    def lengths(seed, training):
        asked.clear()
        torch.manual_seed(seed)
        model.train(training)(clips)
        return list(asked)

    assert lengths(1, True) == lengths(1, True)
    assert len({str(lengths(seed, True)) for seed in range(8)}) > 1
    assert lengths(1, False) == lengths(2, False)
    assert all(len(set(row)) == 1 for row in lengths(1, False))


def test_several_wordings_at_test_time_are_averaged():
    clips, one = moving_clips(3), small_lmm_vqa()
    shake(one)
    several = small_lmm_vqa(test_wordings=3, uncertainty="wordings")
    several.load_state_dict(one.state_dict())
    scores = []
    for number in range(3):
        one.questions = tuple(
            dataclasses.replace(q, after=several.questions[i].after[number:])
            for i, q in enumerate(several.questions)
        )
        scores.append(one(clips).logits)
    output = several(clips)
    torch.testing.assert_close(output.logits, torch.stack(scores).mean(0))
    torch.testing.assert_close(output.score_std, torch.stack(scores).std(0, correction=0))
    torch.testing.assert_close(output.level_logits.exp().sum(1), torch.ones(3))


@pytest.mark.parametrize("motion", [SLOWFAST, VIDEOMAE], ids=["slowfast", "videomae"])
@pytest.mark.parametrize("options", [{}, {"read_out": "head", "lora": LORA}], ids=["plain", "lora"])
def test_a_saved_teacher_comes_back(motion, options, tmp_path):
    model, clips = small_lmm_vqa(motion=motion, **options), moving_clips(3)
    shake(model)
    model.save_pretrained(tmp_path, metadata={"classes": []})
    again = LMMVQA.from_pretrained(tmp_path)
    ours, theirs = model(clips), again(clips)
    for field in dataclasses.fields(ours):
        if (value := getattr(ours, field.name)) is not None:
            assert torch.equal(value, getattr(theirs, field.name)), field.name
    assert again.config == model.config
    assert {p.name for p in tmp_path.iterdir() if p.is_dir()} == {"language", "spatial"} | (
        {"motion"} if motion is VIDEOMAE else set()
    )
    # What is transformers' is in transformers' own form.
    AutoModelForCausalLM.from_pretrained(tmp_path / "language")
    CLIPVisionModel.from_pretrained(tmp_path / "spatial")
    assert (tmp_path / "adapter_model.safetensors").exists() == bool(options)


def test_it_starts_from_folders_that_transformers_wrote(tmp_path):
    words = read_prompts()
    tokenizer = small_tokenizer(words)
    torch.manual_seed(3)
    qwen = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=1, intermediate_size=32,
        )
    )  # fmt: skip
    qwen.save_pretrained(tmp_path / "qwen")
    encoder = small_lmm_vqa(seed=4).encoder
    encoder.spatial.save_pretrained(tmp_path / "clip")
    config = small_config(
        language=LanguageConfig(model_name_or_path=str(tmp_path / "qwen"), vocab_size=None)
    )
    spatial = dataclasses.replace(config.encoder.spatial, model_name_or_path=str(tmp_path / "clip"))
    config = dataclasses.replace(
        config, encoder=dataclasses.replace(config.encoder, spatial=spatial)
    )
    model = LMMVQA(config, (0, 100), tokenizer=tokenizer).eval()
    assert torch.equal(
        model.language.model.get_input_embeddings().weight, qwen.get_input_embeddings().weight
    )
    for name, value in encoder.spatial.state_dict().items():
        assert torch.equal(model.encoder.spatial.state_dict()[name], value)
    assert str(tmp_path) not in str(model.config)
    model.save_pretrained(tmp_path / "saved")
    clips = moving_clips(2)
    assert torch.equal(
        LMMVQA.from_pretrained(tmp_path / "saved")(clips).logits, model(clips).logits
    )


def test_frozen_encoders_read_each_clip_once(tmp_path):
    model, clips = small_lmm_vqa(), moving_clips(3)
    before, seen = model(clips), []
    model.encoder.register_forward_hook(lambda *_: seen.append(1))
    store = FeatureStore(tmp_path, model.encoder, "reading")
    model.use_store(store)
    assert torch.equal(model(clips).logits, before.logits)
    store.flush()
    model.use_store(FeatureStore(tmp_path, model.encoder, "reading"))
    blank = dataclasses.replace(clips, frames=clips.frames * 0, motion=None)
    assert torch.equal(model(blank).logits, before.logits) and len(seen) == 1
    with pytest.raises(ValueError, match="make a store for this encoder"):
        small_lmm_vqa(seed=1).use_store(store)


def test_it_learns_its_clips():
    torch.manual_seed(0)
    model = small_lmm_vqa(train_language=True, motion=None, read_out="level").train()
    # Frozen encoders: what they know of the clips is enough.
    clips, labels = model.encoder(moving_clips(16)), torch.linspace(0, 100, 16)
    number, level = NumberAnswerLoss(0.0, 100.0), LevelAnswerLoss(0.0, 100.0)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-2)
    for _ in range(80):
        output = model(clips)
        loss = number(output.number_logits, labels) + level(output.level_logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    scores = model.eval()(clips).logits
    assert torch.corrcoef(torch.stack([scores, labels]))[0, 1] > 0.8


def test_bfloat16_is_near_float32():
    model, clips = small_lmm_vqa(), moving_clips(3)
    want = model(clips).logits
    half = small_lmm_vqa(language=dataclasses.replace(small_config().language, dtype="bfloat16"))
    half.load_state_dict(model.state_dict())
    assert half.language.model.dtype == torch.bfloat16 and half(clips).logits.dtype == torch.float32
    torch.testing.assert_close(half(clips).logits, want, rtol=0.02, atol=0.5)


def test_more_wordings_than_a_question_has_are_refused():
    with pytest.raises(ValueError, match="a question has only 10 wordings"):
        small_lmm_vqa(test_wordings=99)


def test_a_range_is_needed_and_one_output(tmp_path):
    for unknown in (None, (None, None), (5.0, 1.0), ()):
        with pytest.raises(ValueError, match="state the data's range"):
            LMMVQA(small_config(), unknown)
    with pytest.raises(ValueError, match="the task has 3 outputs; give a task of kind regression"):
        LMMVQA(small_config(), (0, 100), 3)
    with pytest.raises(ValueError, match=r"no chunks of video.*set data.motion_frames=4"):
        small_lmm_vqa()(dataclasses.replace(moving_clips(2), motion=None))
    (tmp_path / "p.json").write_text("{}")
    with pytest.raises(ValueError, match="the keys template, score and level are expected"):
        LMMVQA(small_config(), (0, 100), prompts=tmp_path / "p.json")
