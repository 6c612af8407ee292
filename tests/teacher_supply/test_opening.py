import csv
import json

import pytest
import torch

from coefvq import engine, pipeline
from coefvq.cache_teacher import cache_teacher
from coefvq.prepare import prepared_data
from coefvq.teacher_cache import TeacherCache
from coefvq.teacher_supply.opening import open_teacher
from coefvq.teachers.cached import CachedTeacher
from coefvq.teachers.frozen import FrozenTeacher


@pytest.fixture(autouse=True)
def _quiet():
    engine.quiet()


@pytest.fixture
def opened(small, tmp_path):
    """Open the teacher of a small run: `opened("seed=5") -> supply, data, lines said`."""

    def make(*words, recipe="cpfd"):
        cfg, said = small(f"+recipe={recipe}", *words, folder=tmp_path / "run"), []
        data = prepared_data(cfg)
        return open_teacher(cfg, data, lambda line, **_: said.append(line)), data, said

    return make


def losses(folder):
    with (folder / "logs" / "metrics.csv").open() as file:
        return [row["train/loss"] for row in csv.DictReader(file) if row["train/loss"]]


def test_no_teacher_is_none(opened):
    assert opened(recipe="supervised")[0] is None


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
    first, _, _ = opened("seed=33", "data.pool=64")
    cached = ("seed=33", "teacher=cached", f"teacher.path={first.cache.folder}")
    part, data, _ = opened(*cached, "data.unlabelled=4", "data.pool=64")
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
    words = (*cached[:2], f"teacher.path={changed.folder}", "data.unlabelled=4", "data.pool=64")
    with pytest.raises(
        ValueError, match=r"knows 60 of the run's 60 clips, .* with other content or"
    ):
        opened(*words)
    # A clip that the teacher may have been trained on is no test clip of another run.
    with pytest.raises(ValueError, match=r"in another split; .* other data \(data\.pool: 60 -> "):
        opened(*cached, "data.unlabelled=4", "data.pool=60")


def test_other_versions_are_refused_unless_they_do_not_matter(opened, monkeypatch):
    first, _, _ = opened("seed=33")
    words = ("seed=33", "teacher=cached", f"teacher.path={first.cache.folder}")
    with monkeypatch.context() as patch:
        patch.setattr("coefvq.teacher_supply.reading.version", lambda name: "1.2.3")
        with pytest.raises(
            ValueError, match=r"torch .* \(here 1\.2\.3\).* teacher\.other_versions"
        ):
            opened(*words)
        assert len(opened(*words, "teacher.other_versions=true")[0].cache) == 64
        # Another build of one release is the same release.
        its = first.cache.identity.parts["versions"]
        patch.setattr(
            "coefvq.teacher_supply.reading.version",
            lambda name: its[name].partition("+")[0] + "+cu130",
        )
        opened(*words)


def test_a_cache_without_features_cannot_teach_them(opened):
    folds, _, _ = opened("seed=40", "teacher.folds=2")
    words = ("seed=40", "teacher=cached", f"teacher.path={folds.cache.folder}")
    with pytest.raises(
        ValueError, match=r"FeatureKDLoss, which reads .* have none \(it holds logit"
    ):
        opened(*words, recipe="feature_kd")


def test_a_cache_of_other_views_says_which_it_has(opened):
    words = ("seed=36", "data.train_sampling=random_segments")
    two, _, _ = opened(*words, "teacher.views=2")
    cached = (*words, "teacher=cached", f"teacher.path={two.cache.folder}")
    opened(*cached, "teacher.views=2")
    for other in ("teacher.views=3", "teacher.view_invariant=true"):
        sentence = r"no row for 32 of the run's 64 clips, .* knows that clip in 2 other views, such"
        with pytest.raises(ValueError, match=sentence):
            opened(*cached, other)


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


def test_a_cache_that_misses_clips_is_refused_before_training(opened, tmp_path):
    first, data, _ = opened("seed=33")
    part = TeacherCache(tmp_path / "part", first.cache.identity)
    batch = next(iter(data.val_dataloader()))
    with part.writing():
        part.add(batch.ids, batch.views, first.ask(batch))
    with pytest.raises(ValueError, match=r"has no row for 56 of the run's 64 clips"):
        opened("seed=33", "teacher=cached", f"teacher.path={part.folder}")


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


