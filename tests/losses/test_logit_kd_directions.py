"""Reverse KL and JSD: what they share with forward KL is in `test_logit_kd.py`."""

import math
from dataclasses import replace

import pytest
import reference
import torch

from coefvq.losses import LogitKDLoss, logit_kd_loss

WAYS = [("reverse", 0.5), ("jsd", 0.5), ("jsd", 0.1), ("jsd", 0.9)]


@pytest.fixture(params=WAYS, ids=lambda way: f"{way[0]}-{way[1]}")
def way(request):
    return dict(zip(("direction", "beta"), request.param, strict=True))


def loss(case, **options):
    return logit_kd_loss(
        case.student, case.teacher, task=case.task, sample_weight=case.sample_weight, **options
    )


def test_closed_form():
    # Teacher (3/4, 1/4), student (1/2, 1/2). Reverse: ½ log(2/3) + ½ log 2 = log 2 − ½ log 3.
    teacher, student = torch.tensor([[3.0, 1.0]]).log(), torch.zeros(1, 2)
    reverse = logit_kd_loss(student, teacher, task="multiclass", direction="reverse")
    torch.testing.assert_close(reverse, torch.tensor(math.log(2) - math.log(3) / 2))
    # JSD, β = ½: m = (5/8, 3/8); ½(¾ log 6/5 + ¼ log 2/3) + ½(½ log 4/5 + ½ log 4/3).
    jsd = logit_kd_loss(student, teacher, task="multiclass", direction="jsd")
    first = 0.75 * math.log(6 / 5) + 0.25 * math.log(2 / 3)
    second = 0.5 * math.log(4 / 5) + 0.5 * math.log(4 / 3)
    torch.testing.assert_close(jsd, torch.tensor((first + second) / 2))


def test_equals_reference(task, weighted, reduction, way, make_case):
    case = make_case(task, weighted=weighted)
    student, teacher, _ = case.lists()
    options = {"temperature": 3.0, "reduction": reduction, **way}
    expected = reference.logit_kd(
        student, teacher, task, weight=case.options()["weight"], **options
    )
    value = loss(case, **options)
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))


def test_zero_for_equal_logits__trl_5731(full, way):
    assert loss(replace(full, teacher=full.student), **way).item() == 0.0


def test_forward_and_reverse_change_places(make_case, task):
    case = make_case(task)
    swapped = replace(case, student=case.teacher, teacher=case.student)
    torch.testing.assert_close(loss(case, direction="reverse"), loss(swapped))
    assert abs(loss(case, direction="reverse") - loss(case)) > 0.01


def test_jsd_is_symmetric_bounded_and_meets_kl_at_its_ends(make_case):
    case = make_case("multiclass")
    swapped = replace(case, student=case.teacher, teacher=case.student)
    torch.testing.assert_close(loss(case, direction="jsd"), loss(swapped, direction="jsd"))
    far = replace(case, student=case.student * 50)
    assert (loss(far, direction="jsd", reduction="none") <= math.log(2)).all()
    small = loss(case, direction="jsd", beta=1e-5) / 1e-5
    torch.testing.assert_close(small, loss(case), rtol=1e-3, atol=0)
    large = loss(case, direction="jsd", beta=1 - 1e-5) / 1e-5
    torch.testing.assert_close(large, loss(case, direction="reverse"), rtol=1e-3, atol=0)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_gradients(checks, full, way, reduction):
    checks.gradients(lambda case: loss(case, reduction=reduction, temperature=2.0, **way), full)


def test_invariances(checks, make_case, full, way):
    checks.permutation(lambda case: loss(case, reduction="none", **way), full)
    checks.micro_batches(lambda case: loss(case, reduction="sum", **way), full)
    checks.shift(lambda case: loss(case, **way), make_case("multiclass"))
    checks.appended_classes(lambda case: loss(case, **way), make_case("multiclass"))


def test_extremes_and_half_precision__liger_769(checks, full, way):
    checks.extremes(lambda case: loss(case, **way), full)
    checks.half_precision(lambda case: loss(case, **way), full)


@pytest.mark.parametrize("direction", ["reverse", "jsd"])  # one graph whatever beta is
def test_compiled(checks, full, direction):
    checks.compiled(lambda case: loss(case, direction=direction), full)


def test_module_equals_function(make_case, way):
    case = make_case("multilabel", weighted=True)
    module = LogitKDLoss(task="multilabel", temperature=2.0, **way)
    value = module(case.student, case.teacher, case.sample_weight)
    assert torch.equal(value, loss(case, temperature=2.0, **way))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"direction": "backward"}, "direction 'backward' is unknown; choose one of forward, rev"),
        ({"direction": "jsd", "beta": 0.0}, r"beta must be a number inside \(0, 1\), got 0.0"),
        ({"beta": 0.3}, "beta is for direction 'jsd', got beta 0.3 with direction 'forward'"),
    ],
)
def test_errors(options, sentence):
    z = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=sentence):
        logit_kd_loss(z, z, task="multiclass", **options)
    with pytest.raises(ValueError, match=sentence):
        LogitKDLoss(task="multiclass", **options)


@pytest.mark.parametrize("direction", ["forward", "reverse", "jsd"])
def test_a_second_derivative_is_refused_and_never_wrong(direction):
    student = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    value = logit_kd_loss(
        student, torch.randn(4, 3, dtype=torch.float64), task="multiclass", direction=direction
    )
    (gradient,) = torch.autograd.grad(value, student, create_graph=True)
    with pytest.raises(RuntimeError, match="gives a first derivative only"):
        gradient.square().sum().backward()
