import pytest
import torch

from coefvq.data.decoding import fill_cache
from coefvq.data.frame_cache import FrameCache
from coefvq.data.loader import make_loader
from coefvq.data.loading import ClipDataset, EpochShuffle
from coefvq.data.media import UnreadableClip
from coefvq.data.pairs.dataset import PairDataset, take
from coefvq.data.reader import ClipReader, collate
from coefvq.data.text import Tokens
from coefvq.pairs import Pair, PairBatch
from coefvq.teachers.matchlm import share_frames
from coefvq.types import Clip, InputSpec, TaskSpec

TASK = TaskSpec("reproduced", "binary", ("0", "1"))
INPUTS = InputSpec(num_frames=2, frame_size=16, audio_seconds=0.5, mel_bins=8)


@pytest.fixture
def clips(clip_files):
    return [Clip(f"c{n}", clip_files / f"clip{n:02d}.mp4") for n in range(6)]


@pytest.fixture
def make(clips):
    def build(pairs=None, **options):
        data = ClipDataset(clips, TASK, INPUTS, Tokens(), None,
                           options.pop("sampling", "uniform"), None, **options)  # fmt: skip
        pairs = pairs or [
            Pair("p", clips[0], clips[1], 1.0, {"crop": 1.0}),
            Pair("q", clips[2], clips[1], 0.0, {"crop": 0.0, "flip": 0.0}),
            Pair("r", clips[5], clips[0]),
        ]
        return PairDataset(pairs, data, ("crop", "flip"))

    return build


def test_a_batch_holds_both_sides_and_the_labels(make):
    data = make()
    batch = data.__getitems__([2, 0, 1])
    assert isinstance(batch, PairBatch) and batch.ids == ("r", "p", "q")
    assert batch.query.ids == ("c5", "c0", "c2") and batch.candidate.ids == ("c0", "c1", "c1")
    assert batch.labels.tolist() == [0, 1, 0] and batch.label_mask.tolist() == [False, True, True]
    assert batch.sub_labels.tolist() == [[0, 0], [1, 0], [0, 0]]
    assert batch.sub_label_mask.tolist() == [[False, False], [True, False], [True, True]]
    assert batch.query.labels is None and batch.candidate.label_mask is None
    # Frames of a clip are those of that clip, on either side.
    alone = data.clips.__getitems__([0])
    assert torch.equal(batch.query.frames[1], alone.frames[0])
    assert torch.equal(batch.candidate.frames[0], alone.frames[0])
    assert torch.equal(batch.candidate.audio[0], alone.audio[0])
    assert batch.query.views == (alone.views[0],) * 3


def test_a_clip_is_read_once_per_batch(make, monkeypatch):
    data = make()
    asked = []
    read = data.clips.__getitems__
    monkeypatch.setattr(ClipDataset, "__getitems__", lambda _, i: asked.extend(i) or read(i))
    data.__getitems__([0, 1])
    assert sorted(asked) == [0, 1, 2]


def test_without_sub_labels(make, clips):
    data = PairDataset([Pair("p", clips[0], clips[1], 1.0)], make().clips)
    assert data[0].sub_labels is None and data[0].sub_label_mask is None


def test_a_lost_clip_takes_its_pairs_along(make, clips, tmp_path):
    clips[1] = Clip("c1", tmp_path / "gone.mp4")
    batch = make(on_bad_clip="skip").__getitems__([0, 1, 2])
    assert batch.ids == ("r",) and batch.query.ids == ("c5",) and batch.candidate.ids == ("c0",)
    assert len(batch.labels) == len(batch.sub_labels) == 1
    with pytest.raises(UnreadableClip, match="no pair of a batch could be read"):
        make(on_bad_clip="skip").__getitems__([0, 1])
    with pytest.raises(UnreadableClip):
        make().__getitems__([0])


def test_pairs_of_unknown_clips_are_refused(make, clips):
    with pytest.raises(ValueError, match=r"clips \['x'\] of pairs are not in the data set"):
        make([Pair("p", clips[0], Clip("x", clips[0].path), 1.0)])


def test_the_epoch_reaches_the_clips(make):
    data = make(sampling="random_segments")
    sampler = EpochShuffle(3, 1)
    loader = make_loader(data, 3, 0, sampler)
    drawn = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        (batch,) = loader
        place = batch.ids.index("p")
        drawn.append((batch.ids, batch.query.frames[place]))
    assert torch.equal(drawn[0][1], drawn[2][1]) and drawn[0][0] == drawn[2][0]
    assert not torch.equal(drawn[0][1], drawn[1][1])


def test_take_repeats(make):
    batch = make().clips.__getitems__([0, 1])
    twice = take(batch, torch.tensor([1, 0, 1]))
    assert twice.ids == ("c1", "c0", "c1") and torch.equal(twice.frames[0], twice.frames[2])
    assert twice.labels is None and len(twice.views) == 3


def test_both_sides_say_how_long_they_last_from_the_cache_as_from_the_file(
    write_clip, tmp_path, tone
):
    for number, frames in enumerate((8, 24)):
        write_clip(tmp_path / f"{number}.mp4", frames, sound=tone(300, 1.0))
    clips = [Clip(str(n), tmp_path / f"{n}.mp4") for n in range(2)]
    cache = FrameCache(INPUTS, "uniform", tmp_path / "cache")
    fill_cache(cache, clips, INPUTS, "uniform")
    reader = ClipReader(INPUTS)
    served = PairBatch(("p",), *(collate([reader.read(clip)]) for clip in clips))
    ratio = served.query.seconds / served.candidate.seconds
    assert ratio.item() == pytest.approx(1 / 3)
    for kept in (None, cache):
        data = ClipDataset(clips, TASK, INPUTS, Tokens(), None, "uniform", kept)
        batch = PairDataset([Pair("p", *clips, 1.0)], data)[0].public()
        assert torch.equal(batch.query.seconds, served.query.seconds)
        assert torch.equal(batch.candidate.seconds, served.candidate.seconds)
        # Uniform: as many frames of each clip, and yet not as many are read.
        shared = [
            [int(m.sum()) for m in share_frames(
                batch.query.frame_mask, batch.candidate.frame_mask, 2 * INPUTS.num_frames - 1,
                split, (batch.query.seconds, batch.candidate.seconds),
            )]
            for split in ("dynamic", "static")
        ]  # fmt: skip
        assert shared == [[1, 2], [1, 1]]
