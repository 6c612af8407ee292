import inspect
import math

import numpy as np
import pandas
import pytest
import torch

import coefvq.data.shortform as shortform
from coefvq.data.shortform import Shortform, shortform_data
from coefvq.data.shortform.data import LOG1P, PRIVILEGED
from coefvq.data.shortform.history import NAMES
from coefvq.data.shortform.make import ENCODER, REFERENCE
from coefvq.data.shortform.sources import SAME_PICTURES
from coefvq.data.shortform.tasks import NOISE, TASKS, make_labels

SIZES = {"labelled": 10, "unlabelled": 6, "val": 5, "test": 7}
FEW = SIZES | {"pool": 32}


def load(task="degraded", **options):
    return Shortform(task, **(FEW | options)).load()


def ids(manifest, split, labelled=None):
    return [
        clip.id
        for clip in manifest.split(split)
        if labelled is None or (clip.label is not None) is labelled
    ]


@pytest.fixture(autouse=True)
def _clips_are_there(pool, table):
    """Every test reads the session's pool and none makes its own."""


class TestSplits:
    @pytest.mark.parametrize("task", TASKS)
    def test_have_their_sizes_and_share_no_clip(self, task):
        manifest = load(task)
        parts = [
            ids(manifest, "train", True), ids(manifest, "train", False),
            ids(manifest, "val"), ids(manifest, "test"),
        ]  # fmt: skip
        assert [len(part) for part in parts] == [10, 6, 5, 7]
        assert len(set().union(*parts)) == len(manifest.clips) == 28
        assert manifest.task == TASKS[task]
        assert all(clip.label is not None for s in ("val", "test") for clip in manifest.split(s))

    def test_are_the_same_clips_for_every_task_of_classes(self):
        classes = [task for task in TASKS if task != "quality"]
        assert len({tuple(clip.id for clip in load(task).clips) for task in classes}) == 1

    def test_follow_split_seed(self):
        first, again, other = (load(split_seed=seed) for seed in (1, 1, 2))
        assert repr(first) == repr(again)  # NaN is not equal to itself
        assert ids(first, "test") != ids(other, "test")

    def test_clips_are_those_of_the_table(self, table, clip_path):
        for clip in load().clips:
            row = table.iloc[int(clip.id.rpartition("-")[2])]
            assert clip.path == clip_path(row["index"]) and clip.path.is_file()
            assert clip.id == f"shortform-0-{row['index']:06d}"
            assert clip.text == {"title": row["title"]}
            for name, value in clip.privileged.items():
                assert value == row[name] or (math.isnan(value) and math.isnan(row[name]))

    @pytest.mark.parametrize("sizes", [{"labelled": 4}, {"unlabelled": 0}, {"labelled": 14}])
    def test_of_one_pool_keep_test_and_validation(self, sizes):
        usual, other = load(), load(**sizes)
        for split in ("val", "test"):
            assert repr(usual.split(split)) == repr(other.split(split))

    def test_with_more_labelled_clips_keep_the_first(self):
        assert ids(load(labelled=14), "train", True)[:10] == ids(load(), "train", True)

    def test_without_a_pool_take_just_what_they_need(self, made_counts):
        load(pool=None)
        load()
        assert made_counts == [28, 32]


@pytest.fixture
def made_counts(monkeypatch):
    """How many clips were asked for."""
    counts = []
    ensure = shortform.data.Pool.ensure

    def counting(self, count, workers=None):
        counts.append(count)
        return ensure(self, count, workers)

    monkeypatch.setattr(shortform.data.Pool, "ensure", counting)
    return counts


class TestLabels:
    @pytest.mark.parametrize("task", TASKS)
    def test_of_the_test_split_are_gold(self, task, table):
        gold = make_labels(table, task, NOISE["none"], np.random.default_rng(0))
        for noise in NOISE:
            for clip in load(task, label_noise=noise).split("test"):
                assert clip.label == gold[int(clip.id.rpartition("-")[2])]

    @pytest.mark.parametrize("task", TASKS)
    def test_without_noise_are_gold_everywhere(self, task, table):
        gold = make_labels(table, task, NOISE["none"], np.random.default_rng(0))
        for clip in load(task, label_noise="none").clips:
            assert clip.label in (None, gold[int(clip.id.rpartition("-")[2])])

    def test_with_noise_err_in_training_and_validation(self):
        sizes = {"labelled": 14, "unlabelled": 0, "val": 14, "test": 4}
        for split in ("train", "val"):
            noisy, gold = (
                [c.label for c in load("artefacts", label_noise=n, **sizes).split(split)]
                for n in ("heavy", "none")
            )
            assert noisy != gold

    def test_of_two_tasks_err_apart(self):
        def wrong(task):
            noisy, gold = (
                [c.label for c in load(task, label_noise=n).clips] for n in ("heavy", "none")
            )
            return [a != b for a, b in zip(noisy, gold, strict=True)]

        assert wrong("title_mismatch") != wrong("bad_sound")

    def test_do_not_depend_on_what_the_teacher_sees(self):
        first, second = load(privileged="full"), load(privileged="history")
        assert [c.label for c in first.clips] == [c.label for c in second.clips]


