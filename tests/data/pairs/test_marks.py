from pathlib import Path

import pytest

from coefvq.data.pairs.marks import take_mark, take_pair_label
from coefvq.data.rows import Row


def row(value, split="train"):
    return Row(Path("pairs.csv"), 3, {"label": value}, split)


@pytest.mark.parametrize(
    ("value", "mark"),
    [("1", 1.0), ("0", 0.0), (1, 1.0), (1.0, 1.0), (True, 1.0), ("false", 0.0), ("", None)],
)
def test_cells_that_say_yes_or_no(value, mark):
    problems = []
    assert take_mark(row(value), "label", problems) == mark and problems == []


@pytest.mark.parametrize("value", ["2", "0.5", "nan", float("nan"), "-1", "copy", "inf"])
def test_other_cells(value):
    problems = []
    assert take_mark(row(value), "label", problems) is None
    assert str(problems[0]) == (
        f"pairs.csv row 3: label {value!r} is not 1 or 0; correct it, or leave the cell empty"
    )


def test_only_training_pairs_may_have_no_label():
    problems = []
    assert take_pair_label(row(None), "label", problems) is None and problems == []
    assert take_pair_label(row(None, "val"), "label", problems) is None
    assert problems[0].text == "label is empty in the val split; label the pair or move it to train"
