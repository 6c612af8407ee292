import json
import shutil
import sys

import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from coefvq import evaluate, pipeline
from coefvq.evaluate import evaluate as evaluate_run


def report_of(folder):
    return json.loads((folder / "report.json").read_text())


def close(first, second):
    assert first.keys() == second.keys()
    for name, values in first.items():
        assert values == pytest.approx(second[name], abs=1e-6, nan_ok=True)


def test_it_finds_the_numbers_of_the_report(finished_run):
    report = report_of(finished_run)
    found = evaluate_run(finished_run)
    close(found["test"], report["test"])
    assert found["task"] == "degraded"
    assert found["data_fingerprint"] == report["data_fingerprint"]


def test_the_validation_split(finished_run):
    found = evaluate_run(finished_run, split="val")
    assert set(found["val"]) == {"student", "teacher", "agreement"} and "test" not in found
    assert found["val"]["student"] != evaluate_run(finished_run)["test"]["student"]


def test_other_data_are_read_by_the_runs_own_models(finished_run, monkeypatch):
    monkeypatch.setattr("coefvq.teacher_supply.training.train_teacher", None)  # must not be needed
    report = report_of(finished_run)
    found = evaluate_run(finished_run, overrides=["data.split_seed=5", "data.test=20"])
    assert found["data_fingerprint"] != report["data_fingerprint"]
    assert found["test"]["student"]["n"] == 20
    # The same test clips with other training clips around them: tokenizer and standardisation
    # are the run's own, so nothing changes.
    words = ["data.pool=60", "data.labelled=12", "data.unlabelled=4"]
    close(evaluate_run(finished_run, overrides=words)["test"], report["test"])


def test_a_run_without_a_teacher(small, tmp_path):
    report = pipeline.run(small("+recipe=supervised", folder=tmp_path / "run"), show=False)
    found = evaluate_run(tmp_path / "run")
    assert set(found["test"]) == {"student"}
    close(found["test"], report["test"])


def test_a_run_without_a_student(small, tmp_path):
    report = pipeline.run(small("+recipe=teacher", folder=tmp_path / "run"), show=False)
    found = evaluate_run(tmp_path / "run")
    assert set(found["test"]) == {"teacher"}
    close(found["test"], report["test"])


def test_a_run_that_is_not_finished_is_said(finished_run, tmp_path):
    shutil.copytree(finished_run, tmp_path / "run")
    (tmp_path / "run" / "report.json").unlink()
    for folder in (tmp_path / "run", tmp_path / "nowhere"):
        with pytest.raises(ValueError, match=r"has no report\.json, so it is not a finished run"):
            evaluate_run(folder)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"split": "train"}, "split is test or val, got 'train'"),
        ({"overrides": ["data.sed=7"]}, r"'data\.sed=7' is none of data\.task"),
        ({"overrides": ["data=manifest"]}, "'data=manifest' is none of"),
        ({"overrides": ["seed=3"]}, "overrides change the data of a run"),
        ({"overrides": ["data.seed"]}, "overrides change the data of a run"),
        ({"overrides": ["data.task=level"]}, "answers task 'degraded' .* give data with the run"),
    ],
)
def test_what_cannot_be_done_is_said(finished_run, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        evaluate_run(finished_run, **options)


def test_from_the_command_line(finished_run, tmp_path, monkeypatch, capsys):
    shutil.copytree(finished_run, tmp_path / "run")
    monkeypatch.chdir(tmp_path)

    def call(*words):
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["evaluate", "run=run", *words])
        evaluate._main()

    call()
    stored = json.loads((tmp_path / "run" / "evaluation-test.json").read_text())
    close(stored["test"], report_of(finished_run)["test"])
    assert "average precision" in capsys.readouterr().out
    older = {name: part for name, part in stored.items() if name != "task_kind"}
    (tmp_path / "run" / "evaluation-test.json").write_text(json.dumps(older))
    call()  # an older version's, of fewer parts, is no other result
    assert json.loads((tmp_path / "run" / "evaluation-test.json").read_text()) == stored
    call("split=val", "out=mine.json")
    assert "val" in json.loads((tmp_path / "mine.json").read_text())
    call("split=val", "out=mine.json")  # the same again

    def refused(*words):
        with pytest.raises(SystemExit) as caught:
            call(*words)
        assert caught.value.code == 2
        return capsys.readouterr().err

    content = json.loads((tmp_path / "mine.json").read_text())
    (tmp_path / "mine.json").write_text(json.dumps(content | {"val": {}}))
    assert "mine.json exists and holds other numbers; give another" in refused(
        "split=val", "out=mine.json"
    )
    monkeypatch.setattr(evaluate, "evaluate", None)  # what follows is refused before it
    said = refused("out=mine.json")
    assert "mine.json exists and holds split=val, and split=test is asked for; give an" in said
    (tmp_path / "mine.json").write_text("[1]")
    assert "out=mine.json exists and is no evaluation" in refused("out=mine.json")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.json", "run"]


