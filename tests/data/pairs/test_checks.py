from pathlib import Path

import pytest

from coefvq.data.pairs.checks import check_pairs
from coefvq.data.rows import Row
from coefvq.pairs import Pair
from coefvq.types import Clip

FILE = Path("pairs.csv")


def found(*table):
    """Problems of rows (query, candidate, label, split)."""
    rows, pairs = [], []
    for number, (query, candidate, label, split) in enumerate(table):
        rows.append(Row(FILE, number + 1, {"label": label}, split))
        sides = (Clip(name, Path(f"{name}.mp4")) for name in (query, candidate))
        pairs.append(Pair(f"{query}+{candidate}", *sides, label, split=split))
    return [str(problem) for problem in check_pairs(rows, pairs, FILE, "label")]


GOOD = (
    ("a", "b", 1.0, "train"), ("a", "c", 0.0, "train"), ("d", "e", 1.0, "val"),
    ("d", "f", 0.0, "val"), ("g", "h", 1.0, "test"),
)  # fmt: skip


def test_a_test_split_may_be_of_one_kind():
    assert found(*GOOD) == []


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (1, "all labelled pairs of the train split have label 1; learning needs both kinds, so add "
            "pairs of label 0"),
        (2, "all labelled pairs of the val split have label 0; a threshold is chosen there, from "
            "both kinds, so add pairs of label 1"),
    ],
)  # fmt: skip
def test_one_kind_of_label_is_refused_before_anything_is_trained(row, sentence):
    assert found(*GOOD[:row], *GOOD[row + 1 :]) == [f"pairs.csv: {sentence}"]


def test_unlabelled_pairs_are_no_kind():
    table = [*GOOD, ("x", "y", None, "train")]
    assert found(*table) == []
    assert found(*table[2:]) == ["pairs.csv: no training pair has a label; label some of them"]


def test_a_pair_in_two_splits_is_there_twice():
    assert found(*GOOD, ("a", "b", 1.0, "test")) == [
        "pairs.csv row 6: has the query and candidate of row 1; keep one"
    ]
