import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from coefvq.data import reader
from coefvq.serving.cascade_folder import load_cascade
from coefvq.serving.cascade_inference import (
    Answer,
    answer_clips,
    check_options,
    in_audit,
    pass_light,
    probability_of,
)
from coefvq.types import Clip


class Watched(nn.Module):
    """A model that notes what it was asked about."""

    def __init__(self, module):
        super().__init__()
        self.module = module
        self.batches = []

    def forward(self, batch):
        self.batches.append(batch.ids)
        return self.module(batch)

    @property
    def seen(self):
        return sorted(name for ids in self.batches for name in ids)


@pytest.fixture
def cascade(finished_cascade, cascade_clips):
    """The run's models, watched, with a threshold that defers some of its test clips."""
    found = load_cascade(finished_cascade / "cascade")
    light, heavy = (
        dataclasses.replace(m, module=Watched(m.module).eval()) for m in (found.light, found.heavy)
    )
    samples = [light.reader().read(clip) for clip in cascade_clips]
    uncertainty = [p.uncertainty for p in passed(light, found.policy, cascade_clips, samples)]
    light.module.batches.clear()
    low, high = sorted(uncertainty)[-5:-3]  # four of them are above
    policy = dataclasses.replace(found.policy, threshold=(low + high) / 2)
    return dataclasses.replace(found, light=light, heavy=heavy, policy=policy)


def passed(light, policy, clips, samples):
    return pass_light(light, policy, clips, samples, [0.0] * len(clips))


def with_threshold(cascade, threshold):
    return dataclasses.replace(
        cascade, policy=dataclasses.replace(cascade.policy, threshold=threshold)
    )


def asked(cascade, clips, **options):
    found = list(answer_clips(cascade, clips, **options))
    assert all(isinstance(answer, Answer) for answer in found)
    return {answer.clip.id: answer for answer in found}


def test_the_heavy_model_is_asked_about_deferred_clips_only(cascade, cascade_clips):
    found = asked(cascade, cascade_clips, batch_size=3)
    deferred = sorted(name for name, answer in found.items() if answer.deferred)
    assert len(found) == len(cascade_clips) == 16 and len(deferred) == 4
    assert cascade.heavy.module.seen == deferred
    assert cascade.light.module.seen == sorted(found)
    # In whole batches, although no batch of the light model held three deferred ones.
    assert [len(ids) for ids in cascade.heavy.module.batches] == [3, 1]
    for answer in found.values():
        assert (answer.heavy_logits is not None) == answer.deferred
        assert answer.reason.startswith("deferred" if answer.deferred else "kept")
        assert answer.audit_probability == float(answer.deferred) and not answer.audited
        assert answer.seconds > 0


@pytest.mark.parametrize("once", [True, False])
def test_a_deferred_clip_gets_the_heavy_answer_and_others_the_light_one(
    cascade, cascade_clips, once
):
    if not once:
        inputs = dataclasses.replace(cascade.heavy.inputs, num_frames=1)
        cascade = dataclasses.replace(
            cascade, heavy=dataclasses.replace(cascade.heavy, inputs=inputs)
        )
    assert cascade.one_reading == once
    policy = cascade.policy
    for answer in asked(cascade, cascade_clips).values():
        for model, logits in (
            (cascade.light, answer.light_logits),
            (cascade.heavy, answer.heavy_logits),
        ):
            if logits is not None:
                own = model.logits(reader.collate([model.reader().read(answer.clip)]))
                assert logits == pytest.approx(float(own), abs=1e-5)
        expected = (
            policy.heavy_calibrator(answer.heavy_logits[None])
            if answer.deferred
            else policy.light_calibrator(answer.light_logits[None])
        )
        np.testing.assert_array_equal(answer.logits, expected[0])


@pytest.mark.parametrize("batch_size", [1, 4])
def test_answers_do_not_depend_on_the_batch(cascade, cascade_clips, batch_size):
    one = asked(cascade, cascade_clips, batch_size=16, audit=0.3)
    other = asked(cascade, list(reversed(cascade_clips)), batch_size=batch_size, audit=0.3)
    assert one.keys() == other.keys()
    for name, answer in one.items():
        assert other[name].deferred == answer.deferred
        assert other[name].audited == answer.audited
        assert other[name].logits == pytest.approx(answer.logits, abs=1e-5)
        assert other[name].uncertainty == pytest.approx(answer.uncertainty, abs=1e-5)


@pytest.mark.parametrize(("threshold", "share"), [(math.inf, 0), (-math.inf, 1)])
def test_the_ends(cascade, cascade_clips, threshold, share):
    found = asked(with_threshold(cascade, threshold), cascade_clips)
    assert sum(answer.deferred for answer in found.values()) == share * len(found)
    assert len(cascade.heavy.module.seen) == share * len(found)


