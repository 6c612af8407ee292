import dataclasses

import pytest
import torch

from coefvq.data.loader import make_loader
from coefvq.data.loading import ClipDataset, EpochShuffle
from coefvq.data.pairs.pretext import PAIRS, VIEWS, PretextPairs
from coefvq.data.text import Tokens
from coefvq.teachers.matchlm import share_frames
from coefvq.types import Clip, InputSpec, TaskSpec

TASK = TaskSpec("reproduced", "binary", ("0", "1"))
INPUTS = InputSpec(num_frames=4, frame_size=16, audio_seconds=0.5, mel_bins=8)


@pytest.fixture
def clips(clip_files):
    return [Clip(f"c{n}", clip_files / f"clip{n:02d}.mp4", label=1.0) for n in range(6)]


@pytest.fixture
def make(clips):
    def build(groups="abcdef", seed=0, **options):
        data = ClipDataset(clips, TASK, INPUTS, Tokens(), None, "uniform", None, **options)
        return PretextPairs(data, list(groups), seed)

    return build


def named(batch):
    """For each pair that counts: clip and view of both sides, and the label."""
    sides = [[name.split("~") for name in pair.split("|")] for pair in batch.ids]
    rows = zip(sides, batch.labels.tolist(), batch.label_mask.tolist(), strict=True)
    return [((a, int(v)), (b, int(w)), label) for ((a, v), (b, w)), label, counts in rows if counts]


def test_labels_follow_from_what_is_shown(make):
    seen = set()
    for epoch in range(8):
        data = make()
        data.set_epoch(epoch)
        batch = data.__getitems__(range(6))
        assert len(batch) == PAIRS * 6 and batch.label_mask.all()
        halves = {a for (a, v), (b, w), y in named(batch) if a == b and v // 2 != w // 2}
        for (a, v), (b, w), label in named(batch):
            assert 0 <= v < VIEWS and 0 <= w < VIEWS and (a, v) != (b, w)
            if a != b:
                assert label == 0
                seen.add("another")
            else:
                assert label == float(v // 2 == w // 2)
                seen.add("half" if a in halves else "whole")
    assert seen == {"another", "half", "whole"}


def test_the_sides_of_a_pair_are_what_its_id_says(make):
    batch = make().__getitems__(range(6))
    views = {}
    for side, ids in ((batch.query, 0), (batch.candidate, 1)):
        for row, pair in enumerate(batch.ids):
            assert side.ids[row] == pair.split("|")[ids]
            frames = views.setdefault(side.ids[row], side.frames[row])
            assert torch.equal(frames, side.frames[row])
    assert batch.query.labels is None and batch.query.views is None
    assert batch.query.frame_mask.all()
    queries = sum(pair.split("|")[0] < pair.split("|")[1] for pair in batch.ids)
    assert 0.2 * len(batch) < queries < 0.8 * len(batch)  # in random order


def test_clips_of_one_group_are_no_negatives(make):
    for epoch in range(4):
        data = make("aaabbb")
        data.set_epoch(epoch)
        for (a, _), (b, _), _ in named(data.__getitems__(range(6))):
            assert a == b or (a in ("c0", "c1", "c2")) != (b in ("c0", "c1", "c2"))
    alone = named(make("aaaaaa").__getitems__(range(6)))
    assert alone and all(a == b for (a, _), (b, _), _ in alone)


def test_a_single_clip_is_a_batch_too(make):
    batch = make()[2]
    assert len(batch) == PAIRS and {a for (a, _), _, _ in named(batch)} == {"c2"}


def test_seed_and_epoch_decide_and_nothing_else(make):
    def frames(seed=0, epoch=0, rows=(0, 1, 2)):
        data = make(seed=seed)
        data.set_epoch(epoch)
        return data.__getitems__(rows).query.frames

    torch.manual_seed(0)
    one = frames()
    torch.manual_seed(1)
    assert torch.equal(one, frames())
    assert not torch.equal(one, frames(seed=1)) and not torch.equal(one, frames(epoch=1))


def test_halves_share_no_frame(make, monkeypatch):
    """With frames that say their place, and copies that change nothing but the part."""
    monkeypatch.setattr("coefvq.data.pairs.pretext.alter_frames", lambda frames, _: frames)
    data = make()
    read = data.clips.__getitems__(range(6))
    place = torch.arange(4).view(1, 4, 1, 1, 1).expand_as(read.frames).to(torch.uint8)
    # Two clips of four frames, two of three, one of two, one of one.
    mask = torch.arange(4)[None] < torch.tensor([4, 4, 3, 3, 2, 1])[:, None]
    numbered = dataclasses.replace(read, frames=place, frame_mask=mask)
    monkeypatch.setattr(ClipDataset, "__getitems__", lambda *_: numbered)
    found = set()
    for epoch in range(40):
        data.set_epoch(epoch)
        batch = data.__getitems__(range(6))
        for row, (one, two) in enumerate(pair.split("|") for pair in batch.ids):
            name = one.split("~")[0]
            if name == two.split("~")[0] and batch.labels[row] == 0:
                sides = (batch.query, batch.candidate)
                shown = [set(side.frames[row].flatten().tolist()) for side in sides]
                assert not shown[0] & shown[1]
                found.add(name)
    assert found == {"c0", "c1", "c2", "c3", "c4"}


def test_sound_is_cut_replaced_or_silent(make):
    data = make()
    whole = data.clips.__getitems__(range(6)).audio_mask.sum(1)
    batch = data.__getitems__(range(6))
    heard = batch.query.audio_mask.sum(1)
    assert (heard <= whole.max()).all() and (heard < whole.max()).any()
    assert batch.query.audio.shape[1:] == (8, batch.query.audio_mask.shape[1])


def test_length_follows_the_part(make):
    data = make()
    seconds = data.clips.__getitems__([0]).seconds
    if seconds is None:
        pytest.skip("nobody has looked how long these clips last")
    batch = data.__getitems__([0])
    assert (batch.query.seconds <= seconds).all() and (batch.query.seconds < seconds).any()
    share_frames(batch.query.frame_mask, batch.candidate.frame_mask, 4, "dynamic",
                 (batch.query.seconds, batch.candidate.seconds))  # fmt: skip


def test_a_loader_makes_other_copies_each_epoch(make):
    loader = make_loader(make(), 3, 0, EpochShuffle(6, 0))
    epochs = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        epochs.append(list(loader))
    assert [len(batch) for batch in epochs[0]] == [PAIRS * 3] * 2
    assert {b.ids for b in epochs[0]} != {b.ids for b in epochs[1]}


def test_workers_know_the_epoch(make):
    """They live on from epoch to epoch."""
    loader = make_loader(make(), 6, 1)
    made = []
    for epoch in range(2):
        loader.dataset.set_epoch(epoch)
        loader.sampler.epoch = epoch
        (batch,) = loader
        made.append(batch.query.frames)
    alone = make()
    for epoch in range(2):
        alone.set_epoch(epoch)
        assert torch.equal(alone.__getitems__(range(6)).query.frames, made[epoch])


def test_groups_and_clips_must_fit(make):
    with pytest.raises(ValueError, match="got 2 groups for 6 clips"):
        make("ab")
