"""What a model answers and how it reads a file: refusals, and what fingerprints are made of."""

import dataclasses
import json

import pytest

from coefvq import types
from coefvq.specs import InputSpec, TaskSpec


def test_they_are_the_ones_that_everybody_imports():
    assert types.InputSpec is InputSpec and types.TaskSpec is TaskSpec


@pytest.mark.parametrize(
    ("kind", "classes", "outputs"),
    [
        ("binary", ("no", "yes"), 1),
        ("multiclass", ("a", "b", "c"), 3),
        ("multilabel", ("x", "y"), 2),
        ("regression", (), 1),
    ],
)
def test_the_head_is_as_wide_as_the_task(kind, classes, outputs):
    assert TaskSpec("t", kind, classes).num_outputs == outputs


def test_a_task_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="'ranking' is unknown; choose one of binary"):
        TaskSpec("t", "ranking")
    with pytest.raises(ValueError, match="needs the names of its two classes, got 3"):
        TaskSpec("t", "binary", ("a", "b", "c"))
    with pytest.raises(ValueError, match="multiclass task 't' needs at least two class names, g"):
        TaskSpec("t", "multiclass", ("a",))
    with pytest.raises(ValueError, match=r"multilabel task 't' .* two class names, got 0: \[\]"):
        TaskSpec("t", "multilabel")


def test_both_come_back_from_a_file_of_json():
    task = TaskSpec("level", "multiclass", ["low", "high"])
    inputs = InputSpec(text_fields=["title"], motion_frames=4, separate_text=True)
    for spec in (task, inputs):
        assert type(spec)(**json.loads(json.dumps(spec.to_dict()))) == spec


def test_mel_frames_follow_from_the_seconds():
    assert InputSpec(audio_seconds=2.0, sample_rate=16_000, hop_length=160).mel_frames == 200
    assert InputSpec(audio_seconds=0.5, sample_rate=8000, hop_length=300).mel_frames == 13
    assert InputSpec(text_fields=["a", "b"]).text_fields == ("a", "b")


def test_the_range_of_a_regression():
    spec = TaskSpec("mos", "regression", label_range=[1, 5])
    assert spec.label_range == (1.0, 5.0) and TaskSpec(**spec.to_dict()) == spec
    # Without one, fingerprints stay what they were before there were ranges.
    assert TaskSpec("t", "regression").to_dict() == {
        "name": "t", "kind": "regression", "classes": (),
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"label_range=.* is for regression, but task 't'"):
        TaskSpec("t", "binary", ("a", "b"), label_range=(0, 1))
    for bad in ([5, 1], [1], "ab", [0, float("inf")], 3):
        with pytest.raises(ValueError, match="lowest and the highest possible score"):
            TaskSpec("t", "regression", label_range=bad)


def test_reading_fields_one_by_one_is_no_part_of_a_spec_without_it():
    """Else every fingerprint and cache of before would be lost."""
    old = InputSpec(text_fields=("title", "ocr"))
    assert not {"separate_text", "max_field_length"} & old.to_dict().keys()
    assert len(old.to_dict()) == len(dataclasses.fields(InputSpec)) - 5
    assert InputSpec(**old.to_dict()) == old
    new = dataclasses.replace(old, separate_text=True, max_field_length=3)
    assert new.to_dict() == old.to_dict() | {"separate_text": True, "max_field_length": 3}
    assert InputSpec(**new.to_dict()) == new


@pytest.mark.parametrize("wrong", [{"text_fields": ()}, {"max_field_length": 0}])
def test_fields_one_by_one_need_fields(wrong):
    with pytest.raises(ValueError, match="separate_text needs text fields of at least one token"):
        InputSpec(**{"separate_text": True, **wrong})
    InputSpec(**wrong)