def test_decoding_is_shared_where_both_read_alike(cascade, cascade_clips, monkeypatch):
    read, opened = reader.read_file, []

    def count(path, *words):
        opened.append(path)
        return read(path, *words)

    monkeypatch.setattr(reader, "read_file", count)
    asked(cascade, cascade_clips)
    assert len(opened) == len(cascade_clips)

    opened.clear()
    inputs = dataclasses.replace(cascade.heavy.inputs, num_frames=1)
    other = dataclasses.replace(cascade.heavy, inputs=inputs)
    found = asked(dataclasses.replace(cascade, heavy=other), cascade_clips)
    deferred = [answer.clip.path for answer in found.values() if answer.deferred]
    assert sorted(opened) == sorted([clip.path for clip in cascade_clips] + deferred)


def test_audited_clips_pass_both_models_and_keep_their_answer(cascade, cascade_clips):
    plain = asked(cascade, cascade_clips)
    cascade.heavy.module.batches.clear()
    found = asked(cascade, cascade_clips, audit=0.5, audit_seed=1)
    drawn = {clip.id for clip in cascade_clips if in_audit(clip.id, 0.5, 1)}
    assert 0 < len(drawn) < len(found)
    deferred = {name for name, answer in found.items() if answer.deferred}
    assert cascade.heavy.module.seen == sorted(drawn | deferred)
    for name, answer in found.items():
        assert answer.audited == (name in drawn)
        assert answer.audit_probability == (1.0 if answer.deferred else 0.5)
        assert (answer.heavy_logits is not None) == (name in drawn | deferred)
        assert answer.logits == pytest.approx(plain[name].logits, abs=1e-6)


def test_the_audit_draws_about_its_share_and_always_the_same():
    names = [f"clip{i}" for i in range(20_000)]
    drawn = {name for name in names if in_audit(name, 0.1)}
    assert abs(len(drawn) - 2000) < 4 * math.sqrt(20_000 * 0.1 * 0.9)
    assert drawn == {name for name in reversed(names) if in_audit(name, 0.1)}
    assert drawn < {name for name in names if in_audit(name, 0.2)}  # a larger share adds
    other = {name for name in names if in_audit(name, 0.1, seed=1)}
    assert abs(len(drawn & other) - 200) < 4 * math.sqrt(20_000 * 0.01 * 0.99)
    assert all(in_audit(name, 1.0) and not in_audit(name, 0.0) for name in names[:100])


def test_an_unreadable_clip_is_said_and_the_others_answered(cascade, cascade_clips, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(cascade_clips[0].path.read_bytes()[:900])
    clips = [*cascade_clips[:2], Clip("bad", bad), *cascade_clips[2:4]]
    found = list(answer_clips(cascade, clips, batch_size=2))
    (problem,) = [answer for answer in found if not isinstance(answer, Answer)]
    assert problem[0].id == "bad" and "bad.mp4" in problem[1]
    assert len(found) == 5
    assert next(answer_clips(cascade, [Clip("bad", bad)]))[0].id == "bad"
    with pytest.raises(ValueError, match=r"clip bad .*bad\.mp4\) cannot be read"):
        list(answer_clips(cascade, clips, on_bad_clip="error"))


def test_what_only_the_heavy_model_cannot_read(cascade, cascade_clips, monkeypatch):
    inputs = dataclasses.replace(cascade.heavy.inputs, num_frames=1)
    cascade = dataclasses.replace(cascade, heavy=dataclasses.replace(cascade.heavy, inputs=inputs))
    plain = asked(cascade, cascade_clips)
    read = reader.read_file

    def fail(path, given, *words):
        if given.num_frames == 1:
            raise reader.UnreadableClip.because(path, "no reason")
        return read(path, given, *words)

    monkeypatch.setattr(reader, "read_file", fail)
    answered = 0
    for answer in answer_clips(cascade, cascade_clips, audit=1.0):
        if isinstance(answer, Answer):
            answered += 1
            assert not answer.deferred and not answer.audited and answer.heavy_logits is None
            assert answer.logits == pytest.approx(plain[answer.clip.id].logits, abs=1e-6)
        else:
            clip, problem = answer
            assert plain[clip.id].deferred
            assert "deferred, but the heavy model cannot read it" in problem
    assert answered == 12


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ((0, 0.0, "skip"), "batch_size must be at least 1, got 0"),
        ((1, 1.5, "skip"), r"audit is a share of clips in \[0, 1\], got 1\.5"),
        ((1, math.nan, "skip"), "audit is a share"),
        ((1, "x", "skip"), "audit is a share of clips .* got x"),
        (("many", 0.0, "skip"), "batch_size must be at least 1, got many"),
        ((1, 0.0, "ignore"), "on_bad_clip is skip or error, got 'ignore'"),
    ],
)
def test_what_cannot_be_done_is_said(cascade, given, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_options(*given)
    names = ("batch_size", "audit", "on_bad_clip")
    with pytest.raises(ValueError, match=sentence):
        list(answer_clips(cascade, [], **dict(zip(names, given, strict=True))))


def test_probabilities():
    assert float(probability_of(np.array(0.0), "binary")) == 0.5
    assert probability_of(np.array([0.0, 0.0]), "multilabel").tolist() == [0.5, 0.5]
    values = probability_of(np.array([0.0, math.log(3)]), "multiclass")
    torch.testing.assert_close(values, torch.tensor([0.25, 0.75], dtype=torch.float64))
