import pytest

from coefvq.data.pairs import shortform_pairs
from coefvq.data.pairs.embedded import TASK, ShortformPairs
from coefvq.data.pairs.manifest import clips_of
from coefvq.data.pairs.plan import TRANSFORMATIONS

SIZES = {"labelled": 8, "unlabelled": 8, "val": 8, "test": 8}


@pytest.fixture(scope="module")
def manifest(pair_pool):
    return ShortformPairs(**SIZES, cache_dir=pair_pool.folder.parents[1]).load()


def test_splits_share_no_source(manifest):
    sources = {
        split: {clip.group for clip in clips_of(manifest.split(split))}
        for split in ("train", "val", "test")
    }
    assert [len(some) for some in sources.values()] == [16, 8, 8]
    assert len(set.union(*sources.values())) == 32


def test_labels(manifest):
    assert manifest.task == TASK and manifest.sub_labels == TRANSFORMATIONS
    train = manifest.split("train")
    unlabelled = [pair for pair in train if pair.label is None]
    assert 0.3 < len(unlabelled) / len(train) < 0.7
    assert all(pair.sub_labels == {} for pair in unlabelled)
    assert len({pair.id for pair in manifest.pairs}) == len(manifest.pairs)
    for split in ("val", "test"):
        labels = [pair.label for pair in manifest.split(split)]
        assert 0.3 < sum(labels) / len(labels) < 0.6
    positives = [p for p in manifest.pairs if p.label == 1 and p.sub_labels]
    assert all(sum(pair.sub_labels.values()) >= 1 for pair in positives)
    assert all(sum(p.sub_labels.values()) == 0 for p in manifest.pairs if p.label == 0)


def test_seeds(pair_pool, manifest):
    home = pair_pool.folder.parents[1]
    again = ShortformPairs(**SIZES, cache_dir=home).load()
    assert again == manifest
    other = ShortformPairs(**SIZES, split_seed=2, cache_dir=home).load()
    assert other.fingerprint != manifest.fingerprint and other.pairs != manifest.pairs


def test_in_one_pool_the_test_stays_the_same(pair_pool):
    home = pair_pool.folder.parents[1]
    sizes = {"val": 8, "test": 8, "pool": 32, "cache_dir": home}
    few = ShortformPairs(labelled=8, unlabelled=0, **sizes).load()
    more = ShortformPairs(labelled=8, unlabelled=8, **sizes).load()
    for split in ("val", "test"):
        assert few.split(split) == more.split(split)
    assert len(few.split("train")) < len(more.split("train"))


def test_sizes_are_checked():
    with pytest.raises(ValueError, match=r"data\.val must be a whole number of at least 1, got 0"):
        ShortformPairs(val=0)
    with pytest.raises(ValueError, match=r"data\.pool=8 is fewer than the 32 sources"):
        ShortformPairs(**SIZES, pool=8)
    assert ShortformPairs(labelled=1, unlabelled=0, val=1, test=1).pool_blocks == 3


def test_from_flat_arguments(pair_pool):
    home = str(pair_pool.folder.parents[1])
    few = {"labelled": 4, "unlabelled": 3, "val": 4, "test": 4}  # sixty clips start no processes
    data = shortform_pairs(
        **few, num_frames=2, frame_size=16, mel_bins=8, batch_size=8, cache_dir=home
    )
    data.prepare()
    batch = next(iter(data.train_dataloader()))
    assert batch.query.frames.shape == batch.candidate.frames.shape == (8, 2, 3, 16, 16)
    assert batch.query.audio.shape == (8, 8, 200) and batch.query.input_ids.shape == (8, 12)
    assert batch.sub_labels.shape == (8, len(TRANSFORMATIONS))
    with pytest.raises(ValueError, match="data options colour are unknown"):
        shortform_pairs(colour=1)
