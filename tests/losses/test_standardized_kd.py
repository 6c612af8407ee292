"""Distillation of standardised logits."""

from dataclasses import replace

import pytest
import reference_logits as reference
import torch

from coefvq.losses import StandardizedKDLoss, logit_kd_loss, standardized_kd_loss


def loss(case, **options):
    return standardized_kd_loss(
        case.student, case.teacher, sample_weight=case.sample_weight, **options
    )


@pytest.fixture
def case(weighted, make_case):
    return make_case("multiclass", weighted=weighted)


def test_closed_form():
    # (0, 0, 3) and (0, 3, 0) have mean 1 and deviation √2: z-scores (−1, −1, 2) / √2 and so on.
    student, teacher = torch.tensor([[0.0, 0.0, 3.0]]), torch.tensor([[0.0, 3.0, 0.0]])
    root = 2**0.5
    expected = logit_kd_loss(
        torch.tensor([[-1.0, -1.0, 2.0]]) / root, torch.tensor([[-1.0, 2.0, -1.0]]) / root,
        task="multiclass", temperature=2.0,
    )  # fmt: skip
    torch.testing.assert_close(standardized_kd_loss(student, teacher), expected)


def test_the_authors_divisor_is_another_temperature(case):
    """Theirs is C − 1: T becomes T √(C / (C − 1)), and T² of their loss (C − 1) / C of ours."""

    def theirs(z):
        return (z - z.mean(-1, keepdim=True)) / z.std(-1, keepdim=True)

    other = logit_kd_loss(
        theirs(case.student), theirs(case.teacher), task="multiclass", temperature=2.0,
        sample_weight=case.sample_weight,
    )  # fmt: skip
    classes = case.student.shape[-1]
    own = loss(case, temperature=2.0 * (classes / (classes - 1)) ** 0.5)
    torch.testing.assert_close(other, own * (classes - 1) / classes)


def test_equals_reference(case, reduction):
    student, teacher, _ = case.lists()
    weight = case.options()["weight"]
    expected = reference.standardized_kd(
        student, teacher, temperature=3.0, reduction=reduction, weight=weight
    )
    value = loss(case, temperature=3.0, reduction=reduction)
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))


def test_scale_and_shift_of_either_side_change_nothing(case):
    moved = replace(case, student=case.student * 7 + 3, teacher=case.teacher * 0.1 - 5)
    torch.testing.assert_close(loss(moved), loss(case))
    assert loss(replace(case, student=-case.student)) > loss(case) * 0  # a negative scale counts
    flipped = replace(case, teacher=-case.student)
    assert loss(flipped) > 0.1


def test_zero_for_equal_logits__trl_5731(case):
    assert loss(replace(case, teacher=case.student)).item() == 0.0
    assert loss(replace(case, teacher=3 * case.student)).item() == pytest.approx(0, abs=1e-12)


def test_a_row_without_spread_is_uniform_and_has_a_gradient_of_numbers():
    student = torch.full((2, 4), 5.0, requires_grad=True)
    value = standardized_kd_loss(student, torch.randn(2, 4))
    value.backward()
    assert value.isfinite() and student.grad.isfinite().all()


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_gradients(checks, case, reduction):
    checks.gradients(lambda case: loss(case, reduction=reduction), case)


def test_invariances(checks, case):
    checks.permutation(lambda case: loss(case, reduction="none"), case)
    checks.micro_batches(lambda case: loss(case, reduction="sum"), case)
    checks.shift(loss, case)
    checks.appended_classes(loss, case)


def test_extremes_half_precision_and_compile(checks, case):
    checks.extremes(loss, case)
    checks.half_precision(loss, case)
    checks.compiled(loss, case)


def test_module_equals_function(case):
    module = StandardizedKDLoss(temperature=3.0)
    value = module(case.student, case.teacher, case.sample_weight)
    assert torch.equal(value, loss(case, temperature=3.0))


def test_two_classes_have_no_gradient_and_are_refused():
    for task in ("binary", "multilabel"):
        with pytest.raises(ValueError, match="always ±1 and the gradient is 0"):
            StandardizedKDLoss(task=task)
    z = torch.zeros(2, 2)
    with pytest.raises(ValueError, match="always ±1 and the gradient is 0"):
        standardized_kd_loss(z, z)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"temperature": 0.0}, "temperature must be a finite number above 0"),
        ({"reduction": "batch"}, "reduction 'batch' is unknown"),
        ({"task": "regression"}, "task 'regression' is unknown"),
    ],
)
def test_errors(options, sentence):
    z = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=sentence):
        standardized_kd_loss(z, z, **options)
    with pytest.raises(ValueError, match=sentence):
        StandardizedKDLoss(**options)
