import json
import shutil

import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from coefvq import pipeline, predict
from coefvq.serving.predict_pair import judge_pair


@pytest.fixture(scope="module")
def run(home, small, small_pairs, tmp_path_factory):
    """A small pairwise run and two of its clips."""
    folder = tmp_path_factory.mktemp("pairs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COEFVQ_HOME", str(home))
        report = pipeline.run(small("+recipe=matchlite", *small_pairs, folder=folder), show=False)
    clips = sorted((home / "shortform_pairs").rglob("*.mp4"))[:2]
    return folder / "student", clips, report


def test_a_pair_has_a_calibrated_score_and_a_verdict(run):
    model, (one, other), report = run
    found = judge_pair(model, one, other, query_text="a cat", candidate_text="a cat")
    point = report["operating_point"]
    assert 0 < found.score < 1 and found.precision == 0.8
    assert found.threshold == point["threshold"]
    classes = json.loads((model / "config.json").read_text())["metadata"]["task"]["classes"]
    assert found.verdict == classes[int(found.score >= found.threshold)]
    assert f"{found.score:.4f}" in found.line() and "precision of 80%" in found.line()
    assert judge_pair(model, other, one).score != found.score


def test_without_an_operating_point_the_f1_threshold_stands(run, tmp_path):
    model, (one, other), report = run
    shutil.copytree(model, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["metadata"]["operating_point"] = None
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    found = judge_pair(tmp_path / "model", one, other)
    assert found.precision is None and found.threshold == report["threshold"]["student"]
    assert "best F1" in found.line()


def test_errors(run, finished_run, tmp_path):
    model, (one, _), _ = run
    with pytest.raises(ValueError, match=r"candidate=.*none.mp4 cannot be read.*give a video file"):
        judge_pair(model, one, tmp_path / "none.mp4")
    with pytest.raises(ValueError, match="holds a XVLMStudent, which judges single clips; give cl"):
        judge_pair(finished_run / "student", one, one)
    with pytest.raises(ValueError, match="judges pairs; give query= and candidate="):
        predict.predict(model, one.parent, out=tmp_path / "x.parquet")


def test_what_is_no_pairwise_student_is_named(run, tmp_path):
    model, (one, other), _ = run
    with pytest.raises(ValueError, match=r"is a run; give its student, model=.*student$"):
        judge_pair(model.parent, one, other)
    for wrong in (one, tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match=r"holds no saved model; give a student's folder"):
            judge_pair(wrong, one, other)
    (tmp_path / "config.json").write_text(json.dumps({"class": "MatchLM", "config": {}}))
    with pytest.raises(ValueError, match=r"holds a MatchLM, a teacher; give the pairwise student"):
        judge_pair(tmp_path, one, other)


def test_an_unknown_device(run):
    model, (one, other), _ = run
    with pytest.raises(ValueError, match="device=tpu is unknown; use auto, cpu or cuda"):
        judge_pair(model, one, other, device="tpu")


def changed(model, folder, change):
    """A copy of a student whose metadata are changed."""
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    change(config["metadata"])
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_precision_that_was_not_reached_is_said(run, tmp_path):
    model, (one, other), _ = run
    missed = changed(model, tmp_path / "m", lambda m: m["operating_point"].update(threshold=1.01))
    found = judge_pair(missed, one, other)
    assert found.verdict == "other"
    assert "no threshold had a precision of 80% on the validation pairs" in found.line()
    assert "1.01" not in found.line()


def test_texts_by_field(run, tmp_path):
    model, (one, other), _ = run
    title = judge_pair(model, one, other, query_text={"title": "a cat"}).score
    assert title == judge_pair(model, one, other, query_text="a cat").score
    two = changed(model, tmp_path / "two",
                  lambda m: m["inputs"].update(text_fields=["title", "subtitles"]))  # fmt: skip
    # Every field is read, and in its own place.
    texts = [{}, {"title": "spot"}, {"subtitles": "spot"}, {"title": "spot", "subtitles": "spot"}]
    reads = [judge_pair(two, one, other, query_text=text).score for text in texts]
    assert len(set(reads)) == 4
    with pytest.raises(ValueError, match=r"query_text gives titel, but the student reads the text "
                       r"fields title, subtitles; write query_text=\{title: …\}"):  # fmt: skip
        judge_pair(two, one, other, query_text={"titel": "a cat"})
    none = changed(model, tmp_path / "none", lambda m: m["inputs"].update(text_fields=[]))
    with pytest.raises(ValueError, match="but the student reads no text; leave candidate_text out"):
        judge_pair(none, one, other, candidate_text="a cat")


def test_a_verdict_is_a_word_where_labels_are_numbers(run, tmp_path):
    numbers = changed(run[0], tmp_path / "numbers", lambda m: m["task"].update(classes=["0", "1"]))
    own, plain = judge_pair(numbers, *run[1]), judge_pair(run[0], *run[1])
    assert own == plain and own.verdict in ("other", "reproduced")


def test_a_text_is_refused_by_a_student_that_does_not_read_it(small, small_pairs, tmp_path, run):
    words = ("+recipe=matchlite", *small_pairs, "student.config.modalities=V")
    pipeline.run(small(*words, folder=tmp_path / "run"), show=False)
    with pytest.raises(ValueError, match="but the student reads no text; leave query_text out"):
        judge_pair(tmp_path / "run" / "student", *run[1], query_text="a cat")


def test_the_command(run, capsys, monkeypatch):
    model, (one, other), _ = run
    base = OmegaConf.load(predict.config.folder("conf") / "predict.yaml")
    words = {"model": str(model), "query": str(one), "candidate": str(other)}
    line = predict._pair_line(OmegaConf.merge(base, words))
    assert line == judge_pair(model, one, other).line()
    texts = OmegaConf.create({"query_text": {"title": "a cat"}})
    line = predict._pair_line(OmegaConf.merge(base, words, texts))
    assert line == judge_pair(model, one, other, query_text="a cat").line()
    with pytest.raises(ValueError, match="a pair is query= and candidate="):
        predict._pair_line(OmegaConf.merge(base, words, {"candidate": None}))
    GlobalHydra.instance().clear()


@pytest.mark.parametrize(("taken", "doubted"), [(1, True), (500, False), (None, False)])
def test_a_threshold_that_rests_on_few_pairs_is_said(run, tmp_path, taken, doubted):
    model, (one, other), _ = run
    point = {"taken": taken, "val_precision": 0.9, "threshold": 0.5}
    found = judge_pair(
        changed(model, tmp_path / "m", lambda m: m["operating_point"].update(point)), one, other
    )
    assert ("rests on the 1 validation example " in found.line()) is doubted
    assert (found.doubt is not None) is doubted
