from coefvq.evaluation.report_page import by_chance, page, rows_of, shown, table, unit_of


def test_rows_put_models_side_by_side():
    test = {"teacher": {"f1": 0.8, "ece": None}, "student": {"f1": 0.6, "ece": 0.1, "n": 5.0}}
    names, rows = rows_of(test)
    assert names == ["teacher", "student", "student − teacher"]
    assert rows == [
        ("F1", ["0.8000", "0.6000", "-0.2000"]),
        ("ECE (lower is better)", ["undefined", "0.1000", ""]),
    ]
    assert rows_of({"student": {"srcc": 0.5}}) == (["student"], [("SRCC", ["0.5000"])])
    assert rows_of({}) == ([], [])


def test_page_says_everything_once():
    text = page(
        {
            "label": "cpfd margin",
            "recipe": "cpfd",
            "task": "faults",
            "seed": 3,
            "command": "python -m coefvq.train +recipe=cpfd",
            "test": {
                "teacher": {"f1": 0.8, "n": 12.0},
                "student": {"f1": 0.6, "n": 12.0, "prevalence": 0.25},
                "agreement": {"kl": 0.5},
                "gap_closed": 0.375,
            },
            "threshold": {"teacher": None, "student": [0.25, 0.5]},
            "notes": ["a sentence"],
            "plots": ["plots/losses.png"],
            "data": {"clips": 10, "splits": {"train": {"clips": 7}, "val": {"clips": 3, "x": 0.5}}},
            "skipped_clips": [{"id": "b", "path": "b.mp4", "reason": "cut | short"}, "c"],
            "seconds": {"data": 1.0, "student": 2.25},
            "peak_memory_mb": 500,
            "versions": {"torch": "2"},
            "paths": {"report": "r.md", "checkpoint": None},
            "data_fingerprint": "abc",
        }
    )
    for part in (
        "# cpfd margin on faults, seed 3",
        "| F1 | 0.8000 | 0.6000 | -0.2000 |",
        "12 labelled test clips; 25.0% positive; threshold of the student: 0.250, 0.500 (",
        "| KL(teacher ‖ student) in nats | 0.5000 |",
        "gap closed: 0.3750",
        "- a sentence",
        "![losses.png](plots/losses.png)",
        "- clips: 10",
        "| val | 3 | 0.5 |",
        "2 could not be read:",
        "| b | b.mp4 | cut \\| short |",
        "| all | 3.2 s |",
        "| peak memory | 500 MB |",
        "| torch | 2 |",
        "| report | `r.md` |",
        "| data fingerprint | `abc` |",
    ):
        assert text.count(part) == 1, part
    assert "checkpoint" not in text


def test_what_does_not_apply_is_left_out():
    data = {
        "task": "quality",
        "classes": [],
        "privileged": 16,
        "vocab_size": 0,
        "student_labels": 1,
    }
    report = {"task_kind": "regression", "test": {"student": {"srcc": 0.8, "n": 9.0}},
              "threshold": {"student": None}, "data": data}  # fmt: skip
    text = page(report | {"reads_privileged": False})
    assert "9 labelled test clips.\n" in text and "student_labels: 1" in text
    for absent in ("thresholds", "classes", "vocab_size", "privileged"):
        assert absent not in text, absent
    assert "- privileged: 16" in page(report | {"reads_privileged": True})
    full = page({"data": {"classes": ["a", "b"], "vocab_size": 7, "privileged": 3}})
    assert "- classes: a, b\n- vocab_size: 7\n- privileged: 3" in full


def test_long_lists_of_skipped_clips_are_cut_and_counted():
    text = page({"skipped_clips": [{"id": f"clip{k}"} for k in range(120)]})
    assert "120 could not be read" in text and "and 70 more" in text
    assert text.count("| clip") == 50
    assert "None." in page({"skipped_clips": []})


def test_an_empty_report_is_a_page():
    assert page({}) == "# Run\n"


def test_small_words():
    assert shown(None) == "undefined" and shown(0.12345) == "0.1235" and shown(3) == "3"
    assert table(("a", "b"), [(1, "x|y")]) == "| a | b |\n| --- | --- |\n| 1 | x\\|y |"


