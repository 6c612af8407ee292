import math

import pandas
import pytest
import torch

from coefvq.evaluation.score_calibration import ScoreCalibration
from coefvq.serving.score_columns import (
    calibration_of,
    decision_line,
    problem_lines,
    score_columns,
    shown_lines,
)
from coefvq.types import TaskSpec

# Raw scores are labels from 1 to 5, and off by up to half a point.
CALIBRATION = ScoreCalibration(
    kind="linear", parameters=(1.0, 0.0), label_range=(1.0, 5.0), half_width=0.5, coverage=0.9,
    residuals=(-0.5, 0.5), rmse=0.5, clips=20,
)  # fmt: skip
SCORE = TaskSpec("mos", "regression", label_range=(1, 5))


def test_columns_of_several_classes():
    task = TaskSpec("level", "multiclass", ("low", "high", "top"))
    columns = score_columns(torch.tensor([[0.0, 2.0, 0.0], [3.0, 0.0, 0.0]]), task, None)
    assert list(columns) == ["p_low", "p_high", "p_top", "prediction"]
    assert columns["prediction"] == ["high", "low"]
    e = math.exp(2)
    assert [columns[name][0] for name in list(columns)[:3]] == pytest.approx(
        [1 / (e + 2), e / (e + 2), 1 / (e + 2)]
    )


def test_columns_of_several_labels():
    task = TaskSpec("artefacts", "multilabel", ("blur", "noise"))
    columns = score_columns(torch.tensor([[2.0, -2.0], [2.0, 2.0], [-9.0, -9.0]]), task, [0.5, 0.9])
    assert list(columns) == ["p_blur", "p_noise", "prediction"]
    assert columns["prediction"] == ["blur", "blur", ""]
    columns = score_columns(torch.tensor([[2.0, 3.0]]), task, [0.5, 0.9])
    assert columns["prediction"] == ["blur|noise"]
    columns = score_columns(torch.tensor([[0.0, -0.1]]), task, None)
    assert columns["prediction"] == ["blur"] and columns["p_blur"] == [0.5]


def test_columns_of_one_question():
    binary = TaskSpec("bad", "binary", ("good", "bad"))
    columns = score_columns(torch.tensor([0.0, -1.0]), binary, 0.5)
    assert columns == {"probability": [0.5, pytest.approx(0.2689, abs=1e-4)],
                       "prediction": ["bad", "good"]}  # fmt: skip
    # A threshold of 0 is one, and not none at all.
    assert score_columns(torch.tensor([-9.0]), binary, 0.0)["prediction"] == ["bad"]
    assert score_columns(torch.tensor([0.1, -0.1]), binary, None)["prediction"] == ["bad", "good"]


def test_a_number_without_a_calibration_says_that_it_is_in_the_labels_unit():
    assert score_columns(torch.tensor([1.5]), SCORE, None) == {"score": [1.5], "unit": ["1–5"]}
    free = TaskSpec("mos", "regression")
    assert score_columns(torch.tensor([1.5, 2.5]), free, None) == {
        "score": [1.5, 2.5], "unit": ["label", "label"],
    }  # fmt: skip


def test_a_number_with_a_unit_has_an_interval_and_a_word():
    columns = score_columns(torch.tensor([2.0, 3.0, 4.9, 7.0]), SCORE, None, CALIBRATION)
    assert list(columns) == ["score", "unit", "low", "high", "level", "label_score"]
    assert columns["unit"] == ["0–100"] * 4
    assert columns["score"] == pytest.approx([25.0, 50.0, 97.5, 100.0])
    assert columns["low"] == pytest.approx([12.5, 37.5, 85.0, 87.5])
    assert columns["high"] == pytest.approx([37.5, 62.5, 100.0, 100.0])
    assert columns["label_score"] == pytest.approx([2.0, 3.0, 4.9, 5.0])
    assert columns["level"] == ["poor", "fair", "excellent", "excellent"]


def test_how_scores_are_shown_is_saved_with_a_model():
    assert (
        calibration_of({"task": {}}) is None and calibration_of({"score_calibration": None}) is None
    )
    assert calibration_of({"score_calibration": CALIBRATION.to_dict()}) == CALIBRATION


def table(count, bad=()):
    rows = [
        {"id": f"clip{n}", "score": 50.0 + n, "unit": "0–100", "low": 40.4, "high": 60.6,
         "level": "fair", "problem": "no video" if n in bad else ""}
        for n in range(count)
    ]  # fmt: skip
    return pandas.DataFrame(rows)


def test_scores_with_a_unit_are_printed_one_a_line():
    assert list(shown_lines(table(11, bad=[1]), most=20))[:3] == [
        "clip    score 0–100, 90% interval, word",
        "clip0    50.0  (40–61)  fair",
        "clip2    52.0  (40–61)  fair",
    ]
    lines = list(shown_lines(table(11, bad=[1])))
    assert len(lines) == 11 and lines[-1] == "clip10   60.0  (40–61)  fair"


def test_a_long_table_is_cut_and_says_so():
    lines = list(shown_lines(table(5), most=3))
    assert len(lines) == 5 and lines[-1] == "… and 2 more"
    assert "80% interval" in next(iter(shown_lines(table(5), coverage=0.8)))
    # What cannot be read was no score to leave out.
    assert list(shown_lines(table(5, bad=[3, 4]), most=3))[-1].startswith("clip2")
    assert list(shown_lines(table(3), most=3))[-1].startswith("clip2")


def test_scores_without_a_calibration_are_said_to_be_in_another_unit():
    plain = table(3).drop(columns="level")
    (line,) = shown_lines(plain.assign(unit="1–5"))
    assert line == "scores are in the labels' unit, 1–5: this model has no calibration to 0–100"
    (line,) = shown_lines(plain.assign(unit="label"))
    assert line.startswith("scores are in the labels' unit: this model has no")


def test_nothing_is_printed_of_classes_or_of_no_score():
    assert list(shown_lines(table(3).drop(columns=["level", "unit"]))) == []
    assert list(shown_lines(table(2, bad=[0, 1]))) == []


def test_clips_without_a_score_are_named_with_the_reason():
    bad = table(9, bad=range(1, 8)).assign(path="x")
    lines = list(problem_lines(bad))
    assert lines == ["no video"] * 5 + ["… and 2 more, see column problem"]
    assert list(problem_lines(table(3, bad=[0]))) == ["no video"]
    assert list(problem_lines(table(3))) == []


def test_what_decides_is_said():
    def line(kind, classes, threshold):
        return decision_line(
            {"task": TaskSpec("x", kind, classes).to_dict(), "threshold": threshold}
        )

    told = line("binary", ("fine", "bad"), 0.04712)
    assert told == "prediction: bad from a probability of 0.0471 on, chosen on validation clips"
    told = line("binary", ("fine", "bad"), None)
    assert told == "prediction: bad from a probability of 0.5 on, no other was stored"
    told = line("multilabel", ("a", "b"), [0.25, 0.5])
    assert told.endswith("chosen on validation clips: a 0.25, b 0.5")
    assert line("multiclass", ("a", "b", "c"), None) == ""
    assert decision_line({"task": SCORE.to_dict()}) == ""
