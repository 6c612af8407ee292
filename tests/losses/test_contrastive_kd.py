import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import reference_features
import torch

from coefvq.losses.contrastive_kd import ContrastiveKDLoss, contrastive_kd_loss
from coefvq.objective import Objective
from coefvq.schedules import Schedule


@pytest.fixture
def pooled(make_case):
    """(6, 3) of both sides, weighted."""
    return make_case("multilabel", weighted=True)


@pytest.fixture(params=[False, True], ids=["one-way", "symmetric"])
def symmetric(request):
    return request.param


def loss(case, **options):
    return contrastive_kd_loss(
        case.student, case.teacher, sample_weight=case.sample_weight, **options
    )


def test_closed_form():
    # Student (1, 0) twice, teacher (1, 0) and (0, 1), T = ½: scores (2, 0) in both rows.
    # One way: log(1 + e⁻²) and log(1 + e²). Back: scores (2, 2) and (0, 0): log 2 twice.
    student, teacher = torch.tensor([[3.0, 0.0], [1.0, 0.0]]), torch.eye(2)
    there = torch.tensor([math.log1p(math.exp(-2)), math.log1p(math.exp(2))])
    options = {"temperature": 0.5, "reduction": "none"}
    torch.testing.assert_close(contrastive_kd_loss(student, teacher, **options), there)
    value = contrastive_kd_loss(student, teacher, symmetric=True, **options)
    torch.testing.assert_close(value, (there + math.log(2)) / 2)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_equals_reference(make_case, weighted, reduction, temperature, symmetric):
    case = make_case("multilabel", weighted=weighted)
    expected = reference_features.contrastive(
        case.student.tolist(), case.teacher.tolist(), temperature, symmetric,
        case.options()["weight"], reduction,
    )  # fmt: skip
    value = loss(case, temperature=temperature, symmetric=symmetric, reduction=reduction)
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))


def test_chance_is_log_b_and_a_clear_match_is_zero(symmetric):
    same = torch.ones(5, 3)
    value = contrastive_kd_loss(same, same, symmetric=symmetric)
    torch.testing.assert_close(value, torch.tensor(5.0).log())
    value = contrastive_kd_loss(torch.eye(5), torch.eye(5), temperature=0.01, symmetric=symmetric)
    torch.testing.assert_close(value, torch.tensor(0.0))


def test_swapped_clips_are_noticed():
    """The positive is the same clip's, whatever else is near."""
    swapped = contrastive_kd_loss(torch.eye(2).flip(0), torch.eye(2))
    assert swapped > 10 * contrastive_kd_loss(torch.eye(2), torch.eye(2))


def test_lengths_are_free(pooled, symmetric):
    longer = replace(pooled, student=pooled.student * torch.arange(1, 7)[:, None])
    torch.testing.assert_close(loss(longer, symmetric=symmetric), loss(pooled, symmetric=symmetric))


def test_no_direction_no_nan(symmetric):
    student = torch.zeros(3, 4, requires_grad=True)
    value = contrastive_kd_loss(student, torch.eye(3, 4), symmetric=symmetric)
    torch.testing.assert_close(value, torch.tensor(3.0).log())
    value.backward()
    assert student.grad.isfinite().all()


def test_gradients(checks, pooled, reduction, symmetric):
    checks.gradients(lambda c: loss(c, symmetric=symmetric, reduction=reduction), pooled)


def test_permutation(pooled, symmetric):
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    value = loss(pooled, symmetric=symmetric, reduction="none")
    turned = loss(pooled.rows(order), symmetric=symmetric, reduction="none")
    torch.testing.assert_close(turned, value[order])


def test_extremes_half_precision_and_compiled(checks, pooled, symmetric):
    checks.extremes(lambda c: loss(c, symmetric=symmetric, temperature=1e-3), pooled)
    checks.half_precision(lambda c: loss(c, symmetric=symmetric, temperature=1.0), pooled)
    checks.compiled(lambda c: loss(c, symmetric=symmetric), pooled)


def test_module_equals_function(pooled, symmetric, reduction):
    options = {"temperature": 0.5, "symmetric": symmetric, "reduction": reduction}
    module = ContrastiveKDLoss(**options)
    inputs = pooled.student, pooled.teacher, pooled.sample_weight
    assert torch.equal(module(*inputs), loss(pooled, **options))
    outputs = [SimpleNamespace(features=x) for x in inputs[:2]]
    assert torch.equal(module(**module.select(*outputs, pooled)), loss(pooled, **options))
    with pytest.raises(ValueError, match="ContrastiveKDLoss needs a teacher's features"):
        module.select(outputs[0], None, pooled)


def test_a_projection_brings_the_widths_together__sub_losses_in_a_plain_dict(pooled):
    module = ContrastiveKDLoss(3, 2).double()
    objective = Objective({"contrast": module}, {"contrast": 1.0})
    assert [p.shape for p in objective.parameters()] == [(2, 3), (2,)]
    value = module(pooled.student, pooled.teacher[:, :2])
    value.backward()
    assert all((p.grad != 0).any() for p in objective.parameters())
    expected = contrastive_kd_loss(module.projection(pooled.student), pooled.teacher[:, :2])
    assert torch.equal(value, expected)


def test_a_schedule_may_turn_the_temperature_and_no_width():
    terms = {"contrast": ContrastiveKDLoss(3, 2)}
    schedules = {"temperature": Schedule("linear", start=1.0)}
    objective = Objective(terms, {"contrast": 1.0}, schedules)
    assert objective.set_step(0, 10, 0) == {"temperature": 1.0}
    with pytest.raises(ValueError, match="temperature must be a finite number above 0"):
        Objective(terms, {"contrast": 1.0}, {"temperature": Schedule("linear", start=-1.0)})
    with pytest.raises(ValueError, match="names no number"):
        Objective(terms, {"contrast": 1.0}, {"student_width": Schedule("linear", start=1.0)})


TWO = torch.zeros(2, 4)


@pytest.mark.parametrize(
    ("student", "teacher", "options", "message"),
    [
        (TWO[:1], TWO[:1], {}, r"at least 2 samples at once and got 1: .*drop_last=True"),
        (TWO[:, :3], TWO, {}, "widths must agree.*student_width=3 and teacher_width=4"),
        (TWO, TWO[:1], {}, "of the same B samples"),
        (TWO, TWO, {"temperature": 0.0}, "temperature must be a finite number above 0, got 0.0"),
        (TWO, TWO, {"reduction": "batch"}, "reduction 'batch' is unknown"),
    ],
)
def test_errors(student, teacher, options, message):
    with pytest.raises(ValueError, match=message):
        contrastive_kd_loss(student, teacher, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"temperature": -1.0}, "temperature .* -1.0"), ({"teacher_width": 3}, "student_width is No")],
)
def test_module_errors(options, message):
    with pytest.raises(ValueError, match=message):
        ContrastiveKDLoss(**options)
