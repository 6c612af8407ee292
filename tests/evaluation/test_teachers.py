from coefvq.evaluation.teachers import TeacherIndex

F1 = {"kind": "f1"}


def test_a_teacher_counts_once(make_report):
    made = [make_report(label, "kind", 1, 0.5, 0.9) for label in ("pfd", "cpfd")]
    index = TeacherIndex(made, F1)
    assert list(index.rows(["kind"])) == [("teacher df_xvlm", {"kind": {1: 0.9}})]
    assert index.values_for("df_xvlm", "supervised", "kind", [1, 2]) == {1: 0.9}
    assert index.values_for("xvlm", "pfd", "kind", [1]) == {}
    assert index.notes("df_xvlm") == []


def test_two_of_one_name_are_told_apart_by_row_then_data(make_report):
    made = [
        make_report("a", "kind", 1, 0.5, 0.9, teacher_fingerprint="x", data_fingerprint="d1"),
        make_report("b", "kind", 1, 0.5, 0.6, teacher_fingerprint="y", data_fingerprint="d2"),
        make_report("c", "kind", 1, 0.5, data_fingerprint="d2"),
        make_report("d", "kind", 1, 0.5, data_fingerprint="d3"),
    ]
    index = TeacherIndex(made, F1)
    own = {label: index.values_for("df_xvlm", label, "kind", [1]) for label in "abcd"}
    assert own == {"a": {1: 0.9}, "b": {1: 0.6}, "c": {1: 0.6}, "d": {}}
    assert "several teachers 'df_xvlm' on kind, seed 1" in index.notes("df_xvlm")[0]
    assert [name for name, _ in index.rows(["kind"])] == [
        "teacher df_xvlm (of a)",
        "teacher df_xvlm (of b)",
    ]


def test_undefined_scores_are_no_teacher(make_report):
    report = make_report("a", "kind", 1, 0.5, 0.9)
    report["test"]["teacher"]["f1"] = None
    assert TeacherIndex([report], F1).values_for("df_xvlm", "a", "kind", [1]) == {}
