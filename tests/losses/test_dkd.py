"""Decoupled distillation."""

import math
from dataclasses import replace

import pytest
import reference_logits as reference
import torch

from coefvq.losses import DKDLoss, dkd_loss, logit_kd_loss

OPTIONS = {"alpha": 1.3, "beta": 4.0, "temperature": 3.0}


def loss(case, **options):
    return dkd_loss(
        case.student, case.teacher, case.labels, label_mask=case.label_mask,
        sample_weight=case.sample_weight, **options,
    )  # fmt: skip


@pytest.fixture
def case(missing, weighted, make_case):
    return make_case("multiclass", missing, weighted)


@pytest.fixture
def full(make_case):
    return make_case("multiclass", missing=True, weighted=True)


def test_closed_form():
    # p = (½, 0.3, 0.2), q uniform, label 0: b = (½, ½) against (⅓, ⅔), p̂ = (0.6, 0.4) against ½.
    teacher = torch.tensor([[0.5, 0.3, 0.2]]).log()
    value = dkd_loss(
        torch.zeros(1, 3), teacher, torch.tensor([0]), alpha=2.0, beta=3.0, temperature=1.0
    )
    target = 0.5 * math.log(1.5) + 0.5 * math.log(0.75)
    others = 0.6 * math.log(1.2) + 0.4 * math.log(0.8)
    torch.testing.assert_close(value, torch.tensor(2 * target + 3 * others))


def test_equals_reference(case, reduction):
    student, teacher, labels = case.lists()
    expected = reference.dkd(
        student, teacher, labels, reduction=reduction, **OPTIONS, **case.options()
    )
    value = loss(case, reduction=reduction, **OPTIONS)
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))


def test_zero_for_equal_logits__trl_5731(full):
    assert loss(replace(full, teacher=full.student), **OPTIONS).item() == pytest.approx(
        0, abs=1e-12
    )


def test_it_is_distillation_where_the_others_weigh_what_the_teacher_leaves_them(make_case):
    case = make_case("multiclass", batch=1)
    rest = 1 - case.teacher.softmax(-1)[0, case.labels[0]].item()
    value = loss(case, alpha=1.0, beta=rest, temperature=1.0)
    plain = logit_kd_loss(case.student, case.teacher, task="multiclass")
    torch.testing.assert_close(value, plain)


def test_without_any_label_it_is_plain_distillation(full):
    value = dkd_loss(full.student, full.teacher, None, **OPTIONS)
    plain = logit_kd_loss(full.student, full.teacher, task="multiclass", temperature=3.0)
    torch.testing.assert_close(value, 1.0 * plain)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_gradients(checks, full, reduction):
    checks.gradients(lambda case: loss(case, reduction=reduction, **OPTIONS), full)


def test_a_second_derivative_is_refused_and_never_wrong(full):
    student = full.student.clone().requires_grad_()
    value = loss(replace(full, student=student), **OPTIONS)
    (gradient,) = torch.autograd.grad(value, student, create_graph=True)
    with pytest.raises(RuntimeError, match="gives a first derivative only"):
        gradient.square().sum().backward()


def test_invariances(checks, full, make_case):
    checks.permutation(lambda case: loss(case, reduction="none", **OPTIONS), full)
    checks.micro_batches(lambda case: loss(case, reduction="sum", **OPTIONS), full)
    checks.shift(lambda case: loss(case, **OPTIONS), full)
    checks.appended_classes(lambda case: loss(case, **OPTIONS), full)


def test_extremes_half_precision_and_compile(checks, full):
    checks.extremes(lambda case: loss(case, **OPTIONS), full)
    checks.half_precision(lambda case: loss(case, **OPTIONS), full)
    checks.compiled(lambda case: loss(case, **OPTIONS), full)


def test_a_sample_whose_label_is_the_only_possible_class():
    z = torch.tensor([[1.0, -torch.inf, -torch.inf]], requires_grad=True)
    value = dkd_loss(z, z.detach(), torch.tensor([0]), **OPTIONS)
    value.backward()
    assert value.item() == 0.0 and z.grad.isfinite().all()


def test_module_equals_function(full):
    module = DKDLoss(**OPTIONS)
    value = module(full.student, full.teacher, full.labels, full.label_mask, full.sample_weight)
    assert torch.equal(value, loss(full, **OPTIONS))


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_two_classes_are_refused_with_the_reason(task):
    for call in (
        lambda: dkd_loss(torch.zeros(2), torch.zeros(2), torch.zeros(2), task=task),
        lambda: DKDLoss(task=task),
    ):
        with pytest.raises(ValueError, match="needs task 'multiclass' with more than two classes"):
            call()
    with pytest.raises(ValueError, match="one other class, whose part is always 0"):
        dkd_loss(torch.zeros(2, 2), torch.zeros(2, 2), torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"alpha": -1.0}, "alpha must be a finite number from 0, got -1.0"),
        ({"beta": -1.0}, "beta must be a finite number from 0, got -1.0"),
        ({"temperature": 0.0}, "temperature must be a finite number above 0"),
        ({"reduction": "batch"}, "reduction 'batch' is unknown"),
        ({"task": "regression"}, "task 'regression' is unknown"),
    ],
)
def test_errors(options, sentence):
    z, y = torch.zeros(2, 3), torch.tensor([0, 2])
    with pytest.raises(ValueError, match=sentence):
        dkd_loss(z, z, y, **options)
    with pytest.raises(ValueError, match=sentence):
        DKDLoss(**options)
    with pytest.raises(ValueError, match="label 3 in row 1 is not a class index"):
        dkd_loss(z, z, torch.tensor([0, 3]))
