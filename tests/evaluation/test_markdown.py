import pytest

from coefvq.evaluation.markdown import METRIC_LABELS, shown, table


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "undefined"), (0.12345, "0.1235"), (3, "3"), ("x", "x"), (1.0, "1.0000")],
)
def test_one_metric(value, text):
    assert shown(value) == text


def test_a_table():
    rows = [(1, "x|y"), ("b", None)]
    lines = ["| a | b |", "| --- | --- |", "| 1 | x\\|y |", "| b | None |"]
    assert table((name for name in "ab"), iter(rows)) == "\n".join(lines)
    assert table(["a"], []) == "| a |\n| --- |"


def test_where_lower_is_better_it_says_so():
    lower = {name for name, label in METRIC_LABELS.items() if "lower" in label}
    assert lower == {"ece", "rmse", "rmse_raw"}
