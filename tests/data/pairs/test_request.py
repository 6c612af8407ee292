from pathlib import Path

import pytest

from coefvq.data.media import BadClip
from coefvq.data.pairs.request import check_fractions, check_request, stop_at, stop_without_copies

BAD = [BadClip("a", Path("a.mp4"), "it is empty"), BadClip("b", Path("b.mp4"), "gone")]


def request(**options):
    right = {
        "out": Path("none.csv"), "copies": 1, "least": 1, "most": 1, "chosen": ["flip"],
        "segment_share": 0.5, "split": None, "on_bad_clip": "skip",
    }  # fmt: skip
    check_request(**(right | options))


def test_a_possible_request():
    request()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"out": Path("p.txt")}, "must end in"),
        ({"out": Path(__file__).with_suffix(".py")}, "must end in"),
        ({"copies": 0}, "copies=0"),
        ({"chosen": []}, "transformations is empty"),
        ({"on_bad_clip": "ignore"}, "skip or error, got 'ignore'"),
    ],
)
def test_impossible_requests(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        request(**options)


@pytest.mark.parametrize(("val", "test"), [(0.9, 0.2), (-0.1, 0.2), (0, 1.0)])
def test_fractions_leave_something_for_training(val, test):
    check_fractions(0, 0.5)
    with pytest.raises(ValueError, match=f"got val_fraction={val} and test_fraction={test} "):
        check_fractions(val, test)


def test_stopping():
    stop_at(BAD, "skip")
    stop_at([], "error")
    with pytest.raises(ValueError, match=r"clip a \(a.mp4\) cannot be read: it is empty"):
        stop_at(BAD, "error")


def test_stopping_where_nothing_can_be_copied():
    stop_without_copies(BAD, "skip", any_left=True)
    stop_without_copies([], "error", any_left=True)
    with pytest.raises(ValueError, match=r"^clip a .*or set on_bad_clip=skip$"):
        stop_without_copies(BAD, "error", any_left=True)
    with pytest.raises(ValueError, match=r"^no clip can have a copy; .*allow more transf\w+$"):
        stop_without_copies(BAD, "skip", any_left=False)