PAIRS = {
    "recall_at_precision": {"80": 0.5},
    "by_sub_label": {
        "crop": {"n": 3, "chance": 0.25, "average_precision": 0.75, "recall_at_precision_80": 0.5}
    },
}


def test_pairs_are_called_pairs_and_kinds_stand_beside_chance():
    report = {
        "test": {"student": {"f1": 0.6, "n": 12.0}},
        "threshold": {"student": 0.5},
        "pairs": {"student": PAIRS},
        "operating_point": {
            "precision": 0.8, "threshold": 0.9, "val_precision": 1.0, "val_recall": 0.01,
            "n": 640, "taken": 1,
        },
    }  # fmt: skip
    text = page(report)
    assert unit_of(report) == "pairs" and unit_of({}) == "clips"
    assert "12 labelled test pairs; " in text and "chosen on validation pairs)." in text
    assert "clips" not in text
    assert "| kind | copies | AP of chance | student, AP | student, R@P80 |" in text
    assert "| crop | 3 | 0.2500 | 0.7500 | 0.5000 |" in text
    assert "stand against all negatives" in text
    assert "on 640 validation examples, 1 of which it calls positive." in text
    # Reports of before chance was counted.
    old = {"crop": {k: v for k, v in PAIRS["by_sub_label"]["crop"].items() if k != "chance"}}
    text = page({"pairs": {"student": PAIRS | {"by_sub_label": old}}})
    assert "| crop | 3 |  | 0.7500 | 0.5000 |" in text


def test_the_first_stage_stands_beside_the_finished_student():
    test = {"student": {"f1": 0.7}, "teacher": {"f1": 0.8}, "first_stage": {"f1": 0.5}}
    names, rows = rows_of(test)
    assert names == ["teacher", "student, first stage", "student", "student − teacher"]
    assert rows == [("F1", ["0.8000", "0.5000", "0.7000", "-0.1000"])]
    del test["teacher"]
    assert rows_of(test) == (["student, first stage", "student"], [("F1", ["0.5000", "0.7000"])])


def test_numbers_stand_beside_those_of_whoever_has_not_looked():
    said = by_chance({"task_kind": "binary", "test": {"student": {"prevalence": 0.25}}})
    assert said == (
        "without looking: average precision 0.2500, F1 0.4000 (always yes), accuracy 0.7500 "
        "(always the commoner answer)"
    )
    often = {"task_kind": "binary", "test": {"teacher": {"prevalence": 0.9}}}
    assert by_chance(often).endswith("accuracy 0.9000 (always the commoner answer)")
    assert by_chance(often | {"task_kind": "multilabel"}) == by_chance({}) == ""


def test_a_cascade_says_which_thresholds_it_uses_and_links_its_pages(cascade_numbers):
    report = {
        "cascade": cascade_numbers, "task_kind": "binary", "plots": ["plots/losses.png"],
        "paths": {"report": "/run/report.md", "cascade": "/run/cascade"},
    }  # fmt: skip
    text = page(report)
    assert text.count("each table cuts elsewhere") == 1
    for link in (
        "[cascade.md](cascade/cascade.md)", "[calibrators.md](cascade/calibrators.md)",
        "![losses.png](plots/losses.png)", "![deferral.png](cascade/deferral.png)",
    ):  # fmt: skip
        assert text.count(link) == 1, link
    assert text.index("## Pictures") < text.index("![deferral.png]")
    text = page(report | {"task_kind": "multiclass", "paths": None, "plots": []})
    assert "cuts elsewhere" not in text and "deferral.png" not in text and "](" not in text
    assert "deferral.png" not in page(report | {"cascade": None})


def test_the_cost_of_an_answer_is_on_the_page():
    cost = {"student": {"gflop": 0.5, "ms": 1.25, "batch": 8, "parameters": 250_000}}
    assert "### Cost of a clip" in page({"compute": cost})
    assert "### Cost of a pair" in page({"compute": cost, "pairs": {"student": PAIRS}})
