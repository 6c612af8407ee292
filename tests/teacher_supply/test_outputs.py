import csv

import pytest
import torch

from coefvq import pipeline
from coefvq.teachers.cached import CachedTeacher
from coefvq.teachers.frozen import FrozenTeacher


def losses(folder):
    with (folder / "logs" / "metrics.csv").open() as file:
        return [row["train/loss"] for row in csv.DictReader(file) if row["train/loss"]]


def test_the_cache_is_written_once_and_found_again(opened):
    first, _, said = opened("seed=31")
    assert "64 rows added" in said[-2] and "trained" in said[0]
    assert len(first.cache) == 24 + 8 + 16 + 16
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
        words = ("+recipe=cpfd", "seed=32", "trainer.max_steps=20", f"teacher.cache={cache}")
        pipeline.run(small(*words, folder=tmp_path / cache), show=False)
        runs[cache] = losses(tmp_path / cache)
    assert len(runs["off"]) == 20
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
    assert any("48 rows added" in line for line in said)  # the 16 of validation were there
    assert len(teacher.cache) == 64


def test_a_read_only_cache_is_read(opened, monkeypatch):
    opened("seed=31")

    def refuse(*args, **options):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("coefvq.teacher_cache.cache.FileLock", refuse)
    assert len(opened("seed=31")[0].cache) == 64


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
    assert len(teacher.cache) == 2 * 32 + 32
    live, _, _ = opened(*words[:2], "teacher.cache=off")
    loader, names = data.train_dataloader(), set()
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            names |= set(batch.views)
            assert torch.equal(teacher.ask(batch).logits, live.ask(batch).logits)
    assert len(names) == 2
