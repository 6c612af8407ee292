import dataclasses

import pytest
import torch
from toys import toy_batches

from coefvq.pairs import PairBatch
from coefvq.types import Batch, StudentOutput


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
