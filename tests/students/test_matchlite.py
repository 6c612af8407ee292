import dataclasses

import pytest
import torch
import torch.nn.functional as F
from small_matchlite import (
    published_encoders,
    random_pairs,
    small_config,
    small_encoders,
    small_matchlite,
)
from small_models import random_batch

from coefvq.modules.clip_encoders import ClipFeatures
from coefvq.modules.decision import DecisionConfig
from coefvq.modules.pretrained import load_metadata
from coefvq.students.matchlite import MatchLite, MatchLiteConfig
from coefvq.types import Batch

MODALITIES = ("V", "V+T", "V+A", "V+A+T")


def logits(model, pairs):
    with torch.no_grad():
        return model(pairs).logits


@pytest.mark.parametrize("modalities", MODALITIES)
@pytest.mark.parametrize("encoders", [small_encoders(), published_encoders()])
def test_shapes_and_gradients(modalities, encoders):
    model = small_matchlite(modalities=modalities, encoders=encoders).train()
    output = model(random_pairs(3))
    assert output.logits.shape == (3,)
    assert output.features.shape == (3, model.features_width) == (3, 16)
    assert output.sub_logits.shape == (3, 3)
    (output.logits.sum() + output.sub_logits.sum()).backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert any(name.startswith("encoder.") for name in trained) is not encoders.frozen
    # Nothing is made that no output depends on.
    assert {name for name, p in model.named_parameters() if p.requires_grad} - trained == set()


def test_sequences_per_modality():
    clips = random_batch(2)
    for modalities, sequences, learned in zip(MODALITIES, (1, 4, 4, 7), (1, 2, 2, 3), strict=True):
        model = small_matchlite(modalities=modalities).eval()
        prepared = model.prepare(model.encode(clips))
        assert prepared.units.shape == (2, sequences, 8, 16)
        assert prepared.as_query.shape == prepared.as_candidate.shape == (2, learned, 8, 4)


def test_one_sub_label_keeps_its_dimension():
    assert small_matchlite(1)(random_pairs()).sub_logits.shape == (3, 1)
    assert small_matchlite(0)(random_pairs()).sub_logits is None


def test_score_of_features_is_the_forward():
    model, pairs = small_matchlite().eval(), random_pairs()
    query, candidate = model.encode(pairs.query), model.encode(pairs.candidate)
    assert torch.equal(model.score(query, candidate).logits, model(pairs).logits)
    # A pair may also carry features in its clips' place.
    carried = dataclasses.replace(pairs, query=query, candidate=candidate)
    assert torch.equal(model(carried.public()).logits, model(pairs).logits)


