from dataclasses import replace
from types import SimpleNamespace

import pytest
import reference_features
import torch

from coefvq.losses.cka import CKALoss, cka_loss


@pytest.fixture
def pooled(make_case):
    """(6, 3) of both sides, weighted."""
    return make_case("multilabel", weighted=True)


def loss(case):
    return cka_loss(case.student, case.teacher, sample_weight=case.sample_weight)


def test_closed_form():
    # Of width 1, CKA is the squared correlation: (0, 1, 2) with (0, 1, 5) has centred products 5,
    # squares 2 and 14: 25 / 28.
    value = cka_loss(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0], [1.0], [5.0]]))
    torch.testing.assert_close(value, torch.tensor(3 / 28))


def test_equals_reference(make_case, weighted):
    case = make_case("multilabel", weighted=weighted)
    case = replace(case, teacher=case.teacher[:, :2])
    expected = reference_features.cka(
        case.student.tolist(), case.teacher.tolist(), case.options()["weight"]
    )
    torch.testing.assert_close(loss(case), torch.tensor(expected, dtype=torch.float64))


def test_kd_of_equal_features_is_zero__trl_5731(pooled):
    assert loss(replace(pooled, teacher=pooled.student)) == 0


def test_turned_moved_and_scaled_features_are_equal(pooled):
    turn, _ = torch.linalg.qr(pooled.student[:3])
    moved = replace(pooled, student=5 * pooled.teacher @ turn + 7)
    torch.testing.assert_close(loss(moved), torch.zeros((), dtype=torch.float64))


def test_a_sample_of_weight_two_is_two_samples(make_case):
    case = make_case("multilabel")
    weight = torch.tensor([2.0, 1, 0, 3, 1, 1], dtype=torch.float64)
    times = case.rows(torch.tensor([0, 0, 1, 3, 3, 3, 4, 5]))
    value = loss(replace(case, sample_weight=weight))
    torch.testing.assert_close(value, loss(times))
    torch.testing.assert_close(loss(replace(case, sample_weight=7 * weight)), value)
    assert loss(replace(case, sample_weight=0 * weight)) == 0


def test_one_point_for_all_samples_has_no_nan():
    """0.1 · 3 / 3 is not 0.1: rounding must not become a direction."""
    student = torch.full((3, 4), 0.1, requires_grad=True)
    value = cka_loss(student, torch.eye(3))
    torch.testing.assert_close(value, torch.tensor(0.5))
    value.backward()
    assert (student.grad == 0).all()
    assert cka_loss(student, student) == 0


def test_far_from_the_origin(pooled):
    near = replace(pooled, student=pooled.student.float(), teacher=pooled.teacher.float())
    far = replace(near, student=near.student + 1024)
    torch.testing.assert_close(loss(far), loss(near), rtol=0, atol=1e-3)


def test_gradients(checks, pooled):
    checks.gradients(loss, pooled)


def test_permutation(pooled):
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(loss(pooled.rows(order)), loss(pooled))


def test_extremes_half_precision_and_compiled(checks, pooled):
    checks.extremes(loss, pooled)
    checks.half_precision(loss, pooled)
    checks.compiled(loss, pooled)


def test_module_equals_function(pooled):
    module = CKALoss(gather=False)
    inputs = pooled.student, pooled.teacher, pooled.sample_weight
    assert torch.equal(module(*inputs), loss(pooled))
    outputs = [SimpleNamespace(features=x) for x in inputs[:2]]
    assert torch.equal(module(**module.select(*outputs, pooled)), loss(pooled))
    with pytest.raises(ValueError, match="CKALoss needs a teacher's features"):
        module.select(outputs[0], None, pooled)


THREE = torch.zeros(3, 4)


@pytest.mark.parametrize(
    ("student", "teacher", "options", "message"),
    [
        (THREE[:2], THREE[:2], {}, r"at least 3 samples at once and got 2: .*drop_last=True"),
        (THREE, THREE[:1], {}, "of the same B samples"),
        (THREE[0], THREE[0], {}, r"\(4,\) but \(B, D\) is expected"),
        (THREE, THREE, {"reduction": "none"}, "'none' is over samples, but CKA is one number"),
        (THREE, THREE, {"reduction": "sum"}, "use 'mean'"),
        (THREE, THREE, {"reduction": "batch"}, "reduction 'batch' is unknown"),
    ],
)
def test_errors(student, teacher, options, message):
    with pytest.raises(ValueError, match=message):
        cka_loss(student, teacher, **options)


def test_module_errors():
    with pytest.raises(ValueError, match="CKA is one number"):
        CKALoss(reduction="none")
