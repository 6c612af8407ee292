from dataclasses import replace
from types import SimpleNamespace

import pytest
import reference_features
import torch

from coefvq.losses.similarity_preserving import (
    SimilarityPreservingLoss,
    similarity_preserving_loss,
)


@pytest.fixture
def pooled(make_case):
    """(6, 3) of both sides, weighted."""
    return make_case("multilabel", weighted=True)


def loss(case, **options):
    return similarity_preserving_loss(
        case.student, case.teacher, sample_weight=case.sample_weight, **options
    )


def test_closed_form():
    # Features 1, 2 of width 1 have the table ((1, 2), (2, 4)), both rows (1, 2) / √5; the teacher's
    # are at right angles, rows (1, 0) and (0, 1). |·|² is 2 − 2/√5 and 2 − 4/√5, each over B = 2.
    value = similarity_preserving_loss(
        torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0, 0.0], [0.0, 5.0]]), reduction="none"
    )
    torch.testing.assert_close(value, torch.tensor([1 - 1 / 5**0.5, 1 - 2 / 5**0.5]))


def test_equals_reference(make_case, weighted, reduction):
    case = make_case("multilabel", weighted=weighted)
    case = replace(case, teacher=case.teacher[:, :2])
    expected = reference_features.similarity_preserving(
        case.student.tolist(), case.teacher.tolist(), case.options()["weight"], reduction
    )
    value = loss(case, reduction=reduction)
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))


def test_kd_of_equal_features_is_zero__trl_5731(pooled):
    assert loss(replace(pooled, teacher=pooled.student)) == 0


def test_turned_and_scaled_features_are_equal(pooled):
    turn, _ = torch.linalg.qr(pooled.student[:3])
    turned = replace(pooled, student=5 * pooled.teacher @ turn)
    torch.testing.assert_close(loss(turned), torch.zeros((), dtype=torch.float64))


def test_a_sample_of_weight_two_is_two_samples(make_case):
    """Up to the 1 / B of the whole: 5 rows of some weight here, 8 there."""
    case = make_case("multilabel")
    weight = torch.tensor([2.0, 1, 0, 3, 1, 1], dtype=torch.float64)
    times = case.rows(torch.tensor([0, 0, 1, 3, 3, 3, 4, 5]))
    value = loss(replace(case, sample_weight=weight))
    torch.testing.assert_close(value * 5, loss(times) * 8)
    torch.testing.assert_close(loss(replace(case, sample_weight=7 * weight)), value)
    assert loss(replace(case, sample_weight=0 * weight)) == 0


def test_a_sample_of_weight_zero_is_absent(make_case, reduction):
    case = make_case("multilabel")
    weight = torch.tensor([1.0, 1, 0, 1, 0, 1], dtype=torch.float64)
    value = loss(replace(case, sample_weight=weight), reduction=reduction)
    alone = loss(case.rows(weight > 0), reduction=reduction)
    torch.testing.assert_close(value[weight > 0] if reduction == "none" else value, alone)


def test_no_features_no_nan():
    student = torch.zeros(3, 4, requires_grad=True)
    value = similarity_preserving_loss(student, torch.eye(3), reduction="none")
    torch.testing.assert_close(value, torch.full((3,), 1 / 3))
    value.sum().backward()
    assert student.grad.isfinite().all()


def test_gradients(checks, pooled, reduction):
    checks.gradients(lambda c: loss(c, reduction=reduction), pooled)


def test_permutation(pooled):
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    value = loss(pooled, reduction="none")
    torch.testing.assert_close(loss(pooled.rows(order), reduction="none"), value[order])


def test_extremes_half_precision_and_compiled(checks, pooled):
    checks.extremes(loss, pooled)
    checks.half_precision(loss, pooled)
    checks.compiled(loss, pooled)


def test_module_equals_function(pooled, reduction):
    module = SimilarityPreservingLoss(gather=False, reduction=reduction)
    inputs = pooled.student, pooled.teacher, pooled.sample_weight
    assert torch.equal(module(*inputs), loss(pooled, reduction=reduction))
    outputs = [SimpleNamespace(features=x) for x in inputs[:2]]
    assert torch.equal(module(**module.select(*outputs, pooled)), loss(pooled, reduction=reduction))
    with pytest.raises(ValueError, match="SimilarityPreservingLoss needs a teacher's features"):
        module.select(outputs[0], None, pooled)


TWO = torch.zeros(2, 4)


@pytest.mark.parametrize(
    ("student", "teacher", "options", "message"),
    [
        (TWO[:1], TWO[:1], {}, r"at least 2 samples at once and got 1: .*drop_last=True"),
        (TWO, TWO[:1], {}, "of the same B samples"),
        (TWO[:, None], TWO[:, None], {}, r"\(2, 1, 4\) but \(B, D\) is expected; pool or flatten"),
        (TWO.bool(), TWO, {}, "student_features must be floating point"),
        (TWO, TWO, {"reduction": "batch"}, "reduction 'batch' is unknown"),
        (TWO, TWO, {"sample_weight": torch.ones(3)}, r"sample_weight has shape \(3,\)"),
    ],
)
def test_errors(student, teacher, options, message):
    with pytest.raises(ValueError, match=message):
        similarity_preserving_loss(student, teacher, **options)


def test_module_errors():
    with pytest.raises(ValueError, match="reduction 'avg' is unknown"):
        SimilarityPreservingLoss(reduction="avg")
