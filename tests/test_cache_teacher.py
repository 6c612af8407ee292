import json

import pytest

from coefvq import cache_teacher as module
from coefvq import pipeline
from coefvq.cache_teacher import cache_teacher

RESULT = {"folder": "", "rows": 60, "bytes": 1_540_000, "bytes_per_row": 25_667.0,
          "calibrated": False, "val": {"f1": 0.5, "auroc": 0.75}, "test": {"f1": 0.25}}  # fmt: skip


def test_it_scores_what_it_kept_and_a_run_finds_it(small, tmp_path):
    said = []
    cfg = small("+recipe=cpfd", "seed=35", folder=tmp_path / "run")
    result = cache_teacher(cfg, lambda line, **_: said.append(line))
    assert said[0] == "data     shortform_data, task degraded"
    assert result["rows"] == 60 and 0 < result["bytes_per_row"] < 5000
    assert result["bytes"] == round(result["rows"] * result["bytes_per_row"])
    assert result["test"]["n"] == 16 and "average_precision" in result["val"]
    assert not result["calibrated"] and not (tmp_path / "run").exists()
    report = pipeline.run(small("+recipe=cpfd", "seed=35", folder=tmp_path / "run"), show=False)
    assert report["paths"]["cache"] == result["folder"]
    written = json.loads((tmp_path / "run" / "report.json").read_text())
    assert written["test"]["teacher"]["f1"] == pytest.approx(result["test"]["f1"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("+recipe=supervised",), "teacher=none has no model to ask; choose a recipe with a teach"),
        (("+recipe=cpfd", "teacher.cache=off"), r"teacher\.cache=off keeps nothing; leave it out"),
        (
            ("+recipe=cpfd", "teacher=ensemble", "teacher.members=[df_xvlm]"),
            "teacher=ensemble has no model to ask",
        ),
    ],
)
def test_what_keeps_nothing_is_refused_before_data_are_made(small, tmp_path, words, sentence):
    said = []
    with pytest.raises(ValueError, match=sentence):
        cache_teacher(small(*words, folder=tmp_path / "x"), said.append)
    assert said == []


def printed(monkeypatch, capsys, result):
    """What the command prints of a result."""
    monkeypatch.setattr(module, "cache_teacher", lambda cfg, say: result)
    module._main.__wrapped__({})
    return capsys.readouterr().out.splitlines()


def test_it_prints_the_metrics_and_the_words_that_read_the_cache(monkeypatch, capsys, tmp_path):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    near = RESULT | {"folder": str(tmp_path / "here" / "kept")}
    assert printed(monkeypatch, capsys, near) == [
        "val   f1 0.500, auroc 0.750",
        "test  f1 0.250",
        "60 rows, 1.5 MB: teacher.path=kept",
    ]
    (*_, last) = printed(monkeypatch, capsys, near | {"calibrated": True})
    assert last.endswith("teacher.path=kept teacher.calibration=stored")
    # From here the way up is longer than the whole path.
    (*_, last) = printed(monkeypatch, capsys, RESULT | {"folder": "/kept"})
    assert last.endswith("teacher.path=/kept")


def test_a_process_beside_the_first_prints_nothing(monkeypatch, capsys):
    assert printed(monkeypatch, capsys, None) == []


def test_what_a_user_can_mend_is_one_sentence(monkeypatch, capsys):
    def refuse(cfg, say):
        raise ValueError("teacher.cache=off keeps nothing; leave it out")

    monkeypatch.setattr(module, "cache_teacher", refuse)
    with pytest.raises(SystemExit) as caught:
        module._main.__wrapped__({})
    assert caught.value.code == 2
    assert capsys.readouterr().err == "\ncoefvq: teacher.cache=off keeps nothing; leave it out\n"