def test_a_run_whose_teacher_is_gone_scores_its_student(finished_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    report = json.loads((folder / "report.json").read_text())
    report["paths"]["teacher"] = str(tmp_path / "gone")
    (folder / "report.json").write_text(json.dumps(report))
    assert list(evaluate_run(folder)["test"]) == ["student"]
    assert f"the teacher's folder {tmp_path / 'gone'} is gone" in evaluate.why_no_teacher(folder)
    shutil.rmtree(folder / "student")
    with pytest.raises(ValueError, match=r"df_xvlm alone, and its folder .* is gone; train it"):
        evaluate_run(folder)


def test_a_run_whose_teacher_is_no_model_says_so(finished_run, tmp_path):
    assert evaluate.why_no_teacher(finished_run) is None
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("report.json", "config.yaml"):
        shutil.copy(finished_run / name, folder / name)
    words = OmegaConf.load(folder / "config.yaml")
    for changes, said in [
        ({"kind": "cached", "name": "cached"}, "learned from teacher=cached, which left no single"),
        ({"kind": "table", "name": "table"}, "learned from teacher=table"),
        ({"kind": "model", "folds": 2}, "learned from out-of-fold teachers"),
    ]:
        changed = OmegaConf.merge(words, {"teacher": changes})
        OmegaConf.save(changed, folder / "config.yaml")
        assert said in evaluate.why_no_teacher(folder)


def test_a_number_of_splits_that_is_none_is_said_first(tmp_path, capsys):
    (tmp_path / "evaluation-test-vqa.json").write_text('{"asked": {"splits": 10}}')
    cfg = {"run": str(tmp_path), "split": "test", "protocol": "vqa", "splits": 0, "out": None}
    with pytest.raises(SystemExit):
        evaluate._main.__wrapped__(OmegaConf.create(cfg | {"overrides": []}))
    assert "splits is a whole number from 1 to 10000, got 0" in capsys.readouterr().err


def test_another_number_of_splits_is_refused_before_it_is_computed(tmp_path):
    out = tmp_path / "evaluation-test-vqa.json"
    asked = {"split": "test", "protocol": "vqa", "splits": 10, "overrides": []}
    evaluate.refuse_other_words(out, asked)
    out.write_text(json.dumps({"vqa": {}, "asked": asked}))
    evaluate.refuse_other_words(out, asked)
    with pytest.raises(ValueError, match="holds splits=10, and splits=20 is asked for; give anoth"):
        evaluate.refuse_other_words(out, asked | {"splits": 20})
    out.write_text("{}")  # of an older version: only its numbers can tell
    evaluate.refuse_other_words(out, asked)


def test_pairs_are_also_seen_by_kind_of_change(small, small_pairs, tmp_path):
    folder = tmp_path / "pairs"
    report = pipeline.run(small("+recipe=matchlite", *small_pairs, folder=folder), show=False)
    found = evaluate_run(folder)
    assert found["pairs"] == report["pairs"] and "student" in found["pairs"]
