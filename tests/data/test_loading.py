import dataclasses
import itertools
from pathlib import Path

import pytest
import torch

from coefvq.data.decoding import fill_cache
from coefvq.data.frame_cache import FrameCache
from coefvq.data.loader import make_loader
from coefvq.data.loading import ClipDataset, EpochShuffle, label_tensors
from coefvq.data.media import UnreadableClip
from coefvq.data.privileged import PrivilegedNormalizer
from coefvq.data.reader import ClipReader, collate
from coefvq.data.text import train_tokenizer
from coefvq.types import Clip, InputSpec, TaskSpec

INPUTS = InputSpec(num_frames=2, frame_size=16, audio_seconds=0.5, mel_bins=8, max_text_length=6)
TASK = TaskSpec("t", "binary", ("no", "yes"))


@pytest.fixture
def clips(clip_files):
    return [
        Clip(
            f"c{n}",
            path,
            {"title": "a clip"},
            None if n % 4 == 3 else float(n % 2),
            {"p": float(n)},
        )
        for n, path in enumerate(sorted(clip_files.glob("clip*.mp4")))
    ]


@pytest.fixture
def make(clips, tmp_path):
    tokenizer = train_tokenizer(["a clip", "a clip"], 50)

    def build(clips=clips, sampling="uniform", cached=False, **options):
        cache = None
        if cached:
            cache = FrameCache(INPUTS, sampling, tmp_path)
            fill_cache(cache, clips, INPUTS, sampling)
        return ClipDataset(
            clips,
            TASK,
            INPUTS,
            ClipReader(INPUTS, tokenizer).tokens(clips),
            PrivilegedNormalizer.fit([clip.privileged for clip in clips], ["p"]),
            sampling,
            cache,
            **options,
        )

    return build


def equal(first, second):
    assert first.ids == second.ids
    for name, value in vars(first).items():
        other = getattr(second, name)
        assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other, (
            name
        )


def test_labels_of_every_task():
    def made(labels):
        return [Clip(str(n), Path("x"), label=label) for n, label in enumerate(labels)]

    labels, mask = label_tensors(made([1.0, None, 0.0]), TASK)
    assert labels.dtype == torch.float32 and labels.tolist() == [1, 0, 0]
    assert mask.tolist() == [True, False, True]
    labels, _ = label_tensors(made([2, None]), TaskSpec("t", "multiclass", ("a", "b", "c")))
    assert labels.dtype == torch.int64 and labels.tolist() == [2, 0]
    labels, _ = label_tensors(made([None, (1, 0)]), TaskSpec("t", "multilabel", ("a", "b")))
    assert labels.dtype == torch.float32 and labels.tolist() == [[0, 0], [1, 0]]
    labels, _ = label_tensors(made([1.5]), TaskSpec("t", "regression"))
    assert labels.tolist() == [1.5]


def test_live_equals_cached_to_the_bit(make):
    live, cached = make(), make(cached=True)
    equal(live.__getitems__([5, 0, 3]), cached.__getitems__([5, 0, 3]))
    equal(live[4], cached[4])


def test_a_batch_holds_what_the_reader_gives(make, clips):
    batch = make(cached=True).__getitems__([2, 7])
    tokenizer = train_tokenizer(["a clip", "a clip"], 50)
    samples = [ClipReader(INPUTS, tokenizer).read(clips[n]) for n in (2, 7)]
    equal(batch.public(), collate(samples))
    assert batch.labels.tolist() == [0, 0] and batch.label_mask.tolist() == [True, False]
    # The numbers 0 to 11 have mean 5.5 and variance 143/12.
    assert torch.allclose(
        batch.privileged[:, 0] * (143 / 12) ** 0.5 + 5.5, torch.tensor([2.0, 7.0])
    )
    assert batch.privileged_mask.all()


def order(size=50, seed=1, epoch=0, **options):
    sampler = EpochShuffle(size, seed, **options)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_the_order_depends_on_seed_and_epoch_only():
    assert order() == order() and sorted(order()) == list(range(50))
    torch.manual_seed(5)
    assert order() == order()
    orders = [tuple(order(seed=s, epoch=e)) for s, e in itertools.product(range(4), range(4))]
    assert len(set(orders)) == 16


