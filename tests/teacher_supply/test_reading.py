"""The cache of another run as the teacher of this one: what must fit, and what is said if not."""

from importlib.metadata import version
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf

from coefvq import pipeline
from coefvq.teacher_cache import CacheIdentity, TeacherCache
from coefvq.teacher_supply.calibration import store_calibration
from coefvq.teacher_supply.outputs import data_parts
from coefvq.teacher_supply.reading import from_cache
from coefvq.teachers.calibrated import Calibration
from coefvq.types import Batch, InputSpec, TaskSpec, TeacherOutput

SPLITS = {"train": "abcd", "val": "ef", "test": "gh"}
FITTED = Calibration((2.0,), clips=2, nll_before=0.9, nll_after=0.6, ece_before=0.2, ece_after=0.1)


def split(ids, view="v"):
    return SimpleNamespace(ids=list(ids), view_names=lambda names: (view,) * len(names))


@pytest.fixture
def data():
    """As much of prepared data as a reader looks at."""
    return SimpleNamespace(
        fingerprint="f" * 32,
        public_fingerprint="a" * 32,
        inputs=InputSpec(),
        task=TaskSpec("bad", "binary", ("good", "bad")),
        whole_split=lambda name, **_: split(SPLITS[name]),
        describe=lambda: {"splits": {name: len(ids) for name, ids in SPLITS.items()}},
    )


def identity_of(data, **changes):
    versions = {name: version(name) for name in ("coefvq", "torch")}
    return CacheIdentity(
        {"teacher": {"name": "toy"}, "dtype": "float32", "versions": versions, **data_parts(data)}
        | changes
    )


@pytest.fixture
def written(data, tmp_path):
    """A cache with a row for each clip but those named: `written("h", features=True)`."""

    def write(without="", *, features=False, **changes):
        cache = TeacherCache(tmp_path / f"cache{len(list(tmp_path.iterdir()))}",
                             identity_of(data, **changes))  # fmt: skip
        ids = [name for name in "abcdefgh" if name not in without]
        vectors = torch.ones(len(ids), 3) if features else None
        with cache.writing():
            cache.add(ids, "v", TeacherOutput(torch.arange(float(len(ids))), vectors))
        return cache

    return write


def read(cache, data, objective=None, **teacher):
    """Read a cache with these words; what was said with it."""
    words = {"path": str(cache.folder), "other_versions": False, "calibration": None, "views": None}
    terms = {"task": {"_target_": "coefvq.losses.SupervisedLoss"}} | (objective or {})
    cfg = OmegaConf.create(
        {"teacher": words | {"kind": "cached", "view_invariant": False} | teacher,
         "objective": {"terms": terms}, "data": {"task": "bad", "root": "here"}}
    )  # fmt: skip
    said = []
    return from_cache(cfg, data, lambda line, **_: said.append(line)), said


def batch(ids):
    frames = torch.zeros(len(ids), 1, 3, 2, 2, dtype=torch.uint8)
    return Batch(tuple(ids), frames, torch.ones(len(ids), 1).bool(), views=("v",) * len(ids))


def test_it_answers_under_the_teachers_own_name(written, data):
    cache = written()
    supply, said = read(cache, data)
    assert supply.ask(batch("cha")).logits.tolist() == [2.0, 7.0, 0.0]
    assert (supply.name, supply.fingerprint) == ("toy", cache.identity.fingerprint)
    assert supply.reused and supply.folder == cache.folder and supply.live == ()
    assert said == [f"teacher  8 rows of {cache.folder}"]


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        (
            {"classes": ["bad", "good"]},
            r"classes: \['good', 'bad'\] -> \['bad', 'good'\]: ours -> it",
        ),
        ({"inputs": InputSpec(num_frames=9).to_dict()}, r"inputs\.num_frames: 4 -> 9: ours -> its"),
        ({"task": "multilabel"}, "task: 'binary' -> 'multilabel': ours -> its"),
        ({"label_range": [1, 5]}, r"label_range: None -> \[1, 5\]"),
        ({"sub_labels": ["crop"]}, r"sub_labels: \[\] -> \['crop'\]"),
        ({"reading": 1}, r"reading: \d -> 1"),
    ],
)
def test_another_task_or_reading_is_refused(written, data, part, sentence):
    with pytest.raises(ValueError, match=f"made for other data or another reading .*{sentence}"):
        read(written(**part), data)


def test_other_versions_are_refused_unless_they_do_not_matter(written, data):
    other = written(versions={"torch": "1.2.3", "coefvq": version("coefvq")})
    with pytest.raises(
        ValueError, match=r"with torch 1\.2\.3 \(here .*\); install .* teacher\.other_versions=true"
    ):
        read(other, data)
    assert read(other, data, other_versions=True)[0].name == "toy"
    # Another build of one release is the same release.
    release = version("torch").partition("+")[0]
    read(written(versions={"torch": f"{release}+cu130"}), data)


