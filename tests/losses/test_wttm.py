from dataclasses import replace

import pytest
import reference_weighting
import torch

from coefvq.losses import logit_kd_loss
from coefvq.losses.wttm import WTTMLoss, power_sum, wttm_loss


def loss(case, **options):
    return wttm_loss(
        case.student, case.teacher, task=case.task, sample_weight=case.sample_weight, **options
    )


def test_closed_form():
    # Teacher (0.9, 0.1), γ = ½: powers 3/√10 and 1/√10, U = 4/√10, p̃ = (¾, ¼). Student (½, ½):
    # KL = ¾ log 3 − log 2.
    expected = torch.tensor(4 / 10**0.5 * (0.75 * 1.0986122887 - 0.6931471806))
    log9 = torch.tensor([9.0]).log()
    torch.testing.assert_close(wttm_loss(torch.zeros(1), log9, task="binary"), expected)
    two = torch.tensor([[9.0, 1.0]]).log()
    torch.testing.assert_close(wttm_loss(torch.zeros(1, 2), two, task="multiclass"), expected)
    # Multilabel: one label as above, one where teacher and student say ½: the mean is half.
    both = torch.stack([log9, torch.zeros(1)], -1)
    half = wttm_loss(torch.zeros(1, 2), both, task="multilabel")
    torch.testing.assert_close(half, expected / 2)


@pytest.mark.parametrize("exponent", [0.25, 1.0, 2.0])
def test_equals_reference(task, weighted, reduction, exponent, make_case):
    case = make_case(task, weighted=weighted)
    student, teacher, _ = case.lists()
    expected = reference_weighting.wttm(
        student,
        teacher,
        task,
        exponent=exponent,
        reduction=reduction,
        weight=case.options()["weight"],
    )
    value = loss(case, exponent=exponent, reduction=reduction)
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exponent_one_is_kd_at_temperature_one_to_the_bit(task, weighted, dtype, make_case):
    case = make_case(task, weighted=weighted, dtype=dtype)
    expected = logit_kd_loss(
        case.student, case.teacher, task=task, sample_weight=case.sample_weight
    )
    assert torch.equal(loss(case, exponent=1.0), expected)


def test_kd_of_equal_logits_is_zero__trl_5731(full):
    """At γ = 1, and else where the student is what it is asked to be: the transformed teacher."""
    assert loss(replace(full, teacher=full.student), exponent=1.0).item() == 0.0
    matched = replace(full, student=0.5 * full.teacher)
    assert abs(loss(matched, exponent=0.5).item()) < 1e-12
    assert loss(replace(full, student=full.teacher), exponent=0.5) > 0.01


def test_doubt_weighs_more_the_opposite_of_cpfd():
    """U runs from 1 (certain) to C^(1−γ) (uniform); above γ = 1 it falls instead."""
    certain, fair, uniform = torch.tensor([[30.0, 0, 0, 0], [2.0, 0, 0, 0], [0.0, 0, 0, 0]])
    teachers = torch.stack([certain, fair, uniform])
    low = power_sum(teachers, "multiclass", 0.5)
    assert low[0] < low[1] < low[2]
    torch.testing.assert_close(low[[0, 2]], torch.tensor([1.0, 2.0]), rtol=1e-4, atol=0)
    high = power_sum(teachers, "multiclass", 2.0)
    torch.testing.assert_close(high[[0, 2]], torch.tensor([1.0, 0.25]))
    assert high[0] > high[1] > high[2]
    torch.testing.assert_close(power_sum(torch.zeros(1), "binary", 0.5), torch.tensor([2.0]).sqrt())


def test_continuous_in_the_exponent_where_it_is_skipped(full):
    for near in (1 - 1e-7, 1 + 1e-7):
        torch.testing.assert_close(
            loss(full, exponent=near), loss(full, exponent=1.0), rtol=1e-5, atol=0
        )


def test_gradients(checks, full, reduction):
    checks.gradients(lambda c: loss(c, reduction=reduction), full)


def test_gradient_is_the_difference_times_the_power_sum(make_case):
    """Scale included: U · (q − p̃) / B, so a wrong divisor cannot hide behind Adam."""
    case = make_case("multiclass")
    student = case.student.clone().requires_grad_()
    loss(replace(case, student=student)).backward()
    powers = case.teacher.softmax(-1).sqrt()
    difference = student.detach().softmax(-1) - powers / powers.sum(-1, keepdim=True)
    torch.testing.assert_close(student.grad, powers.sum(-1, keepdim=True) * difference / 6)


def test_permutation(full):
    """Not to the bit: vectorised exp rounds the last few of many numbers in its own way."""
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    value = loss(full.rows(order), reduction="none")
    torch.testing.assert_close(value, loss(full, reduction="none")[order])


def test_micro_batches(checks, full):
    checks.micro_batches(lambda c: loss(c, reduction="sum"), full)


def test_softmax_invariances(checks, make_case):
    case = make_case("multiclass")
    checks.shift(loss, case)
    checks.appended_classes(loss, case)


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_class_masked_on_one_side_never_gives_nan(task, make_case, side):
    case = make_case(task)
    logits = getattr(case, side).clone()
    logits.view(6, -1)[0, 0] = -torch.inf
    case = replace(case, **{side: logits})
    student = case.student.clone().requires_grad_()
    value = loss(replace(case, student=student), reduction="none")
    value.sum().backward()
    assert value.isfinite().all()
    assert student.grad.isfinite().all()


def test_extremes(checks, full):
    checks.extremes(loss, full)


def test_half_precision(checks, full):
    checks.half_precision(loss, full)


def test_compiled(checks, full):
    checks.compiled(loss, full)


def test_module_equals_function(full):
    module = WTTMLoss(task=full.task, exponent=0.25, reduction="sum")
    inputs = full.student, full.teacher, full.sample_weight
    assert torch.equal(module(*inputs), loss(full, exponent=0.25, reduction="sum"))
    module.exponent = 0.75
    assert torch.equal(module(*inputs), loss(full, exponent=0.75, reduction="sum"))
    assert torch.equal(WTTMLoss(task=full.task)(*inputs), loss(full))


def test_select(make_case):
    case = make_case("binary", weighted=True)
    module = WTTMLoss(task="binary")
    student, teacher = (type("Output", (), {"logits": z}) for z in (case.student, case.teacher))
    assert torch.equal(module(**module.select(student, teacher, case)), loss(case))
    with pytest.raises(ValueError, match="WTTMLoss needs a teacher's logits"):
        module.select(student, None, case)


ZEROS = torch.zeros(3, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "regression"}, "'regression' has no class probabilities"),
        ({"exponent": 0.0}, "exponent must be a finite number above 0, got 0.0"),
        ({"exponent": float("inf")}, "exponent .* got inf"),
        ({"reduction": "batchmean"}, "reduction 'batchmean'"),
        ({"teacher_logits": ZEROS[:, :2]}, r"\(3, 4\) and teacher_logits \(3, 2\)"),
        ({"student_logits": ZEROS.long()}, "student_logits must be floating point"),
        ({"sample_weight": ZEROS}, r"sample_weight has shape \(3, 4\)"),
    ],
)
def test_errors(changes, message):
    inputs = {"student_logits": ZEROS, "teacher_logits": ZEROS}
    with pytest.raises(ValueError, match=message):
        wttm_loss(**{**inputs, "task": "multiclass", **changes})


@pytest.mark.parametrize("options", [{"exponent": -1.0}, {"reduction": "avg"}])
def test_module_errors_come_at_construction(options):
    with pytest.raises(ValueError, match=r"exponent|reduction"):
        WTTMLoss(task="binary", **options)
