"""Focal γ of `supervised_loss` (Lin et al., 2017)."""

import math

import pytest
import reference
import torch

from coefvq.losses import SupervisedLoss, supervised_loss


def loss(case, **options):
    return supervised_loss(
        case.student, case.labels, task=case.task, label_mask=case.label_mask,
        sample_weight=case.sample_weight, **options,
    )  # fmt: skip


def test_closed_form():
    # p = 4/5 for a positive: (1 − 4/5)² · log(5/4).
    value = supervised_loss(
        torch.tensor([4.0]).log(), torch.ones(1), task="binary", focal_gamma=2.0
    )
    torch.testing.assert_close(value, torch.tensor(0.04 * math.log(1.25)))


@pytest.mark.parametrize("options", [{}, {"smoothing": 0.2}])
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_equals_reference(case, reduction, gamma, options):
    student, _, labels = case.lists()
    expected = reference.supervised(
        student, labels, case.task, reduction=reduction, gamma=gamma, **options, **case.options()
    )
    ours = {"label_smoothing": options.get("smoothing", 0.0)}
    value = loss(case, reduction=reduction, focal_gamma=gamma, **ours)
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))


def test_zero_changes_no_bit_and_is_no_cliff(full, checks):
    assert torch.equal(loss(full, focal_gamma=0.0), loss(full))
    checks.continuous(lambda gamma: loss(full, focal_gamma=gamma), at=0.0)


def test_easy_samples_count_less(full):
    plain = loss(full, reduction="none")
    focal = loss(full, reduction="none", focal_gamma=2.0)
    assert (focal <= plain).all() and focal.sum() < plain.sum()


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_gradients_and_extremes(checks, full, gamma):
    checks.gradients(lambda case: loss(case, focal_gamma=gamma), full)
    checks.extremes(lambda case: loss(case, focal_gamma=gamma), full)
    checks.half_precision(lambda case: loss(case, focal_gamma=gamma), full)


def test_compiled(checks, full):
    checks.compiled(lambda case: loss(case, focal_gamma=1.5), full)


def test_masked_classes(checks, make_case):
    checks.appended_classes(lambda case: loss(case, focal_gamma=2.0), make_case("multiclass"))


def test_module_and_errors(full):
    module = SupervisedLoss(task=full.task, focal_gamma=2.0)
    value = module(full.student, full.labels, full.label_mask, full.sample_weight)
    assert torch.equal(value, loss(full, focal_gamma=2.0))
    with pytest.raises(ValueError, match="focal_gamma"):
        supervised_loss(full.student, full.labels, task=full.task, focal_gamma=-1.0)
    with pytest.raises(ValueError, match="regression"):
        SupervisedLoss(task="regression", focal_gamma=2.0)
