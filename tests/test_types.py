import dataclasses

import pytest
import torch
from toys import toy_batches

from coefvq.pairs import PairBatch
from coefvq.types import Batch, InputSpec, StudentOutput, TaskSpec


def test_public_hides_what_serving_does_not_have():
    batch = dataclasses.replace(toy_batches()[0], sample_weight=torch.ones(8))
    public = batch.public()
    hidden = ("labels", "label_mask", "sample_weight", "privileged", "privileged_mask")
    assert all(getattr(batch, name) is not None for name in hidden)
    assert all(getattr(public, name) is None for name in hidden)
    assert public.frames is batch.frames and public.ids == batch.ids
    assert batch.whole() is batch


def test_to_moves_every_tensor_and_keeps_the_rest():
    batch = toy_batches()[0]
    moved = batch.to("meta")
    assert isinstance(moved, Batch) and moved.ids == batch.ids and moved.audio is None
    assert moved.frames.device.type == moved.labels.device.type == "meta"
    assert moved.frames.dtype == torch.uint8
    output = StudentOutput(torch.zeros(2)).to("meta")
    assert output.logits.device.type == "meta" and output.features is None


def test_rows_are_picked_from_tensors_tuples_and_what_lies_within():
    one = Batch(("a", "b"), torch.arange(2), torch.ones(2, 1), views=("v", "w"))
    chosen = one.rows([1, 0, 1])
    assert chosen.ids == ("b", "a", "b") and chosen.views == ("w", "v", "w")
    assert chosen.frames.tolist() == [1, 0, 1] and chosen.labels is None
    pairs = PairBatch(("p", "q"), one, one.rows([1, 0]), labels=torch.tensor([0.0, 1.0]))
    last = pairs.rows([1])
    assert (last.ids, last.query.ids, last.candidate.ids) == (("q",), ("b",), ("a",))
    assert last.labels.tolist() == [1.0]


def test_batches_are_frozen_and_have_a_length():
    batch = toy_batches(n=5, batch_size=5)[0]
    assert len(batch) == 5
    with pytest.raises(dataclasses.FrozenInstanceError):
        batch.labels = None


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
    with pytest.raises(ValueError, match="at least two class names, got 1"):
        TaskSpec("t", "multiclass", ("a",))


def test_mel_frames_follow_from_the_seconds():
    assert InputSpec(audio_seconds=2.0, sample_rate=16_000, hop_length=160).mel_frames == 200
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
