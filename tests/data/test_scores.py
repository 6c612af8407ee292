import dataclasses
import math
from pathlib import Path

import pytest
import torch

from coefvq.data.rows import Row
from coefvq.data.scores import (
    MIN_SCORES,
    check_scores,
    checked_range,
    label_spread,
    take_spread,
)
from coefvq.types import Clip

FILE = Path("clips.csv")


def clips(scores, split="train", stds=None):
    stds = stds or [None] * len(scores)
    return [
        Clip(f"{split}{n}", Path("x.mp4"), label=score, split=split, label_std=std)
        for n, (score, std) in enumerate(zip(scores, stds, strict=True))
    ]


def texts(*splits):
    found = list(check_scores([clip for part in splits for clip in part], FILE))
    assert all(problem.file == FILE and problem.row is None for problem in found)
    return [problem.text for problem in found]


def test_a_range_is_two_numbers_of_a_regression():
    assert checked_range("regression", [1, 5], "sd") == (1.0, 5.0)
    assert checked_range("regression", None, "sd") is None
    assert checked_range("binary", None, None) is None


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ("binary", [1, 5], None),
            r"^data\.label_range=\[1, 5\] is for data\.task=regression, got",
        ),
        (
            ("multiclass", None, "sd"),
            r"^data\.label_std=sd is for .*got data\.task=multiclass; set",
        ),
        (("regression", [5, 1], None), r"the lowest and the highest possible score"),
        (("regression", [1, 2, 3], None), r"the lowest and the highest possible score"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        checked_range(*options)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [("0.5", 0.5), (0, 0.0), ("", None), (None, None), (" ", None), (math.nan, None)],
)
def test_a_spread_is_read_where_there_is_one(cell, expected):
    problems = []
    assert take_spread(Row(FILE, 3, {"sd": cell}), "sd", problems) == expected
    assert take_spread(Row(FILE, 3, {"sd": cell}), None, problems) is None
    assert problems == []


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        ("-1", "sd '-1' is negative; a standard deviation is at least 0, or empty where it is unk"),
        ("wide", "sd 'wide' is not a number; leave the cell empty where it is missing"),
        ("inf", "sd is infinite; leave the cell empty where it is missing"),
    ],
)
def test_a_spread_that_is_none_is_a_problem_of_its_row(cell, sentence):
    problems = []
    take_spread(Row(FILE, 3, {"sd": cell}), "sd", problems)
    (problem,) = problems
    assert problem.row == 3 and problem.text.startswith(sentence)


def test_few_scores_in_a_split_say_nothing():
    enough = [1 + n / 10 for n in range(MIN_SCORES)]
    assert texts(clips(enough), clips(enough, "val"), clips(enough, "test")) == []
    (text,) = texts(clips(enough), clips([*enough[1:], None, None], "test"))
    assert text.startswith("the test split has 9 clips with a score, fewer than 10; a rank corr")
    one, three = texts(clips(enough[:1]), clips(enough[:3], "val"))
    assert one.startswith("the train split has 1 ") and three.startswith("the val split has 3 ")
    # Without any score there is no regression to measure, and somebody else says so.
    assert texts(clips([None] * 20), []) == []


def test_equal_scores_say_nothing_either():
    scores = [2.5] * MIN_SCORES
    (text,) = texts(clips(scores, "val"), clips([*scores, 2.6]))
    assert text.startswith("every score of the val split is 2.5; there is nothing to learn or to")


def test_spreads_as_one_tensor():
    some = clips([1.0, 2.0, 3.0], stds=[0.5, None, 0.0])
    found = label_spread(some)
    assert found.dtype == torch.float32 and found[[0, 2]].tolist() == [0.5, 0.0]
    assert found[1].isnan()
    assert label_spread([dataclasses.replace(clip, label_std=None) for clip in some]) is None
