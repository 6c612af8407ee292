import math

import pytest
from scipy import stats

from coefvq.evaluation.table import MEAN, comparison_table


def row(table, label):
    return next(r for r in table.rows if r.label == label)


def test_cells_by_hand(reports):
    table = comparison_table(reports)
    assert table.tasks == ("degraded", "kind", MEAN) and table.seeds == (1, 2, 3)
    assert table.metric == {"degraded": "f1", "kind": "f1"}
    cell = row(table, "supervised").cells["degraded"]
    values = [0.51, 0.52, 0.53]
    assert cell.mean == pytest.approx(0.52)
    assert cell.half_width == pytest.approx(stats.t.ppf(0.975, 2) * stats.sem(values))
    assert cell.difference is None and cell.gap is None
    cell = row(table, "pfd").cells["degraded"]
    assert cell.difference.mean == pytest.approx(0.10)
    assert cell.difference.half_width == pytest.approx(
        stats.t.ppf(0.975, 2) * stats.sem([0.09, 0.10, 0.11])
    )
    assert cell.gap.value == pytest.approx(0.5)
    assert cell.gap.low < 0.5 < cell.gap.high
    assert row(table, "cpfd").cells["kind"].gap.value == pytest.approx(0.5)


def test_missing_seeds_are_counted_and_never_averaged_over(reports):
    table = comparison_table(reports)
    cell = row(table, "pfd").cells["kind"]
    assert sorted(cell.values) == [1, 2] and cell.expected == 3
    # Paired with seeds 1 and 2 of supervised only; all of it would give 0.45 − 0.32 + … ≠ 0.095.
    assert cell.difference.seeds == (1, 2)
    assert cell.difference.mean == pytest.approx(0.095)
    assert cell.gap.seeds == (1, 2) and cell.gap.value == pytest.approx(0.095 / 0.20)
    mean = row(table, "pfd").cells[MEAN]
    assert sorted(mean.values) == [1, 2]
    assert mean.mean == pytest.approx(((0.60 + 0.62 + 0.40 + 0.42) / 2) / 2)
    assert mean.difference.mean == pytest.approx(0.095)
    assert "missing: pfd on kind, seeds 3" in table.notes


def test_teachers_have_rows_and_only_the_named_one_a_gap(reports):
    table = comparison_table(reports)
    assert [r.label for r in table.rows if r.kind == "teacher"] == [
        "teacher df_xvlm",
        "teacher xvlm",
    ]
    top = row(table, "teacher df_xvlm").cells["degraded"]
    assert sorted(top.values) == [1, 2, 3]  # one value a seed, however many students it taught
    assert top.mean == pytest.approx(0.72) and top.gap is None
    own = row(table, "self_distillation").cells["degraded"]
    assert own.gap.value == pytest.approx(0.02 / 0.20)  # against df_xvlm, not its own teacher
    other = comparison_table(reports, teacher="xvlm")
    gap = row(other, "pfd").cells["degraded"].gap
    assert math.isnan(gap.value) and "not better" in gap.reason


def test_a_whole_missing_row_task_or_seed_is_shown(reports):
    table = comparison_table(
        reports,
        labels=["supervised", "cpfd", "logit_kd"],
        tasks=["degraded", "kind", "sound"],
        seeds=[1, 2, 3, 4],
    )
    assert [r.label for r in table.rows if r.kind == "method"] == ["supervised", "cpfd", "logit_kd"]
    cell = row(table, "logit_kd").cells["degraded"]
    assert cell.values == {} and math.isnan(cell.mean) and cell.expected == 4
    assert row(table, "cpfd").cells[MEAN].values == {}  # no seed has all three tasks
    assert "missing: logit_kd on sound, seeds 1, 2, 3, 4" in table.notes
    assert "missing: cpfd on degraded, seeds 4" in table.notes


def test_undefined_metrics_count_as_missing_and_are_named(reports, make_report):
    reports = [r for r in reports if (r["label"], r["task"], r["seed"]) != ("cpfd", "kind", 2)]
    undefined = make_report("cpfd", "kind", 2)
    undefined["test"]["student"] = {"f1": None}
    table = comparison_table([*reports, undefined])
    assert sorted(row(table, "cpfd").cells["kind"].values) == [1, 3]
    assert "undefined metric: cpfd on kind, seeds 2" in table.notes
    undefined["test"]["student"] = {"f1": math.nan}
    again = comparison_table([*reports, undefined])
    assert again.notes == table.notes


