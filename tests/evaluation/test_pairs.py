import math

import pytest
import torch

from coefvq.evaluation.pairs import pair_metrics

NAMES = ["flip", "crop", "speed"]


def test_by_hand():
    # In order of score: copy (flip), copy (crop), negative, copy (flip and crop), negative.
    logits = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0])
    labels = torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0])
    kinds = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 0], [1, 1, 0], [0, 0, 0]]).float()
    found = pair_metrics(logits, labels, kinds, NAMES)
    # Taking two gives precision 1 and recall 2/3; taking four gives 3/4, below 0.8.
    assert found["recall_at_precision"] == {
        "80": pytest.approx(2 / 3), "90": pytest.approx(2 / 3), "95": pytest.approx(2 / 3)
    }  # fmt: skip
    assert set(found["by_sub_label"]) == {"flip", "crop"}  # nobody was sped up
    flip = found["by_sub_label"]["flip"]
    assert flip["chance"] == 0.5  # two of them beside two negatives
    assert flip["n"] == 2 and flip["recall_at_precision_80"] == 0.5
    # Against the negatives: ranks 1 and 3 of 4: (1/1 + 2/3) / 2.
    assert flip["average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    # crop: ranks 1 (score 3) and 3 (score 1): the same.
    assert found["by_sub_label"]["crop"]["average_precision"] == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize(("right", "taken"), [(9, 10), (19, 20), (8, 10)])
def test_a_precision_that_is_met_exactly_counts(right, taken):
    # The wrong one comes first: only all of them together have the precision.
    labels = torch.tensor([0.0, *[1.0] * right, *[0.0] * (taken - right - 1), *[0.0] * 9])
    if taken - right > 1:
        labels[0], labels[right + 1] = 1.0, 0.0
    found = pair_metrics(-torch.arange(len(labels)).float(), labels, None, [])
    assert found["recall_at_precision"][f"{100 * right // taken}"] == 1.0
    assert found["by_sub_label"] == {}


def test_masks_leave_out():
    logits = torch.tensor([4.0, -4.0, 3.0])
    labels = torch.tensor([1.0, 0.0, torch.nan])
    kinds = torch.tensor([[1.0], [torch.nan], [1.0]])
    mask, known = torch.tensor([True, True, False]), torch.tensor([[True], [False], [True]])
    found = pair_metrics(logits, labels, kinds, ["flip"], label_mask=mask, sub_label_mask=known)
    assert found["by_sub_label"]["flip"] == {
        "n": 1, "chance": 0.5, "average_precision": 1.0, "recall_at_precision_80": 1.0
    }  # fmt: skip


def test_a_precision_that_nothing_reaches_gives_no_recall():
    logits, labels = torch.tensor([2.0, 1.0]), torch.tensor([0.0, 1.0])
    found = pair_metrics(logits, labels, torch.ones(2, 1), ["flip"])
    assert found["recall_at_precision"]["80"] == 0
    assert found["by_sub_label"]["flip"]["recall_at_precision_80"] == 0


def test_one_kind_of_label_leaves_it_undefined():
    found = pair_metrics(torch.ones(2), torch.ones(2), torch.ones(2, 1), ["flip"])
    assert math.isnan(found["recall_at_precision"]["90"])
    assert math.isnan(found["by_sub_label"]["flip"]["average_precision"])
