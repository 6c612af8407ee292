"""A quality model from training to a score with a unit."""

import json
import shutil

import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from coefvq import pipeline, predict
from coefvq.evaluate import evaluate
from coefvq.scoring import vqa_lines

WORDS = ("+recipe=blind_quality", "data.labelled=16", "data.val=24", "data.num_frames=2")


@pytest.fixture(scope="module")
def run(home, small, tmp_path_factory):
    """A small run of the recipe, its report, and the folder of its clips."""
    folder = tmp_path_factory.mktemp("quality") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COEFVQ_HOME", str(home))
        report = pipeline.run(small(*WORDS, folder=folder), show=False)
    return folder, report


@pytest.fixture(scope="module")
def clips(run, home, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for clip in sorted((home / "shortform").rglob("00000[0-4].mp4")):
        shutil.copy(clip, folder)
    return folder


def test_the_report_has_the_fields_numbers_and_the_unit(run):
    _, report = run
    found = report["test"]["student"]
    assert {"srcc", "plcc", "krcc", "rmse", "logistic_fit", "level_accuracy"} <= found.keys()
    stored = report["score_calibration"]
    assert stored["label_range"] == [1.0, 5.0] and stored["clips"] == 24


def test_predict_gives_scores_with_intervals_and_words(run, clips, tmp_path):
    model = run[0] / "student"
    table = predict.predict(model, clips, out=tmp_path / "a.parquet", batch_size=2)
    assert list(table.columns) == [
        "id", "path", "score", "low", "high", "level", "label_score", "problem",
    ]  # fmt: skip
    assert ((table["low"] <= table["score"]) & (table["score"] <= table["high"])).all()
    assert table[["low", "high"]].stack().between(0, 100).all()
    assert np.allclose(table["score"], 25 * (table["label_score"] - 1))
    again = predict.predict(model, clips, out=tmp_path / "b.parquet", batch_size=5)
    assert np.allclose(again["score"], table["score"], atol=1e-3)


def test_the_protocol_of_the_field(run):
    found = evaluate(run[0], protocol="vqa", splits=6)
    spread = found["vqa"]["student"]["subsets"]
    assert spread["srcc"]["n"] <= 6 and spread["rmse"]["low"] <= spread["rmse"]["high"]
    assert found["vqa"]["student"]["contents"] == {}  # every clip is a content of its own
    lines = list(vqa_lines(found))
    assert "model fixed" in lines[0] and len(lines) == 5
    assert "vqa" not in evaluate(run[0])


def test_the_protocol_is_for_scores(run, finished_run):
    with pytest.raises(ValueError, match="protocol=vqa is for quality scores"):
        evaluate(finished_run, protocol="vqa")
    with pytest.raises(ValueError, match="protocol is report or vqa, got 'iqa'"):
        evaluate(run[0], protocol="iqa")


def test_a_student_whose_scores_have_no_unit_gives_them_as_they_are(run, clips, tmp_path):
    shutil.copytree(run[0] / "student", tmp_path / "student")
    path = tmp_path / "student" / "config.json"
    content = json.loads(path.read_text())
    content["metadata"]["score_calibration"] = None
    path.write_text(json.dumps(content))
    table = predict.predict(tmp_path / "student", clips, out=tmp_path / "s.parquet")
    assert list(table.columns) == ["id", "path", "score", "problem"]


def test_the_commands(run, clips, capsys, tmp_path):
    one, other = sorted(clips.iterdir())[:2]
    base = OmegaConf.to_container(
        OmegaConf.load(predict.config.folder("conf") / "predict.yaml"), throw_on_missing=False
    )
    base = {key: value for key, value in base.items() if key not in ("hydra", "defaults")}

    def say(**words):
        GlobalHydra.instance().clear()
        predict._main.__wrapped__(
            OmegaConf.create(base | {"model": str(run[0] / "student")} | words)
        )
        return capsys.readouterr().out

    assert "is the better one" in say(compare=[str(one), str(other)])
    said = say(clips=str(clips), out=str(tmp_path / "x.parquet"))
    assert "5 clips in" in said and any(word in said for word in ("bad", "poor", "fair", "good"))
    assert predict.listed(f"compare={one},{other}") == f'compare=["{one}","{other}"]'
    assert json.loads(predict.listed("compare=a,b").partition("=")[2]) == ["a", "b"]
