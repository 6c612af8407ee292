"""Several processes: every pair once, nothing counted twice, the order of the sampler kept."""

from itertools import chain

import pytest
import torch
from torch.utils.data.distributed import DistributedSampler

from coefvq.data.loader import EpochLoader, make_loader
from coefvq.data.loading import ClipDataset, EpochShuffle
from coefvq.data.pairs.dataset import PairDataset
from coefvq.data.sharing import Repeated, SharedOrder
from coefvq.data.text import Tokens
from coefvq.pairs import Pair
from coefvq.types import Clip, InputSpec, TaskSpec

TASK = TaskSpec("reproduced", "binary", ("0", "1"))
INPUTS = InputSpec(num_frames=2, frame_size=16, audio_seconds=0.5, mel_bins=8)


@pytest.fixture
def pairs_of(clip_files):
    """N pairs over six clips, so that all processes read clips that the others read too."""
    clips = [Clip(f"c{n}", clip_files / f"clip{n:02d}.mp4") for n in range(6)]

    def build(n, unlabelled=0):
        sides = [(a, b) for a in range(6) for b in range(6) if a != b][:n]
        pairs = [
            Pair(f"p{k}", clips[a], clips[b], None if k < unlabelled else float(k % 2),
                 {} if k < unlabelled else {"crop": 1.0})
            for k, (a, b) in enumerate(sides)
        ]  # fmt: skip
        data = ClipDataset(clips, TASK, INPUTS, Tokens(), None, "uniform", None)
        return PairDataset(pairs, data, ("crop",))

    return build


def flat(lists):
    return list(chain.from_iterable(lists))


def as_lightning_does(loader, rank, processes):
    """Make a loader again with a distributed sampler, as Lightning does for each process."""
    given = DistributedSampler(loader.dataset, processes, rank)
    again = EpochLoader(loader.dataset, order=loader.order, sampler=given,
                       batch_size=loader.batch_size, drop_last=loader.drop_last,
                       collate_fn=loader.collate_fn)  # fmt: skip
    assert isinstance(again.sampler, SharedOrder)
    return again


def test_loaders_of_two_processes(pairs_of):
    dataset = pairs_of(13, unlabelled=2)
    whole = make_loader(dataset, 4, 0, EpochShuffle(13, 1))
    both = [as_lightning_does(whole, rank, 2) for rank in (0, 1)]
    batches = [list(loader) for loader in both]
    assert [len(batch) for batch in flat(batches)] == [4, 4] and len(both[0]) == 1
    ids = [name for batch in flat(batches) for name in batch.ids]
    assert len(set(ids)) == 8
    # Both processes read clips that the other reads, and each gets that clip's own frames.
    clips = [{*batch[0].query.ids, *batch[0].candidate.ids} for batch in batches]
    shared = sorted(clips[0] & clips[1])
    assert shared
    for batch in flat(batches):
        for side in (batch.query, batch.candidate):
            for name, frames in zip(side.ids, side.frames, strict=True):
                (alone,) = dataset.clips[dataset.clips.ids.index(name)].frames
                assert torch.equal(frames, alone)


def test_labels_of_a_repeated_pair_are_hidden(pairs_of):
    dataset = pairs_of(5)
    loaders = [as_lightning_does(make_loader(dataset, 2, 0), rank, 2) for rank in (0, 1)]
    batches = [list(loader) for loader in loaders]
    assert [[len(b) for b in some] for some in batches] == [[2, 1], [2, 1]]
    counted = [n for b in flat(batches) for n, c in zip(b.ids, b.label_mask, strict=True) if c]
    assert sorted(counted) == [f"p{k}" for k in range(5)]
    hidden = batches[1][0]
    assert hidden.label_mask.tolist() == [False, True]
    assert hidden.sub_label_mask.tolist() == [[False], [True]]
    # In front, so that no batch is of repeated pairs alone.
    assert all(batch.label_mask.any() for batch in flat(batches))


def test_a_repeated_clip_is_hidden_and_its_own_place_is_not(clip_files):
    clips = [Clip(f"c{n}", clip_files / f"clip{n:02d}.mp4", label=float(n % 2)) for n in range(3)]
    dataset = ClipDataset(clips, TASK, INPUTS, Tokens(), None, "uniform", None)
    loaders = [as_lightning_does(make_loader(dataset, 4, 0), rank, 2) for rank in (0, 1)]
    (first,), (second,) = (list(loader) for loader in loaders)
    assert first.ids == ("c0", "c2") and first.label_mask.all()
    assert second.ids == ("c0", "c1") and second.label_mask.tolist() == [False, True]
    both = dataset.__getitems__([Repeated(0), 0])
    assert both.ids == ("c0", "c0") and both.label_mask.tolist() == [False, True]


def test_the_share_of_labelled_pairs_holds_in_every_process(pairs_of):
    dataset = pairs_of(24, unlabelled=18)
    order = EpochShuffle(24, 1, labelled=dataset.label_mask, batch_size=4, labelled_per_batch=2)
    loaders = [as_lightning_does(make_loader(dataset, 4, 0, order), r, 2) for r in (0, 1)]
    drawn = set()
    for epoch in range(4):
        for loader in loaders:
            loader.sampler.set_epoch(epoch)
            for batch in loader:
                assert int(batch.label_mask.sum()) == 2
                drawn |= set(batch.ids)
    assert len(drawn) == 24  # not the same unlabelled pairs in every epoch


def test_one_process_is_left_as_it_was(pairs_of):
    order = EpochShuffle(13, 1)
    loader = make_loader(pairs_of(13), 4, 0, order)
    assert loader.sampler is order and len(loader) == 3


def test_the_epoch_is_that_of_the_first_batch(pairs_of, monkeypatch):
    """A resumed run makes the iterator first and sets the epoch then."""
    seen = []
    monkeypatch.setattr(PairDataset, "set_epoch", lambda _, epoch: seen.append(epoch))
    loader = make_loader(pairs_of(8), 4, 0, EpochShuffle(8, 1))
    started = iter(loader)
    loader.sampler.set_epoch(3)
    found = [batch.ids for batch in started]
    assert seen == [3]
    assert found == [batch.ids for batch in loader]
