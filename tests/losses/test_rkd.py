from dataclasses import replace
from types import SimpleNamespace

import pytest
import reference_features
import torch

from coefvq.losses.rkd import RKDLoss, rkd_loss


@pytest.fixture
def pooled(make_case):
    """(6, 3) of both sides, weighted."""
    return make_case("multilabel", weighted=True)


@pytest.fixture(params=[(1.0, 0.0), (0.0, 1.0), (1.0, 2.0)], ids=["distance", "angle", "both"])
def parts(request):
    return dict(zip(("distance_weight", "angle_weight"), request.param, strict=True))


def loss(case, **options):
    return rkd_loss(case.student, case.teacher, sample_weight=case.sample_weight, **options)


def test_closed_form_distance():
    # 0, 1, 3 on a line: distances 1, 3, 2, mean 2; the teacher's all 1, mean 1. Differences
    # −½, ½, 0, each at two places of nine: 4 · ⅛ / 9 = 1/18.
    student = torch.tensor([[0.0], [1.0], [3.0]])
    teacher = torch.eye(3) / 2**0.5
    value = rkd_loss(student, teacher, angle_weight=0.0)
    torch.testing.assert_close(value, torch.tensor(1 / 18))


def test_closed_form_angle():
    # A right angle at 0 with equal sides, (0, √½, √½), against a line with the corner in its
    # middle, (−1, 1, 1). Each corner has its cosine at two places of 27: Huber(1) = ½ and twice
    # ½ (1 − √½)².
    student = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    teacher = torch.tensor([[0.0], [1.0], [-1.0]])
    value = rkd_loss(student, teacher, distance_weight=0.0, angle_weight=1.0, reduction="none")
    other = 2 * 0.5 * (1 - 0.5**0.5) ** 2 / 9
    torch.testing.assert_close(value, torch.tensor([1 / 9, other, other]))


def test_equals_reference(make_case, parts, weighted, reduction):
    case = make_case("multilabel", weighted=weighted)
    case = replace(case, teacher=case.teacher[:, :2])
    expected = reference_features.rkd(
        case.student.tolist(), case.teacher.tolist(), **parts,
        weight=case.options()["weight"], reduction=reduction,
    )  # fmt: skip
    value = loss(case, **parts, reduction=reduction)
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))


def test_kd_of_equal_features_is_zero__trl_5731(pooled, parts):
    assert loss(replace(pooled, teacher=pooled.student), **parts) == 0


def test_turned_moved_and_scaled_features_are_equal(pooled, parts):
    turn, _ = torch.linalg.qr(pooled.student[:3])
    moved = replace(pooled, student=5 * pooled.teacher @ turn + 7)
    torch.testing.assert_close(loss(moved, **parts), torch.zeros((), dtype=torch.float64))


def test_a_sample_of_weight_two_is_two_samples(make_case, parts):
    case = make_case("multilabel")
    weight = torch.tensor([2.0, 1, 0, 3, 1, 1], dtype=torch.float64)
    times = case.rows(torch.tensor([0, 0, 1, 3, 3, 3, 4, 5]))
    value = loss(replace(case, sample_weight=weight), **parts)
    torch.testing.assert_close(value, loss(times, **parts))
    torch.testing.assert_close(loss(replace(case, sample_weight=7 * weight), **parts), value)
    nobody = loss(replace(case, sample_weight=0 * weight), **parts)
    assert nobody == 0


def test_gradients(checks, pooled, parts, reduction):
    checks.gradients(lambda c: loss(c, **parts, reduction=reduction), pooled)


def test_equal_points_have_a_gradient(parts):
    """The root at 0 has no slope, and a collapsed student no mean distance."""
    draw = torch.Generator().manual_seed(0)
    teacher = torch.randn(4, 3, generator=draw)
    for student in (teacher[[0, 0, 1, 2]].clone(), torch.ones(4, 3)):
        student.requires_grad_()
        value = rkd_loss(student, teacher, **parts)
        value.backward()
        assert value.isfinite()
        assert student.grad.isfinite().all()


def test_near_duplicates_keep_their_distance():
    """Through products, distances of 1e-3 beside 1e3 would be rounding."""
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    near = rkd_loss(points * 2**-10 + 1024, points)
    torch.testing.assert_close(near, torch.tensor(0.0), rtol=0, atol=1e-6)


def test_permutation(pooled, parts):
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    value = loss(pooled, **parts, reduction="none")
    torch.testing.assert_close(loss(pooled.rows(order), **parts, reduction="none"), value[order])


def test_continuous(checks, pooled):
    checks.continuous(lambda w: loss(pooled, distance_weight=w), 0.0)
    checks.continuous(lambda w: loss(pooled, angle_weight=w), 0.0)


def test_extremes_half_precision_and_compiled(checks, pooled, parts):
    checks.extremes(lambda c: loss(c, **parts), pooled)
    checks.half_precision(lambda c: loss(c, **parts), pooled)
    checks.compiled(lambda c: loss(c, **parts), pooled)


def test_module_equals_function(pooled, reduction):
    options = {"distance_weight": 0.5, "angle_weight": 3.0, "gather": False, "reduction": reduction}
    module = RKDLoss(**options)
    inputs = pooled.student, pooled.teacher, pooled.sample_weight
    assert torch.equal(module(*inputs), loss(pooled, **options))
    outputs = [SimpleNamespace(features=x) for x in inputs[:2]]
    assert torch.equal(module(**module.select(*outputs, pooled)), loss(pooled, **options))
    with pytest.raises(ValueError, match="RKDLoss needs a teacher's features"):
        module.select(outputs[0], None, pooled)


THREE = torch.zeros(3, 4)


@pytest.mark.parametrize(
    ("student", "teacher", "options", "message"),
    [
        (THREE[:2], THREE[:2], {}, r"at least 3 samples at once and got 2: .*drop_last=True"),
        (THREE[:1], THREE[:1], {}, "got 1: .*batch size that leaves no such rest"),
        (THREE[:2], THREE, {}, "of the same B samples"),
        (THREE[:, None], THREE[:, None], {}, r"\(3, 1, 4\) but \(B, D\) is expected; pool or"),
        (THREE, THREE, {"distance_weight": -1.0}, "distance_weight must be a finite number from 0"),
        (THREE, THREE, {"angle_weight": float("nan")}, "angle_weight must be a finite number"),
        (THREE, THREE, {"distance_weight": 0, "angle_weight": 0}, "both 0, which leaves nothing"),
        (THREE, THREE, {"reduction": "batch"}, "reduction 'batch' is unknown"),
    ],
)
def test_errors(student, teacher, options, message):
    with pytest.raises(ValueError, match=message):
        rkd_loss(student, teacher, **options)


def test_module_errors():
    with pytest.raises(ValueError, match="both 0"):
        RKDLoss(distance_weight=0.0, angle_weight=0.0)
