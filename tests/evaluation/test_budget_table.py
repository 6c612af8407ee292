"""Cascades of several seeds in one table."""

import csv
import io

import pytest

from coefvq.evaluation.budget_table import budget_table


def report(seed, curve, label="coefvq", cost=True):
    points = [
        {"budget": b, "deferred": b, "metrics": {"f1": f1, "recall_at_precision_80": f1 / 2},
         "seconds_per_1000": 10 + 100 * b if cost else None}
        for b, f1 in curve
    ]  # fmt: skip
    figures = {"curve": points, "cost": {"unit": "CPU-seconds"} if cost else None}
    return {"label": label, "task": "bad_sound", "seed": seed, "cascade": figures}


ONE = [(0.0, 0.40), (0.1, 0.60), (0.4, 0.595), (1.0, 0.60)]
TWO = [(0.0, 0.50), (0.1, 0.58), (0.4, 0.72), (1.0, 0.70)]


def test_without_cascades_there_is_no_table():
    assert budget_table([{"label": "pfd", "task": "level", "seed": 1}]) is None


def test_means_and_the_smallest_budget_that_is_enough():
    table = budget_table([report(1, ONE), report(2, TWO)])
    # .99 · .60 = .594 <= .60 at 10 %; .99 · .70 = .693 <= .72 at 40 %
    assert table.enough("coefvq", "bad_sound") == {1: 0.1, 2: 0.4}
    text = table.to_markdown()
    assert "## coefvq, bad_sound, 2 seeds" in text
    # mean .45, t(1) = 12.706, standard error .05: half-width .635
    assert "| 0 % (light alone) | 0.0% | 0.225 ± 0.318 | 0.450 ± 0.635 | 10.0 ± 0.0 |" in text
    assert "CPU-seconds / 1 000 clips" in text
    assert "10.0% (seed 1), 40.0% (seed 2)" in text


def test_rows_keep_labels_apart():
    table = budget_table([report(1, ONE), report(1, TWO, label="coefvq objective=supervised")])
    assert table.enough("coefvq objective=supervised", "bad_sound") == {1: 0.4}
    lines = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert len(lines) == 8 and {line["label"] for line in lines} == {
        "coefvq", "coefvq objective=supervised"
    }  # fmt: skip
    assert float(lines[1]["f1"]) == 0.60


def test_one_seed_has_no_interval_and_what_was_not_measured_is_said():
    text = budget_table([report(3, ONE, cost=False)]).to_markdown()
    assert "| 10 % | 10.0% | 0.300 | 0.600 | not measured |" in text and "one seed" in text


@pytest.mark.parametrize("nothing", [None, float("nan"), 0.0])
def test_a_heavy_model_without_f1_promises_nothing(nothing):
    curve = [{**point} for point in report(1, [(0.0, 0.2), (1.0, 0.0)])["cascade"]["curve"]]
    curve[1]["metrics"]["f1"] = nothing
    curve[1]["metrics"]["recall_at_precision_80"] = nothing
    table = budget_table([report(1, ONE) | {"cascade": {"curve": curve}}])
    assert table.enough("coefvq", "bad_sound") == {}
    assert "no F1 above 0" in table.to_markdown()
    assert "| 100 % (heavy asked about all) | 100.0% | 0.000 | 0.000 |" in table.to_markdown()


def test_writes_both_files(tmp_path):
    paths = budget_table([report(1, ONE)]).write(tmp_path)
    assert [path.name for path in paths] == ["cascades.md", "cascades.csv"]
    assert paths[0].read_text().startswith("# Cascades at every budget")
