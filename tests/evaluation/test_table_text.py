import csv
import io
import json

import pytest

from coefvq.evaluation.table import comparison_table


def test_markdown_says_counts_intervals_and_what_is_missing(reports):
    text = comparison_table(reports, labels=["supervised", "pfd", "cpfd", "logit_kd"]).to_markdown()
    lines = text.splitlines()
    assert "| supervised | 0.520 ± 0.025 | 0.320 ± 0.025 | 0.420 ± 0.025 |" in lines
    assert "| logit_kd | missing | missing | missing |" in lines
    pfd = [line for line in lines if line.startswith("| pfd |")]
    assert len(pfd) == 3
    assert all("(n=2 of 3)" in line for line in pfd)
    assert "+0.100 ± 0.025" in pfd[1]
    assert "50% [38%, 62%]" in pfd[2]
    assert text.count("missing: pfd on kind, seeds 3") == 1
    assert any(line.startswith("| teacher df_xvlm | 0.720") for line in lines)


def test_no_gap_is_a_word_and_a_reason(reports):
    text = comparison_table(reports, teacher="xvlm").to_markdown()
    assert "| no gap |" in text and "is not better than the baseline" in text


def test_one_seed_has_no_interval(make_report):
    made = [make_report("supervised", "kind", 1, 0.5), make_report("pfd", "kind", 1, 0.6, 0.9)]
    text = comparison_table(made).to_markdown()
    assert "| pfd | 0.600 |" in text and "| pfd | +0.100 |" in text and "| pfd | 25% |" in text
    assert "one seed has no interval" in text


def test_without_baseline_there_is_one_block(make_report):
    text = comparison_table([make_report("pfd", "kind", 1, 0.6, 0.9)]).to_markdown()
    assert "Difference" not in text and "no run of the baseline" in text


def test_csv_has_a_line_per_row_and_task(reports):
    table = comparison_table(reports)
    lines = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert len(lines) == 6 * 3
    pfd = next(line for line in lines if (line["label"], line["task"]) == ("pfd", "kind"))
    assert (pfd["n"], pfd["seeds_expected"], pfd["difference_n"]) == ("2", "3", "2")
    assert float(pfd["difference"]) == pytest.approx(0.095)
    assert float(pfd["gap_closed"]) == pytest.approx(0.475)
    base = next(line for line in lines if line["label"] == "supervised")
    assert base["difference"] == base["gap_closed"] == "" and base["metric"] == "f1"


def test_json_round_trip_with_nulls(reports, make_report):
    lonely = make_report("logit_kd", "degraded", 1, 0.6)
    content = json.loads(comparison_table([*reports, lonely]).to_json())
    rows = {row["label"]: row for row in content["rows"]}
    cell = rows["logit_kd"]["cells"]["degraded"]
    assert cell["values"] == {"1": 0.6} and cell["half_width"] is None
    assert (
        cell["difference"]["seeds"] == [1] and cell["gap"]["reason"] == "one seed has no interval"
    )
    assert rows["supervised"]["cells"]["kind"]["gap"] is None
    assert content["seeds"] == [1, 2, 3] and content["baseline"] == "supervised"
    assert content["notes"]


def test_write_makes_three_files(reports, tmp_path):
    table = comparison_table(reports)
    paths = table.write(tmp_path / "out")
    assert [path.name for path in paths] == ["table.md", "table.csv", "table.json"]
    assert paths[0].read_text(encoding="utf-8") == table.to_markdown()
    assert paths[1].read_text(encoding="utf-8") == table.to_csv()
    assert paths[2].read_text(encoding="utf-8") == table.to_json()