def test_cache_teacher_scores_what_it_kept(small, tmp_path):
    said = []
    cfg = small("+recipe=cpfd", "seed=35", folder=tmp_path / "run")
    result = cache_teacher(cfg, lambda line, **_: said.append(line))
    assert result["rows"] == 64 and 0 < result["bytes_per_row"] < 5000
    assert result["test"]["n"] == 16 and "average_precision" in result["val"]
    report = pipeline.run(small("+recipe=cpfd", "seed=35", folder=tmp_path / "run"), show=False)
    assert report["paths"]["cache"] == result["folder"]
    written = json.loads((tmp_path / "run" / "report.json").read_text())
    assert written["test"]["teacher"]["f1"] == pytest.approx(result["test"]["f1"])
    for words, sentence in [
        (("+recipe=supervised",), "teacher=none has no model to ask"),
        (("+recipe=cpfd", "teacher.cache=off"), "keeps nothing"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            cache_teacher(small(*words, folder=tmp_path / "x"), print)


def test_out_of_fold_teachers_answer_for_what_they_have_not_seen(opened):
    teacher, data, said = opened("seed=37", "teacher.folds=2")
    assert sum("fold" in line and "trained" in line for line in said) == 2
    again, _, said = opened("seed=37", "teacher.folds=2")
    assert sum("reused" in line for line in said) == 3 and again.reused
    whole, _, _ = opened("seed=37")
    assert whole.cache.folder != teacher.cache.folder
    assert teacher.cache.identity.parts["teacher"]["folds"] is not None
    batch = next(iter(data.labelled_dataloader()))
    assert not torch.equal(teacher.ask(batch).logits, whole.ask(batch).logits)
    with pytest.raises(ValueError, match=r"teacher\.folds trains teachers of its own"):
        opened("seed=37", "teacher.folds=2", f"teacher.checkpoint={whole.folder}")


def test_a_temperature_is_fitted_said_and_reported(opened, small, tmp_path):
    words = ("seed=31", "teacher.calibration=temperature")
    teacher, data, said = opened(*words)
    plain, _, _ = opened("seed=31")
    assert any("temperature" in line for line in said)
    assert teacher.cache.folder == plain.cache.folder  # fitted to the same answers
    batch = next(iter(data.val_dataloader()))
    (temperature,) = teacher.calibration.temperatures
    torch.testing.assert_close(teacher.ask(batch).logits, plain.ask(batch).logits / temperature)
    report = pipeline.run(small("+recipe=cpfd", *words, folder=tmp_path / "r"), show=False)
    assert report["teacher_calibration"]["temperatures"] == [temperature]
    # Whoever reads the cache without the teacher says whether what lies beside it is applied, so
    # that the same words never give other numbers because somebody has fitted something since.
    cached = ("seed=31", "teacher=cached", f"teacher.path={teacher.cache.folder}")
    read, _, said = opened(*cached, "teacher.calibration=stored")
    assert any("divided by the stored temperature" in line for line in said)
    assert read.calibration == teacher.calibration
    assert torch.equal(read.ask(batch).logits, teacher.ask(batch).logits)
    raw, _, said = opened(*cached)
    assert raw.calibration is None and any("teacher.calibration=stored" in line for line in said)
    assert torch.equal(raw.ask(batch).logits, plain.ask(batch).logits)
    again, _, _ = opened(*cached, "teacher.calibration=temperature")
    assert again.calibration == teacher.calibration


def test_a_stored_temperature_that_is_not_there_is_said(opened):
    first, _, _ = opened("seed=33")
    words = ("seed=33", "teacher=cached", f"teacher.path={first.cache.folder}")
    with pytest.raises(ValueError, match=r"has no calibration beside its rows; fit one with"):
        opened(*words, "teacher.calibration=stored")


def test_a_table_is_a_teacher(opened, small, tmp_path):
    _, data, _ = opened("seed=31")
    ids = [name for split in ("train", "val", "test") for name in data.whole_split(split).ids]
    path = tmp_path / "scores.csv"
    lines = [f"{name},{0.25 if i % 2 else 0.75}" for i, name in enumerate(ids)]
    path.write_text("\n".join(["id,probability", *lines]) + "\n")
    words = ("seed=31", "teacher=table", f"teacher.path={path}")
    teacher, _, said = opened(*words)
    assert "64 clips of" in said[0] and teacher.cache is None
    batch = next(iter(data.train_dataloader()))
    torch.testing.assert_close(teacher.ask(batch).logits.abs(), torch.full((8,), 1.0986123))
    report = pipeline.run(small("+recipe=cpfd", *words, folder=tmp_path / "r"), show=False)
    assert report["teacher_name"] == "table" and "teacher" in report["test"]
    path.write_text("\n".join(["id,probability", *lines[1:]]) + "\n")
    with pytest.raises(ValueError, match=ids[0]):
        opened(*words)


def test_several_teachers_are_mixed(opened):
    words = ("seed=31", "teacher=ensemble", "++teacher.training.max_steps=2")
    both, data, _ = opened(*words, "teacher.members=[df_xvlm,xvlm]")
    batch = next(iter(data.val_dataloader()))
    one, _, _ = opened(*words, "teacher.members=[df_xvlm]")
    assert both.ask(batch).logits.shape == one.ask(batch).logits.shape
    fixed, _, _ = opened(
        *words, "teacher.members=[df_xvlm,xvlm]", "teacher.weighting=fixed", "teacher.weights=[1,0]"
    )
    torch.testing.assert_close(fixed.ask(batch).logits, one.ask(batch).logits)


def test_a_member_has_words_of_its_own(opened, tmp_path):
    _, data, _ = opened("seed=31")
    ids = [name for split in ("train", "val", "test") for name in data.whole_split(split).ids]
    path = tmp_path / "scores.csv"
    path.write_text("\n".join(["name,logit", *(f"{name},1.5" for name in ids)]) + "\n")
    table = f"{{teacher:table,path:{path},numbers:logits,id_column:name}}"
    one, _, _ = opened("seed=31", "teacher=ensemble", f"teacher.members=[{table}]")
    batch = next(iter(data.val_dataloader()))
    torch.testing.assert_close(one.ask(batch).logits, torch.full((len(batch),), 1.5))


def test_a_teacher_near_chance_stops_the_run(opened, tmp_path, monkeypatch):
    monkeypatch.setattr("coefvq.teacher_supply.preflight.MIN_LABELS", 8)
    words = ("seed=38", "data.val=40")
    _, data, _ = opened(*words)
    ids = [name for split in ("train", "val", "test") for name in data.whole_split(split).ids]
    path = tmp_path / "scores.csv"
    path.write_text("\n".join(["id,probability", *(f"{name},0.5" for name in ids)]) + "\n")
    table = ("teacher=table", f"teacher.path={path}")
    with pytest.raises(ValueError, match=r"teacher\.preflight=false"):
        opened(*words, *table)
    _, _, said = opened(*words, *table, "teacher.preflight=false")
    assert any("chance" in line for line in said)