def test_the_order_of_reports_does_not_change_numbers(reports):
    one, other = comparison_table(reports), comparison_table(reports[::-1])
    for r in one.rows:
        for task, cell in r.cells.items():
            same = row(other, r.label).cells[task]
            assert same.mean == pytest.approx(cell.mean)
            assert same.values == pytest.approx(cell.values)


def test_without_baseline_or_teacher_it_says_so(make_report):
    table = comparison_table([make_report("pfd", "kind", 1, 0.5)])
    assert any("no run of the baseline 'supervised'" in note for note in table.notes)
    assert any("no run with the teacher 'df_xvlm'" in note for note in table.notes)
    cell = row(table, "pfd").cells["kind"]
    assert table.tasks == ("kind",) and math.isnan(cell.half_width)
    assert cell.difference.seeds == () and math.isnan(cell.gap.value)


def test_lower_is_better_metrics(make_report):
    made = [make_report("supervised", "kind", s, 0.5) for s in (1, 2)]
    made += [make_report("pfd", "kind", s, 0.5, 0.5) for s in (1, 2)]
    for report in made:
        for who, value in (("student", 0.20), ("teacher", 0.10)):
            if who in report["test"]:
                report["test"][who]["ece"] = value
    for report in made[2:]:
        report["test"]["student"]["ece"] = 0.15
    gap = row(comparison_table(made, metric="ece"), "pfd").cells["kind"].gap
    assert gap.value == pytest.approx(0.5)


def test_regression_tasks_use_srcc_and_have_no_mean_with_f1(make_report):
    quality = make_report("supervised", "quality", 1)
    quality["test"]["student"] = {"srcc": 0.7, "rmse": 1.0}
    table = comparison_table([quality, make_report("supervised", "kind", 1, 0.5)])
    assert table.metric == {"quality": "srcc", "kind": "f1"}
    assert table.tasks == ("quality", "kind")


def test_mixed_data_is_named_and_teachers_kept_apart(make_report):
    made = []
    for seed in (1, 2):
        for tail, top, data in (("", 0.9, "all"), (" few", 0.6, "few")):
            more = {"data_fingerprint": data}
            made.append(make_report(f"supervised{tail}", "kind", seed, 0.5, **more))
            print_ = f"{data}-{seed}"
            made.append(
                make_report(
                    f"pfd{tail}", "kind", seed, 0.55, top, teacher_fingerprint=print_, **more
                )
            )
    table = comparison_table(made)
    assert row(table, "pfd").cells["kind"].gap.value == pytest.approx(0.05 / 0.4)
    assert row(table, "pfd few").cells["kind"].gap.value == pytest.approx(0.05 / 0.1)
    assert any(note.startswith("different data on kind, seeds 1, 2") for note in table.notes)
    assert [r.label for r in table.rows if r.kind == "teacher"] == [
        "teacher df_xvlm (of pfd)",
        "teacher df_xvlm (of pfd few)",
    ]


def test_a_teacher_only_report_gives_the_teacher_and_no_method_row(make_report):
    made = [make_report("supervised", "kind", 1, 0.5), make_report("teacher", "kind", 1, None, 0.9)]
    table = comparison_table([*made, make_report("logit_kd", "kind", 1, 0.7)])
    assert [r.label for r in table.rows] == ["supervised", "logit_kd", "teacher df_xvlm"]
    assert row(table, "logit_kd").cells["kind"].gap.value == pytest.approx(0.5)


def test_what_cannot_be_placed_is_a_sentence(make_report):
    with pytest.raises(ValueError, match="at least one report"):
        comparison_table([])
    one = make_report("pfd", "kind", 1, 0.5)
    with pytest.raises(ValueError, match="two reports of 'pfd' on task 'kind' with seed 1"):
        comparison_table([one, one])
    with pytest.raises(ValueError, match="needs all three"):
        comparison_table([one | {"task": None}])
