import math
from pathlib import Path

import pytest

from coefvq.data.labels import (
    LabelError,
    check_share,
    derive_classes,
    hide_labels,
    parse_label,
    summarise_labels,
    unseen_classes,
)
from coefvq.types import Clip, TaskSpec


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, 1.0), (0, 0.0), ("1", 1.0), ("1.0", 1.0), (True, 1.0), ("False", 0.0), (0.0, 0.0)],
)
def test_what_a_binary_cell_may_say(value, expected):
    label = parse_label(value, "binary", ("0", "1"))
    assert label == expected and isinstance(label, float)


def test_named_classes_by_name_and_by_number():
    assert parse_label("bad", "binary", ("good", "bad")) == 1.0
    assert parse_label(1, "binary", ("good", "bad")) == 1.0
    assert parse_label("dog", "multiclass", ("bird", "cat", "dog")) == 2
    assert parse_label("2", "multiclass", ("bird", "cat", "dog")) == 2
    # Where the names are numbers, a number is a name.
    assert parse_label(5, "multiclass", ("0", "2", "5")) == 2


def test_multilabel_cells():
    classes = ("bird", "cat", "dog")
    assert parse_label("cat| dog", "multilabel", classes) == (0, 1, 1)
    assert parse_label(["dog"], "multilabel", classes) == (0, 0, 1)
    assert parse_label("none", "multilabel", classes) == (0, 0, 0)
    assert parse_label([], "multilabel", classes) == (0, 0, 0)


@pytest.mark.parametrize(
    ("value", "kind", "classes", "words"),
    [
        (2, "binary", ("0", "1"), "is outside the classes 0, 1"),
        (0.5, "binary", ("0", "1"), "is outside the classes 0, 1"),
        ("x", "binary", ("0", "1"), "is outside the classes 0, 1"),
        (-1, "multiclass", ("a", "b"), "is outside the classes a, b"),
        (1, "multiclass", ("0", "2"), "is outside the classes 0, 2"),
        ("cat|cow", "multilabel", ("bird", "cat"), "is outside the classes bird, cat"),
        (math.nan, "binary", ("0", "1"), "leave the cell empty for an unlabelled"),
        ("NaN", "multiclass", ("a", "b"), "leave the cell empty for an unlabelled"),
        (math.nan, "regression", (), "leave the cell empty for an unlabelled"),
        ("high", "regression", (), "is not a number"),
        ("inf", "regression", (), "is not finite"),
    ],
)
def test_cells_that_are_no_labels(value, kind, classes, words):
    with pytest.raises(LabelError, match=words):
        parse_label(value, kind, classes)


def test_a_decimal_comma_is_named():
    with pytest.raises(LabelError, match="give the score with a point for its comma"):
        parse_label("2,9", "regression", ())


def test_classes_are_derived_from_the_labels():
    assert derive_classes(["1", None, "0"], "binary") == ("0", "1")
    assert derive_classes([1, 1], "binary") == ("0", "1")
    assert derive_classes(["good", "bad", None], "binary") == ("bad", "good")
    assert derive_classes([10, 9, "2"], "multiclass") == ("2", "9", "10")
    assert derive_classes(["dog", "cat"], "multiclass") == ("cat", "dog")
    assert derive_classes(["a|c", ["b"], "none"], "multilabel") == ("a", "b", "c")
    assert derive_classes([1.5], "regression") == ()


def clips(labels):
    return [Clip(str(i), Path("x"), label=label) for i, label in enumerate(labels)]


def test_summaries():
    binary = summarise_labels(clips([1.0, 0.0, 0.0, None]), TaskSpec("t", "binary", ("n", "y")))
    assert binary == {
        "clips": 4, "labelled": 3, "classes": {"n": 2, "y": 1}, "prevalence": pytest.approx(1 / 3)
    }  # fmt: skip
    many = summarise_labels(clips([(1, 0), (1, 1)]), TaskSpec("t", "multilabel", ("a", "b")))
    assert many["classes"] == {"a": 2, "b": 1}
    score = summarise_labels(clips([1.0, 3.0]), TaskSpec("t", "regression"))
    assert (score["mean"], score["std"]) == (2.0, 1.0)
    assert summarise_labels(clips([None]), TaskSpec("t", "regression")) == {
        "clips": 1, "labelled": 0
    }  # fmt: skip


def test_a_share_of_the_labels_is_hidden_by_id_alone():
    clips = [Clip(f"c{i}", Path("x"), label=float(i) if i % 2 else None) for i in range(40)]
    few, more = ({c.id for c in hide_labels(clips, s) if c.label is not None} for s in (0.1, 0.5))
    assert len(few) == 2 and len(more) == 10 and few < more
    assert [c.id for c in hide_labels(clips, 0.1)] == [c.id for c in clips]
    assert hide_labels(clips, 1.0) == clips
    backwards = hide_labels(clips[::-1], 0.1, drop=True)
    assert {c.id for c in backwards} == few and all(c.label is not None for c in backwards)
    assert sum(c.label is not None for c in hide_labels(clips, 1e-9)) == 1
    for share in (0.0, 1.5, True):
        with pytest.raises(ValueError, match=r"student_labels=.* is no share"):
            check_share(share)


def test_classes_that_no_training_clip_has_are_named():
    binary = TaskSpec("degraded", "binary", ("0", "1"))
    assert unseen_classes(clips([0.0, 1.0, None]), binary) is None
    assert unseen_classes(clips([None]), binary) is None
    said = unseen_classes(clips([1.0, 1.0, None]), binary)
    assert said == (
        "of the 2 labelled training clips each class has: 0 (0), 1 (2); nothing can be learned "
        "about 0, so check the labels and the splits"
    )
    several = TaskSpec("defects", "multilabel", ("blur", "noise", "cut"))
    said = unseen_classes(clips([(1, 0, 1), (1, 0, 0)]), several)
    assert said.endswith("about noise, blur, so check the labels and the splits")
    assert unseen_classes(clips([1.0]), TaskSpec("quality", "regression")) is None