@pytest.mark.parametrize("encoders", [small_encoders(), published_encoders()])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_score_does_not_depend_on_its_batch(encoders, norm):
    decision = DecisionConfig(width=8, depths=(1, 1), norm=norm, stem="small")
    model, pairs = small_matchlite(encoders=encoders, decision=decision).eval(), random_pairs(4)
    together = logits(model, pairs)
    assert together.std() > 1e-4
    for i in range(4):
        one = pairs._map(lambda tensor, i=i: tensor[i : i + 1])
        torch.testing.assert_close(logits(model, one)[0], together[i], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("encoders", [small_encoders(), published_encoders()])
def test_padding_is_never_read(encoders):
    model, pairs = small_matchlite(encoders=encoders).eval(), random_pairs(4)

    def dirty(clips):
        frames = torch.where(clips.frame_mask[:, :, None, None, None], clips.frames, 99)
        audio = torch.where(clips.audio_mask[:, None], clips.audio, 99.0)
        return dataclasses.replace(
            clips,
            frames=frames,
            audio=audio,
            input_ids=clips.input_ids.where(clips.text_mask, 7),
        )

    changed = dataclasses.replace(pairs, query=dirty(pairs.query), candidate=dirty(pairs.candidate))
    torch.testing.assert_close(logits(model, changed), logits(model, pairs), atol=1e-5, rtol=1e-5)
    assert not torch.equal(changed.query.frames, pairs.query.frames)

    features = model.encode(pairs.query)
    noise = ClipFeatures(
        *(
            value
            if value.dtype == torch.bool
            else value.masked_fill(~getattr(features, f"{name}_mask")[..., None], 50.0)
            for name, value in ((f.name, getattr(features, f.name)) for f in fields())
        )
    )
    assert not torch.equal(noise.text, features.text)
    torch.testing.assert_close(
        model.score(noise, noise).logits, model.score(features, features).logits
    )


def fields():
    return dataclasses.fields(ClipFeatures)


def test_swapping_changes_nothing_when_symmetric():
    pairs = random_pairs()
    swapped = dataclasses.replace(pairs, query=pairs.candidate, candidate=pairs.query)
    plain = small_matchlite().eval()
    assert (logits(plain, pairs) - logits(plain, swapped)).abs().max() > 1e-4
    model = small_matchlite(symmetric=True).eval()
    model.load_state_dict(plain.state_dict())
    for name in ("logits", "features", "sub_logits"):
        torch.testing.assert_close(getattr(model(pairs), name), getattr(model(swapped), name))
    mean = (logits(plain, pairs) + logits(plain, swapped)) / 2
    torch.testing.assert_close(logits(model, pairs), mean)


@pytest.mark.parametrize("encoders", [small_encoders(), published_encoders()])
def test_silent_and_textless_clips(encoders):
    """No sound is no sound, however it is said; a text of CLS and SEP alone is no text."""
    model, pairs = small_matchlite(encoders=encoders).eval(), random_pairs(3)
    clips = pairs.query
    silent = dataclasses.replace(clips, audio_mask=torch.zeros_like(clips.audio_mask))
    deaf = dataclasses.replace(clips, audio=None, audio_mask=None)
    mute = torch.arange(10).expand(3, 10) < 2
    textless = dataclasses.replace(clips, text_mask=mute)
    none = dataclasses.replace(clips, input_ids=None, text_mask=None)
    for one, other, field in ((silent, deaf, "audio"), (textless, none, "text")):
        features = [model.encode(x) for x in (one, other)]
        assert not getattr(features[0], f"{field}_mask").any()
        answers = [model.score(x, model.encode(pairs.candidate)).logits for x in features]
        assert answers[0].isfinite().all()
        torch.testing.assert_close(*answers)
    both = dataclasses.replace(none, audio=None, audio_mask=None)
    model.train()
    output = model.score(model.encode(both), model.encode(both))
    output.logits.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_modality_dropout_in_training_only():
    model = small_matchlite(modality_dropout=0.5)
    features = model.eval().encode(random_batch(64))
    assert torch.equal(model.prepare(features).mask, model.prepare(features).mask)
    torch.manual_seed(0)
    kept = model.train().prepare(features).mask
    heard = features.audio_mask.any(-1)
    # Sequence 4 is sound, 6 what sound has read of the frames: they come and go together.
    assert 0.3 < kept[heard][:, 4].any(-1).float().mean() < 0.7
    assert torch.equal(kept[:, 4], kept[:, 6])
    assert torch.equal(kept[:, 0], features.video_mask)


def test_frozen_encoders_stay_as_they_are():
    model = small_matchlite(encoders=published_encoders()).train()
    assert not any(module.training for module in model.encoder.modules())
    before = {name: p.clone() for name, p in model.encoder.named_parameters()}
    learn(model, [random_pairs(4)] * 3)
    assert all(torch.equal(p, before[name]) for name, p in model.encoder.named_parameters())
    assert not model.encode(random_batch(2)).video.requires_grad


@pytest.mark.parametrize("encoders", [small_encoders(), published_encoders()])
def test_save_and_load_to_the_bit(tmp_path, encoders):
    model, pairs = small_matchlite(encoders=encoders, symmetric=True).eval(), random_pairs()
    folder = model.save_pretrained(tmp_path / "student", metadata={"threshold": 0.4})
    again = MatchLite.from_pretrained(folder)
    assert torch.equal(logits(again, pairs), logits(model, pairs))
    assert again.config == model.config and again.shape == model.shape
    assert load_metadata(folder) == {"threshold": 0.4}
    with pytest.raises(ValueError, match=r"num_sub_labels=3 \(expected 5\)"):
        small_matchlite(5, encoders=encoders, symmetric=True).load_pretrained(folder)


def learn(model, batches, lr=3e-3):
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr)
    model.train()
    for pairs in batches:
        loss = F.binary_cross_entropy_with_logits(model(pairs).logits, pairs.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def planted(kind, pairs=64, seed=0):
    """Pairs of clips that share what one modality shows, or do not."""
    torch.manual_seed(seed)
    same = torch.rand(pairs) < 0.5

    def clips():
        coarse = torch.randint(256, (pairs, 2, 3, 4, 4)).float().flatten(0, 1)
        frames = F.interpolate(coarse, 32).unflatten(0, (pairs, 2)).byte()
        audio = F.interpolate(torch.randn(pairs, 8, 5), 20)
        words = torch.randint(5, 40, (pairs, 8))
        return {"frames": frames, "audio": audio, "input_ids": words}

    def batch(values):
        return Batch(
            tuple(map(str, range(pairs))),
            frame_mask=torch.ones(pairs, 2).bool(),
            text_mask=torch.ones(pairs, 8).bool(),
            audio_mask=torch.ones(pairs, 20).bool(),
            **values,
        )

    query, candidate = clips(), clips()
    one = query[kind]
    shape = (-1, *[1] * (one.dim() - 1))
    candidate[kind] = torch.where(same.view(shape), one, candidate[kind])
    made = random_pairs(2)
    return dataclasses.replace(
        made, query=batch(query), candidate=batch(candidate), labels=same.float()
    )


@pytest.mark.parametrize("kind", ["frames", "audio", "input_ids"])
def test_learns_to_compare_each_modality(kind):
    """On pairs it has not seen: what counts is that two are alike, not what they are."""
    decision = DecisionConfig(width=8, depths=(1, 1), stem="small")
    model = small_matchlite(decision=decision, symmetric=True)
    learn(model, (planted(kind, pairs=32, seed=step) for step in range(50)))
    test = planted(kind, pairs=128, seed=99)
    right = ((logits(model, test) > 0) == (test.labels > 0)).float().mean()
    assert right > 0.85


def test_bf16_is_near_fp32():
    model, pairs = small_matchlite().eval(), random_pairs(4)
    with torch.autocast("cpu", torch.bfloat16):
        half = logits(model, pairs)
    torch.testing.assert_close(half.float(), logits(model, pairs), atol=0.05, rtol=0.05)


def test_base_size_is_the_published_one():
    """Swin-T 27.5 + BERT-base 108.9 + Whisper-small 88.2 + ResNet-34 and the rest 36."""
    with torch.device("meta"):
        model = MatchLite(MatchLiteConfig(), 12)
    sizes = {
        name: sum(p.numel() for p in module.parameters())
        for name, module in model.encoder.named_children()
    }
    assert sizes["vision"] == pytest.approx(27.5e6, rel=0.01)
    assert sizes["text"] == pytest.approx(109e6, rel=0.01)
    assert sizes["audio"] == pytest.approx(88.2e6, rel=0.01)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(263e6, rel=0.1)


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match=r"modalities 'A\+V' is unknown"):
        MatchLite(small_config(modalities="A+V"))
    with pytest.raises(ValueError, match=r"modality_dropout is a chance from 0 to below 1, got 1"):
        small_config(modality_dropout=1)
    deaf = small_matchlite(modalities="V+T").eval().encode(random_batch(2))
    with pytest.raises(ValueError, match="features have no audio"):
        small_matchlite(modalities="V+A").prepare(deaf)


def test_single_clips_are_refused():
    with pytest.raises(ValueError, match="MatchLite judges pairs and got a batch of single clips"):
        small_matchlite()(random_pairs(2).query)