class TestPrivileged:
    @pytest.mark.parametrize(
        ("mode", "names"),
        [
            ("full", (*REFERENCE, *ENCODER, *NAMES)),
            ("encoder", (*REFERENCE, *ENCODER)),
            ("history", NAMES),
        ],
    )
    def test_features_are_those_of_the_mode(self, mode, names):
        manifest = load(privileged=mode)
        assert manifest.privileged_names == names == PRIVILEGED[mode]
        assert all(tuple(clip.privileged) == names for clip in manifest.clips)
        assert manifest.log1p == tuple(name for name in LOG1P if name in names)

    def test_the_labels_own_scales_are_no_features(self, table):
        scales = {"distance", "sound_distance", "mismatch", "index", "kind", "title"}
        scales |= {name for name in table if name.startswith("dose_")}
        for mode in PRIVILEGED:
            assert not scales & set(PRIVILEGED[mode])
        assert scales | set(PRIVILEGED["full"]) == set(table)


class TestFingerprint:
    @pytest.mark.parametrize(
        "change",
        [
            {"task": "level"},
            {"labelled": 9},
            {"unlabelled": 5},
            {"val": 4},
            {"test": 6},
            {"privileged": "history"},
            {"label_noise": "none"},
            {"seed": 1},
            {"split_seed": 2},
            {"pool": 31},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_changes_with_each_option(self, change):
        assert Shortform(**(FEW | change)).fingerprint != Shortform(**FEW).fingerprint

    def test_covers_every_option(self):
        options = set(inspect.signature(Shortform).parameters) - {"cache_dir"}
        assert options == {"task", "privileged", "label_noise", "seed", "split_seed", *FEW}

    def test_is_the_manifest_s_and_not_the_folder_s(self, tmp_path):
        source = Shortform(**FEW)
        assert source.load().fingerprint == source.fingerprint
        assert Shortform(**FEW, cache_dir=tmp_path).fingerprint == source.fingerprint
        assert len(source.fingerprint) == 32 and int(source.fingerprint, 16) >= 0

    def test_of_the_needed_pool_is_that_of_none(self):
        assert Shortform(**SIZES).fingerprint == Shortform(**SIZES, pool=28).fingerprint


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            ({"task": "funny"},
             r"data\.task=funny is unknown; choose one of degraded, level, artefacts, bad_sound, "
             r"title_mismatch"),
            ({"privileged": "all"},
             r"data\.privileged=all is unknown; choose one of full, encoder, history"),
            ({"label_noise": "loud"},
             r"data\.label_noise=loud is unknown; choose one of none, normal, heavy"),
            ({"labelled": 0}, r"data\.labelled must be .*at least 1, got 0"),
            ({"val": 0}, r"data\.val must be .*at least 1, got 0"),
            ({"test": -3}, r"data\.test must be .*at least 1, got -3"),
            ({"unlabelled": -1}, r"data\.unlabelled must be .*at least 0, got -1"),
            ({"labelled": 10.5}, r"data\.labelled must be a whole number.*, got 10\.5"),
            ({"seed": -1}, r"data\.seed must be .*at least 0, got -1"),
            ({"split_seed": -1}, r"data\.split_seed must be .*at least 0, got -1"),
            ({"pool": 27},
             r"data\.pool=27 is fewer than the 28 clips that labelled, unlabelled, val and test "
             r"add up to; raise it or ask for fewer"),
            ({"pool": 0}, r"data\.pool=0 is fewer than the 28 clips"),
        ],
    )  # fmt: skip
    def test_each_mistake_gets_a_sentence(self, options, sentence):
        with pytest.raises(ValueError, match=sentence) as error:
            Shortform(**(FEW | options))
        assert "\n" not in str(error.value)
        with pytest.raises(ValueError, match=sentence):
            shortform_data(**(FEW | options))

    def test_an_unknown_option_is_named(self):
        with pytest.raises(ValueError, match="data options colour are unknown"):
            shortform_data(**FEW, colour="red")


