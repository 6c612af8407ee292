"""The page says what a score's unit is worth, of the scores that predict prints."""

from coefvq.evaluation.report import terminal_table
from coefvq.evaluation.report_page import page
from coefvq.evaluation.score_page import score_line, score_lines

MADE = {"label_range": [1.0, 5.0], "half_width": 1.06, "coverage": 0.9, "rmse": 0.65, "clips": 150}
FOUND = {"rmse": 0.731, "mean_difference": -0.145, "coverage": 0.874, "words": 0.4743, "n": 350.0}
REPORT = {
    "test": {"student": {"srcc": 0.83, "plcc": 0.84, "rmse": 0.68, "level_accuracy": 0.586}},
    "score_calibration": MADE, "calibrated_scores": FOUND,
}  # fmt: skip


def test_the_calibration_is_shown_in_both_units():
    text = page(REPORT)
    for part in (
        "labels from 1 to 5", "150 validation clips",
        "| half of the 90% interval | 1.06 (26.5 of 100) |",
        "| test labels inside the interval | 87.4% |",
        "| RMSE of calibrated scores, test clips | 0.731 (18.3 of 100) |",
        "mean over test clips | -0.145 (-3.62 of 100) |",
        "share in the label's fifth | 0.4743 |",
        "| accuracy of five levels, raw scores | 0.5860 |",
    ):  # fmt: skip
        assert text.count(part) == 1, part


def test_labels_from_0_to_100_are_given_once():
    made = MADE | {"label_range": [0.0, 100.0], "half_width": 26.5}
    text = page(REPORT | {"score_calibration": made})
    assert "| half of the 90% interval | 26.5 |" in text and "of 100)" not in text
    assert "labels from 0 to 100, by a curve" in text


def test_the_protocol_of_the_field_is_said():
    (said,) = score_lines({"test": {"teacher": {"srcc": 0.8}}})
    assert "fitted on these very test clips" in said and "RMSE is in the unit of the labels" in said
    assert said in page(REPORT)
    assert score_lines({"test": {"student": {"f1": 0.5}}}) == score_lines({}) == []


def test_the_last_screen_has_it_in_a_line():
    line = score_line(REPORT)
    assert "± 26 in 90% of cases: so for 87.4%" in line and "right for 47.4%" in line
    assert line in [str(part) for part in terminal_table(REPORT).renderables]
    assert score_line({"test": REPORT["test"], "score_calibration": MADE}) == ""