def test_a_fixed_number_of_labelled_clips_in_every_batch():
    labelled = torch.arange(40) < 6
    options = {"labelled": labelled, "batch_size": 8, "labelled_per_batch": 3}
    sequence = order(40, **options)
    assert len(sequence) == 40
    for start in range(0, 40, 8):
        assert sum(index < 6 for index in sequence[start : start + 8]) == 3
    # Fifteen places for six labelled clips: each comes two or three times.
    counts = [sequence.count(index) for index in range(6)]
    assert set(counts) <= {2, 3}
    assert sequence == order(40, **options) != order(40, epoch=1, **options)
    with pytest.raises(ValueError, match="must be between 1 and 7 for batches of 8, got 8"):
        order(40, labelled=labelled, batch_size=8, labelled_per_batch=8)
    with pytest.raises(ValueError, match="needs labelled and unlabelled training clips"):
        order(40, labelled=labelled | True, batch_size=8, labelled_per_batch=3)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_gives_the_same_batches_with_and_without_workers(make, workers):
    dataset = make(cached=True)
    loader = make_loader(dataset, 5, workers, EpochShuffle(12, 1))
    batches = list(loader)
    assert [len(batch) for batch in batches] == [5, 5]  # the short one is left out in training
    sequence = order(12)
    for number, batch in enumerate(batches):
        equal(batch, dataset.__getitems__(sequence[5 * number : 5 * number + 5]))
    assert [len(batch) for batch in make_loader(dataset, 5, 0)] == [5, 5, 2]


def test_a_set_smaller_than_a_batch_still_trains(make):
    assert [len(batch) for batch in make_loader(make(), 64, 0, EpochShuffle(12, 1))] == [12]


def frames_by_id(loader, epoch):
    loader.sampler.set_epoch(epoch)
    return {i: f for batch in loader for i, f in zip(batch.ids, batch.frames, strict=True)}


@pytest.mark.parametrize("workers", [0, 2])
def test_random_frames_follow_the_epoch_and_nothing_else(make, workers):
    loader = make_loader(make(sampling="random_segments"), 4, workers, EpochShuffle(12, 1))
    first, second = frames_by_id(loader, 0), frames_by_id(loader, 1)
    again = frames_by_id(
        make_loader(make(sampling="random_segments"), 3, 0, EpochShuffle(12, 1)), 1
    )
    assert any(not torch.equal(first[i], second[i]) for i in first)
    assert all(torch.equal(second[i], again[i]) for i in second)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_clip_that_fails_on_the_fly_is_left_out_and_counted(
    make, clips, tmp_path, workers, caplog
):
    path = tmp_path / "bad.mp4"
    path.write_bytes(b"no video")
    mixed = [*clips[:3], Clip("bad", path, label=1.0, privileged={"p": 1.0})]
    dataset = make(mixed, on_bad_clip="skip")
    (batch,) = make_loader(dataset, 4, workers)
    assert batch.ids == ("c0", "c1", "c2") and len(batch.labels) == 3
    assert dataset.lost.tolist() == [False, False, False, True]
    if not workers:
        assert "left out of training: clip" in caplog.text
    with pytest.raises(UnreadableClip, match=str(path)):
        list(make_loader(make(mixed), 4, 0))
    with pytest.raises(UnreadableClip, match="no clip of a batch could be read"):
        list(make_loader(make(mixed[3:], on_bad_clip="skip"), 4, 0))


def test_a_batch_does_not_share_memory_with_the_cache(make):
    dataset = make(cached=True)
    dataset[0].frames.zero_()
    assert dataset[0].frames.float().mean() > 0


def test_spreads_of_opinions_travel_with_the_labels_and_no_further(make, clips):
    assert make()[0].label_std is None
    known = [dataclasses.replace(c, label_std=0.5 if n else None) for n, c in enumerate(clips)]
    batch = make(known).__getitems__([0, 1])
    assert batch.label_std.isnan().tolist() == [True, False] and batch.label_std[1] == 0.5
    assert batch.public().label_std is None


def test_a_numbered_view_shows_the_same_frames_under_every_seed(make):
    """Its name says nothing of a seed, and answers to it are kept under that name."""
    first, second = (make(sampling="random_segments", seed=seed, view=1) for seed in (1, 2))
    everything = list(range(12))
    equal(first.__getitems__(everything), second.__getitems__(everything))
    other = make(sampling="random_segments", view=0)
    assert not torch.equal(
        other.__getitems__(everything).frames, first.__getitems__(everything).frames
    )
    drawn = make(sampling="random_segments", seed=3)
    drawn.views = 2
    views = {name[-1]: dataset for name, dataset in (("#0", other), ("#1", first))}
    for index in everything:
        batch = drawn[index]
        assert torch.equal(batch.frames, views[batch.views[0][-1]][index].frames)