class TestDataModule:
    @pytest.fixture(scope="class")
    @classmethod
    def data(cls, pool, home):
        data = shortform_data(**FEW, batch_size=4, cache_dir=home)
        data.prepare()
        return data

    def test_gives_batches_of_real_clips(self, data):
        batch = next(iter(data.test_dataloader()))
        assert batch.frames.shape == (4, 2, 3, 128, 128) and batch.frames.dtype == torch.uint8
        assert batch.audio.shape == (4, 64, 200) and batch.input_ids.shape == (4, 12)
        assert batch.privileged.shape == (4, 16) and batch.label_mask.all()
        assert batch.frames.float().std() > 10 and batch.audio_mask.any(1).all()

    def test_marks_missing_features_and_labels(self, data):
        batches = list(data.train_dataloader())
        observed = torch.cat([batch.privileged_mask for batch in batches])
        assert sum(int(batch.label_mask.sum()) for batch in batches) == 10
        names = list(data.privileged_names)
        assert observed[:, [names.index(n) for n in ENCODER]].all()
        assert not observed.all(), "some of 16 clips lack something"
        for group in (REFERENCE, NAMES):
            columns = observed[:, [names.index(n) for n in group]]
            assert torch.equal(columns.all(1), columns.any(1))

    def test_describes_its_splits(self, data):
        told = data.describe()
        assert told["task"] == "degraded" and told["privileged"] == 16 and not told["skipped"]
        assert set(told["splits"]) == {"train", "val", "test"}

    def test_titles_fit(self, data):
        lengths = torch.cat([batch.text_mask.sum(1) for batch in data.test_dataloader()])
        assert lengths.min() >= 4 and lengths.max() <= 12

    def test_options_reach_their_owners(self):
        data = shortform_data(
            **FEW, seed=3, order_seed=9, num_frames=3, audio=False, train_sampling="random_segments"
        )
        assert (data.source.seed, data.seed) == (3, 9)
        assert data.inputs.num_frames == 3 and not data.inputs.audio
        assert data.inputs.train_sampling == "random_segments"
        assert data.inputs.sampling == "uniform"


def test_the_package_offers_both_names():
    assert shortform.Shortform is Shortform and shortform.shortform_data is shortform_data
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        shortform.nothing  # noqa: B018


def test_quality_has_a_range_opinions_and_no_privileged_twin():
    manifest = load("quality")
    assert manifest.task.label_range == (1.0, 5.0)
    by_split = {split: manifest.split(split) for split in ("train", "val", "test")}
    assert all(c.label_std is not None for c in by_split["train"] if c.label is not None)
    assert all(c.label_std is None for c in [*by_split["test"], *by_split["train"][10:]])
    assert {"distance", "sound_distance"}.isdisjoint(manifest.privileged_names)
    assert load("quality", split_seed=2).fingerprint != manifest.fingerprint
    assert [c.label for c in load("quality").clips] == [c.label for c in manifest.clips]


def test_scores_are_judged_on_content_that_was_not_trained_on(table):
    manifest = load("quality", seed=0)
    kinds = table["kind"].to_dict()
    for clip in manifest.clips:
        kind = kinds[int(clip.id.rpartition("-")[2])]
        assert clip.group == (kind if kind in SAME_PICTURES else None)
        assert clip.group is None or clip.split == "train"
    assert {clip.group for clip in manifest.clips} == {None, *SAME_PICTURES}
    assert {clip.group for clip in load("degraded").clips} == {None}


def test_noisy_scores_are_said_to_be_lower_than_gold():
    noisy, plain = Shortform("quality"), Shortform("quality", label_noise="none")
    assert "simulated opinions" in noisy.labels_note and "gold" in noisy.labels_note
    assert plain.labels_note is None and Shortform("degraded").labels_note is None
    table = pandas.DataFrame({"distance": np.linspace(0, 4, 400)})
    rng = np.random.default_rng(0)
    gold = np.array(make_labels(table, "quality", NOISE["none"], rng))
    opinions = np.array(make_labels(table, "quality", NOISE["normal"], rng))
    assert (opinions - gold)[gold > 4.5].mean() < -0.3