def test_a_cache_without_features_cannot_teach_them(written, data):
    wanted = {"distill": {"_target_": "coefvq.losses.FeatureKDLoss"}}
    with pytest.raises(
        ValueError,
        match=r"terms\.distill is a FeatureKDLoss, which reads .* have none \(it holds logits\);",
    ):
        read(written(), data, wanted)
    assert read(written(features=True), data, wanted)[0].name == "toy"


def test_a_cache_that_misses_clips_is_refused_before_training(written, data):
    sentence = (
        r"has no row for 3 of the run's 8 clips, first 'd'; go on with the python -m coefvq.c"
    )
    with pytest.raises(ValueError, match=sentence):
        read(written("dgh"), data)


def test_the_calibration_beside_the_rows_is_applied_where_that_is_said(written, data):
    cache = written()
    plain = cache.lookup(["b", "h"], "v").logits
    with pytest.raises(
        ValueError, match=r"has no calibration beside its rows; fit one with teacher"
    ):
        read(cache, data, calibration="stored")
    store_calibration(cache, FITTED, data.fingerprint)
    supply, said = read(cache, data, calibration="stored")
    assert torch.equal(supply.ask(batch("bh")).logits, plain / 2) and supply.calibration == FITTED
    assert said[-1] == "teacher  its logits are divided by the stored temperature 2.00"
    supply, said = read(cache, data)
    assert torch.equal(supply.ask(batch("bh")).logits, plain) and supply.calibration is None
    assert "teacher.calibration=stored divides them by the temperature 2.00" in said[-1]
    # Fitted by the run itself: what lies there is not looked at.
    supply, said = read(cache, data, calibration="temperature")
    assert supply.calibration is None and len(said) == 1


def test_a_run_without_the_teacher_in_memory(small, opened, tmp_path, monkeypatch):
    first, _, _ = opened("seed=33")
    monkeypatch.setattr("coefvq.teacher_supply.opening.get_teacher", None)
    words = ("+recipe=cpfd", "seed=33", "teacher=cached", f"teacher.path={first.cache.folder}")
    report = pipeline.run(small(*words, folder=tmp_path / "cached"), show=False)
    assert report["teacher_name"] == "df_xvlm"
    assert report["test"]["teacher"]["n"] == 16
    with pytest.raises(ValueError, match=r"made for other data \(data\.split_seed: 34 -> 33: ours"):
        opened("seed=34", *words[2:])
    with pytest.raises(ValueError, match=r"teacher=cached needs teacher\.path"):
        opened("seed=33", "teacher=cached")
    with pytest.raises(ValueError, match="holds no teacher cache"):
        opened("seed=33", "teacher=cached", f"teacher.path={tmp_path}")


def test_a_part_of_the_data_reads_the_cache_of_the_whole(opened):
    first, _, _ = opened("seed=33", "data.pool=60")
    cached = ("seed=33", "teacher=cached", f"teacher.path={first.cache.folder}")
    part, data, _ = opened(*cached, "data.unlabelled=0", "data.pool=60")
    assert data.fingerprint != first.cache.identity.parts["data"]
    batch = next(iter(data.train_dataloader()))
    assert torch.equal(part.ask(batch).logits, first.ask(batch).logits)
    # A clip whose text is another one is another clip.
    identity = first.cache.identity
    changed = TeacherCache(first.cache.folder.parent / "changed", identity)
    with changed.writing():
        for split in ("train", "val", "test"):
            whole = data.whole_split(split)
            batch = whole.__getitems__(range(len(whole.ids)))
            changed.add(batch.ids, batch.views, first.ask(batch), lambda name: "other")
    words = (*cached[:2], f"teacher.path={changed.folder}", "data.unlabelled=0", "data.pool=60")
    with pytest.raises(
        ValueError, match=r"knows 56 of the run's 56 clips, .* with other content or"
    ):
        opened(*words)
    # A clip that the teacher may have been trained on is no test clip of another run.
    with pytest.raises(ValueError, match=r"in another split; .* other data \(data\.pool: 56 -> "):
        opened(*cached, "data.unlabelled=0", "data.pool=56")


def test_a_cache_of_other_views_says_which_it_has(opened):
    words = ("seed=36", "data.train_sampling=random_segments")
    two, _, _ = opened(*words, "teacher.views=2")
    cached = (*words, "teacher=cached", f"teacher.path={two.cache.folder}")
    opened(*cached, "teacher.views=2")
    for other in ("teacher.views=3", "teacher.view_invariant=true"):
        sentence = r"no row for 28 of the run's 60 clips, .* knows that clip in 2 other views, such"
        with pytest.raises(ValueError, match=sentence):
            opened(*cached, other)
