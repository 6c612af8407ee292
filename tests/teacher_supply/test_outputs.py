"""A live teacher's answers on disk: what they depend on, when they are written and found."""

import csv
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from coefvq import pipeline
from coefvq.teacher_supply.outputs import cache_folder, data_parts, identity_of, views_to_cache
from coefvq.teachers.cached import CachedTeacher
from coefvq.teachers.frozen import FrozenTeacher
from coefvq.types import InputSpec, TaskSpec


def losses(folder):
    with (folder / "logs" / "metrics.csv").open() as file:
        return [row["train/loss"] for row in csv.DictReader(file) if row["train/loss"]]


def words(**changes):
    """As much of a config as an identity depends on."""
    cfg = {
        "teacher": {"name": "toy", "kind": "model", "cache_dtype": "float32", "views": None,
                    "view_invariant": False, "inputs": "whole"},
        "trainer": {"precision": "32-true"}, "data": {"val": 2}, "cache_dir": "there",
    }  # fmt: skip
    made = OmegaConf.create(cfg)
    for name, value in changes.items():
        OmegaConf.update(made, name.replace("__", "."), value)
    return made


def data_of(**changes):
    """As much of prepared data; a split is named by how it is shown."""
    values = {
        "fingerprint": "f" * 32,
        "public_fingerprint": "a" * 32,
        "inputs": InputSpec(),
        "task": TaskSpec("bad", "binary", ("good", "bad")),
        "whole_split": lambda name, **how: (name, how),
        "describe": lambda: {"splits": {"val": 2}},
    }
    return SimpleNamespace(**(values | changes))


def network(weight=1.0, config=None):
    module = nn.Linear(2, 1)
    module.register_buffer("seen", torch.tensor(True))
    nn.init.constant_(module.weight, weight)
    nn.init.zeros_(module.bias)
    module.config = {"width": 2} if config is None else config
    return module


def test_all_that_an_answer_depends_on_is_in_its_identity():
    plain = identity_of(words(), data_of(), [network()])
    assert identity_of(words(), data_of(), [network()]).fingerprint == plain.fingerprint
    assert plain.about == {"data": {"val": 2}, "splits": {"val": 2}}
    shown = data_of(inputs=InputSpec(num_frames=9))
    ranged = data_of(task=TaskSpec("mos", "regression", (), (1, 5)))
    others = {
        "teacher.name": identity_of(words(teacher__name="other"), data_of(), [network()]),
        "teacher.config.width": identity_of(words(), data_of(), [network(config={"width": 3})]),
        "teacher.folds": identity_of(words(), data_of(), [network()], "two folds"),
        "weights": identity_of(words(), data_of(), [network(1.0 + 2e-7)]),
        "data": identity_of(words(), data_of(fingerprint="e" * 32), [network()]),
        "inputs.num_frames": identity_of(words(), shown, [network()]),
        "label_range": identity_of(words(), ranged, [network()]),
        "sub_labels": identity_of(words(), data_of(sub_labels=("crop",)), [network()]),
        "dtype": identity_of(words(teacher__cache_dtype="float16"), data_of(), [network()]),
        "precision": identity_of(words(trainer__precision="bf16-mixed"), data_of(), [network()]),
    }
    for part, other in others.items():
        differing = [line.partition(":")[0] for line in plain.differences(other)]
        assert part in differing, part
        assert differing == [part] or part == "label_range"
    assert len({other.fingerprint for other in others.values()} | {plain.fingerprint}) == 11
    # A buffer is a weight, and who of several teachers it is counts.
    seen = network()
    seen.seen.fill_(False)
    pairs = ([network(), network(2.0)], [network(2.0), network()], [seen, network(2.0)])
    assert len({identity_of(words(), data_of(), pair).fingerprint for pair in pairs}) == 3


def test_parts_that_are_known_without_the_teacher():
    parts = data_parts(data_of(task=TaskSpec("mos", "regression", (), (1, 5))))
    assert (parts["task"], parts["classes"], parts["label_range"]) == ("regression", [], [1.0, 5.0])
    assert (parts["data"], parts["sub_labels"]) == ("f" * 32, [])
    assert parts["inputs"] == InputSpec().to_dict() and data_parts(data_of())["label_range"] is None


def test_a_cache_lies_under_its_teachers_name_and_the_identitys_fingerprint(tmp_path):
    identity = identity_of(words(), data_of(), [network()])
    folder = cache_folder(words(cache_dir=str(tmp_path)), identity)
    assert folder == tmp_path / "teacher_outputs" / f"toy-{identity.fingerprint[:16]}"


def test_which_views_are_kept():
    held = [("val", {}), ("test", {})]
    assert views_to_cache(words(), data_of()) == ([("train", {}), *held], None)
    drawn = data_of(inputs=InputSpec(sampling="per_second", train_sampling="random_segments"))
    with pytest.raises(ValueError, match=r"teacher\.views=8 .*, or teacher\.cache=off"):
        views_to_cache(words(), drawn)
    found = views_to_cache(words(teacher__views=2), drawn)
    assert found == ([("train", {"view": 0}), ("train", {"view": 1}), *held], None)
    assert drawn.train_views == 2
    found, view = views_to_cache(words(teacher__view_invariant=True), drawn)
    assert found == [("train", {"sampling": "per_second"}), *held]
    assert view == "per_second-4x128-crop"


