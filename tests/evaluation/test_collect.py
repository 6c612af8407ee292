import dataclasses

import pytest
import torch
from toys import ToyStudent, toy_batches

from coefvq.evaluation.collect import collect


def student(batch):
    return ToyStudent()(batch.public())


def test_everything_comes_in_the_loaders_order():
    batches = toy_batches(n=20, batch_size=8)
    found = collect(student, batches)
    assert found.ids == tuple(f"clip{i}" for i in range(20))
    expected = torch.cat([student(batch).logits for batch in batches])
    assert torch.equal(found.logits, expected)
    assert torch.equal(found.labels, torch.cat([batch.labels for batch in batches]))
    assert found.label_mask.all() and found.label_mask.shape == (20,)


def test_the_size_of_a_batch_does_not_matter():
    small, large = (collect(student, toy_batches(n=12, batch_size=size)) for size in (1, 12))
    torch.testing.assert_close(small.logits, large.logits)


def test_no_gradient_is_kept():
    assert not collect(student, toy_batches()).logits.requires_grad


def test_logits_arrive_as_float32_on_the_cpu():
    def half(batch):
        output = student(batch)
        return dataclasses.replace(output, logits=output.logits.bfloat16())

    assert collect(half, toy_batches()).logits.dtype == torch.float32


def test_a_missing_mask_counts_every_label_and_a_given_one_is_kept():
    first, second = toy_batches(n=16, batch_size=8)
    first = dataclasses.replace(first, label_mask=None)
    second = dataclasses.replace(second, label_mask=torch.arange(8) < 3)
    assert collect(student, [first, second]).label_mask.tolist() == [True] * 11 + [False] * 5


def test_batches_without_labels_give_none():
    found = collect(student, [batch.public() for batch in toy_batches()])
    assert found.labels is None and found.label_mask is None and len(found.ids) == 16


def test_nothing_to_predict_is_said():
    with pytest.raises(ValueError, match="the split is empty"):
        collect(student, [])


def test_clips_are_the_same_in_any_order_and_with_any_answer():
    found = collect(student, toy_batches())
    turned = dataclasses.replace(
        found,
        ids=found.ids[::-1],
        logits=found.logits + 1,
        labels=found.labels.flip(0),
        label_mask=found.label_mask.flip(0),
    )
    assert turned.clips_fingerprint == found.clips_fingerprint
    for other in (found.labels.flip(0), 1 - found.labels, None):
        changed = dataclasses.replace(found, labels=other)
        assert changed.clips_fingerprint != found.clips_fingerprint
