import pytest
import torch

from coefvq import pipeline


def test_no_teacher_is_none(opened):
    assert opened(recipe="supervised")[0] is None


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


def test_a_table_is_a_teacher(opened, small, tmp_path):
    _, data, _ = opened("seed=31", "train_on=all", recipe="supervised")
    ids = [name for split in ("train", "val", "test") for name in data.whole_split(split).ids]
    path = tmp_path / "scores.csv"
    lines = [f"{name},{0.25 if i % 2 else 0.75}" for i, name in enumerate(ids)]
    path.write_text("\n".join(["id,probability", *lines]) + "\n")
    words = ("seed=31", "teacher=table", f"teacher.path={path}")
    teacher, _, said = opened(*words)
    assert "60 clips of" in said[0] and teacher.cache is None
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
    _, data, _ = opened("seed=31", "train_on=all", recipe="supervised")
    ids = [name for split in ("train", "val", "test") for name in data.whole_split(split).ids]
    path = tmp_path / "scores.csv"
    path.write_text("\n".join(["name,logit", *(f"{name},1.5" for name in ids)]) + "\n")
    table = f"{{teacher:table,path:{path},numbers:logits,id_column:name}}"
    one, _, _ = opened("seed=31", "teacher=ensemble", f"teacher.members=[{table}]")
    batch = next(iter(data.val_dataloader()))
    torch.testing.assert_close(one.ask(batch).logits, torch.full((len(batch),), 1.5))


def test_a_teacher_near_chance_stops_the_run(opened, tmp_path, monkeypatch):
    monkeypatch.setattr("coefvq.teacher_supply.preflight.MIN_LABELS", 8)
    words = ("seed=38", "data.val=40", "data.labelled=8", "data.test=8")
    _, data, _ = opened(*words, "train_on=all", recipe="supervised")
    ids = [name for split in ("train", "val", "test") for name in data.whole_split(split).ids]
    path = tmp_path / "scores.csv"
    path.write_text("\n".join(["id,probability", *(f"{name},0.5" for name in ids)]) + "\n")
    table = ("teacher=table", f"teacher.path={path}")
    with pytest.raises(ValueError, match=r"teacher\.preflight=false"):
        opened(*words, *table)
    _, _, said = opened(*words, *table, "teacher.preflight=false")
    assert any("chance" in line for line in said)