def test_the_cache_is_written_once_and_found_again(opened):
    first, _, said = opened("seed=31")
    assert "60 rows added" in said[-2] and "trained" in said[0]
    assert len(first.cache) == 24 + 4 + 16 + 16
    second, data, said = opened("seed=31")
    assert "reused: " in said[-2] and second.cache.folder == first.cache.folder
    assert isinstance(second.ask, CachedTeacher)
    batch = next(iter(data.train_dataloader()))
    output = second.ask(batch)
    assert output.logits.shape == (8,) and output.features.shape[0] == 8


def test_off_asks_live(opened):
    teacher, data, said = opened("seed=31", "teacher.cache=off")
    assert teacher.cache is None and isinstance(teacher.ask, FrozenTeacher)
    assert not any("cache" in line for line in said)
    assert teacher.ask(next(iter(data.val_dataloader()))).features is not None


def test_live_equals_cached_to_the_bit(small, tmp_path):
    runs = {}
    for cache in ("auto", "off"):
        words = ("+recipe=cpfd", "seed=32", "trainer.max_steps=8", f"teacher.cache={cache}")
        pipeline.run(small(*words, folder=tmp_path / cache), show=False)
        runs[cache] = losses(tmp_path / cache)
    assert len(runs["off"]) == 8
    assert runs["auto"] == runs["off"]


def test_an_odd_batch_size_changes_no_bit(opened):
    cached, data, _ = opened("seed=32", "data.batch_size=7")
    live, _, _ = opened("seed=32", "data.batch_size=7", "teacher.cache=off")
    for batch in data.train_dataloader():
        assert len(batch) == 7
        assert torch.equal(cached.ask(batch).logits, live.ask(batch).logits)
        assert torch.equal(cached.ask(batch).features, live.ask(batch).features)


def test_half_precision_says_what_it_costs_also_when_it_is_found(opened):
    for _ in range(2):
        _, _, said = opened("seed=31", "teacher.cache_dtype=float16")
        (line,) = [line for line in said if line.startswith("cache")]
        assert "float16 moves logits by up to " in line and " and features by up to " in line


def test_another_weight_of_the_sweep_pays_no_teacher(small, tmp_path, monkeypatch):
    words = ("+recipe=cpfd", "seed=32", "objective.distill_weight=0.7")
    pipeline.run(small(*words, folder=tmp_path / "a"), show=False)
    monkeypatch.setattr(FrozenTeacher, "__call__", None)  # nobody asks it again
    report = pipeline.run(
        small(*words[:2], "objective.distill_weight=0.3", folder=tmp_path / "b"), show=False
    )
    assert set(report["test"]) == {"student", "teacher", "agreement"}


def test_a_useless_teacher_is_not_asked_about_all_clips(opened, monkeypatch):
    monkeypatch.setattr("coefvq.teacher_supply.preflight.MIN_LABELS", 8)
    words = ("seed=39", "teacher.baseline=1.0")
    with pytest.raises(ValueError, match=r"teacher\.preflight=false"):
        opened(*words)
    teacher, _, said = opened(*words, "teacher.preflight=false")
    assert any("44 rows added" in line for line in said)  # the 16 of validation were there
    assert len(teacher.cache) == 60


def test_a_read_only_cache_is_read(opened, monkeypatch):
    opened("seed=31")

    def refuse(*args, **options):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("coefvq.teacher_cache.cache.FileLock", refuse)
    assert len(opened("seed=31")[0].cache) == 60


def test_other_weights_make_another_cache(opened):
    first, _, _ = opened("seed=31")
    second, _, _ = opened("seed=31", "++teacher.training.max_steps=3")
    half, _, _ = opened("seed=31", "teacher.cache_dtype=float16")
    folders = {supply.cache.folder for supply in (first, second, half)}
    assert len(folders) == 3
    differing = first.cache.identity.differences(second.cache.identity)
    assert [line.split(":")[0] for line in differing] == ["weights"]
    assert half.cache.identity.parts["dtype"] == "float16"


def test_random_frames_need_a_word(opened):
    words = ("seed=31", "data.train_sampling=random_segments")
    with pytest.raises(ValueError, match=r"set teacher\.views=8 .* teacher\.view_invariant=true"):
        opened(*words)
    invariant, data, _ = opened(*words, "teacher.view_invariant=true")
    batch = next(iter(data.train_dataloader()))
    assert batch.views is None and invariant.ask(batch).logits.shape == (8,)


def test_one_of_several_views_is_drawn_and_looked_up(opened):
    words = ("seed=36", "data.train_sampling=random_segments", "teacher.views=2")
    teacher, data, _ = opened(*words)
    assert len(teacher.cache) == 2 * 28 + 32
    live, _, _ = opened(*words[:2], "teacher.cache=off")
    loader, names = data.train_dataloader(), set()
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            names |= set(batch.views)
            assert torch.equal(teacher.ask(batch).logits, live.ask(batch).logits)
    assert len(names) == 2
