import copy

import pytest

from coefvq.evaluation.cascade_lines import cascade_lines, curve_header, curve_rows


@pytest.fixture
def figures(cascade_numbers):
    return copy.deepcopy(cascade_numbers)


def test_the_page_says_how_it_was_fitted_and_what_came_out(figures):
    text = "\n".join(cascade_lines(figures))
    for part in (
        "Gate entropy, fitted by budget 0.1 on 64 labelled validation clips; it defers 17.2% of",
        "| test metric | light | cascade | heavy |",
        "| F1 | 0.5000 | 0.6000 | 0.7000 |",
        "| recall at 80 % precision | undefined | 0.2000 | 0.3000 |",
        "| GPU-seconds per 1 000 clips | 11.0 | 21.0 | 110.0 |",
        "| 10.0% | 9.4% | undefined | 0.6000 | 21.0 |",
        "average precision 0.2500, accuracy undefined.",
        "Area under risk and coverage 0.3500",
        "deferred undefined.",
        "kept 48.0 / 90.0, deferred 77.0 / 117.0.",
    ):
        assert text.count(part) == 1, part


def test_it_says_whose_thresholds_budgets_have_and_how_many_clips_were_timed(figures):
    text = "\n".join(cascade_lines(figures))
    assert "met on the test clips themselves, as a quantile of their uncertainty" in text
    assert "the policy's own threshold comes from validation clips" in text
    for clips, end in ((64, "; of fewer than 100, p99 is about the slowest."), (200, ".")):
        figures["latency"]["kept"]["clips"] = figures["latency"]["deferred"]["clips"] = clips
        said = cascade_lines(figures)[-1]
        assert said.endswith(f"77.0 / 117.0, of {clips} test clips one at a time{end}")


def test_notes_and_the_prevalence_stand_at_the_head(figures):
    figures["notes"] = ["it is so"]
    figures["prevalence"] = {"val": [0.3], "test": [0.4], "weighted_to": [0.02]}
    first, second = cascade_lines(figures)[:2]
    assert first.endswith("of the test clips, weighted to a serving prevalence of 2.0%.")
    assert second == "Note: it is so."


def test_a_promise_is_named_with_its_confidence(figures):
    figures["policy"] |= {"rule": "recall", "level": 0.98, "confidence": 0.95}
    assert "fitted by recall 0.98 with confidence 0.95 on 64" in cascade_lines(figures)[0]
    figures["policy"] = {"rule": "cost", "level": None, "labelled": 64}
    assert "fitted by cost on 64" in cascade_lines(figures)[0]


def test_without_prices_and_latencies_they_are_not_mentioned(figures):
    del figures["latency"]
    figures["cost"] = figures["seconds_per_1000"] = None
    for point in figures["curve"]:
        point["seconds_per_1000"] = None
    text = "\n".join(cascade_lines(figures))
    assert "seconds" not in text and "Latency" not in text
    assert curve_header(figures) == ["budget", "deferred", "recall at 80 % precision", "F1"]


def test_no_area_no_sentence_about_it(figures):
    figures["area"] = {}
    assert "oracle" not in "\n".join(cascade_lines(figures))


def test_rows_have_a_cell_for_every_column(figures):
    header, rows = curve_header(figures), curve_rows(figures)
    assert header[-1] == "GPU-seconds / 1 000"
    assert len(rows) == len(figures["curve"]) and {len(row) for row in rows} == {len(header)}
