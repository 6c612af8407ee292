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
    with pytest.raises(ValueError, match="judges single clips; give clips="):
        judge_pair(finished_run / "student", one, one)
    with pytest.raises(ValueError, match="judges pairs; give query= and candidate="):
        predict.predict(model, one.parent, out=tmp_path / "x.parquet")


def test_the_command(run, capsys, monkeypatch):
    model, (one, other), _ = run
    base = OmegaConf.load(predict.config.folder("conf") / "predict.yaml")
    words = {"model": str(model), "query": str(one), "candidate": str(other)}
    line = predict._pair_line(OmegaConf.merge(base, words))
    assert line == judge_pair(model, one, other).line()
    with pytest.raises(ValueError, match="a pair is query= and candidate="):
        predict._pair_line(OmegaConf.merge(base, words, {"candidate": None}))
    GlobalHydra.instance().clear()
