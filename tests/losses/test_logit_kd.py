from dataclasses import replace

import pytest
import reference
import torch
import torch.nn.functional as F

from coefvq.losses import LogitKDLoss, logit_kd_loss


def loss(case, **options):
    return logit_kd_loss(
        case.student, case.teacher, task=case.task, sample_weight=case.sample_weight, **options
    )


def test_closed_form():
    # Teacher (3/4, 1/4), student (1/2, 1/2): KL = 3/4 log(3/2) + 1/4 log(1/2) = 3/4 log 3 − log 2.
    expected = torch.tensor(0.75 * 1.0986122887 - 0.6931471806)
    teacher, student = torch.tensor([[3.0, 1.0]]).log(), torch.zeros(1, 2)
    torch.testing.assert_close(logit_kd_loss(student, teacher, task="multiclass"), expected)
    log3 = torch.tensor([3.0]).log()
    torch.testing.assert_close(logit_kd_loss(torch.zeros(1), log3, task="binary"), expected)
    # At T = 2 the same probabilities need twice the logits, and the loss is T² = 4 times larger.
    doubled = logit_kd_loss(2 * student, 2 * teacher, task="multiclass", temperature=2.0)
    torch.testing.assert_close(doubled, 4 * expected)
    # Multilabel: one label as above, one equal to the teacher's: the mean is half.
    two = torch.stack([log3, torch.zeros(1)], -1)
    half = logit_kd_loss(torch.zeros(1, 2), two, task="multilabel")
    torch.testing.assert_close(half, expected / 2)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_equals_reference(task, weighted, reduction, temperature, make_case):
    case = make_case(task, weighted=weighted)
    student, teacher, _ = case.lists()
    expected = reference.logit_kd(
        student,
        teacher,
        task,
        temperature=temperature,
        reduction=reduction,
        weight=case.options()["weight"],
    )
    value = loss(case, temperature=temperature, reduction=reduction)
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))


def test_zero_for_equal_logits__trl_5731(full):
    """trl#5731, torchtune, NeMo, distillm#7: student = teacher must give 0, not an entropy."""
    for temperature in (0.5, 1.0, 4.0):
        assert loss(replace(full, teacher=full.student), temperature=temperature).item() == 0.0


def test_mean_over_samples_never_over_classes__modelopt(make_case):
    """ModelOpt's default divided by the number of classes too."""
    case = make_case("multiclass")
    expected = F.kl_div(
        case.student.log_softmax(-1), case.teacher.softmax(-1), reduction="batchmean"
    )
    torch.testing.assert_close(loss(case), expected)


def test_one_hot_teacher_is_cross_entropy(make_case):
    case = make_case("multiclass")
    teacher = torch.full_like(case.student, -torch.inf).scatter(-1, case.labels[:, None], 0.0)
    torch.testing.assert_close(
        loss(replace(case, teacher=teacher)), F.cross_entropy(case.student, case.labels)
    )


def test_binary_is_two_classes(make_case):
    case = make_case("binary")
    nothing = torch.zeros_like(case.student)
    two = replace(
        case,
        task="multiclass",
        student=torch.stack([nothing, case.student], -1),
        teacher=torch.stack([nothing, case.teacher], -1),
    )
    torch.testing.assert_close(loss(case, temperature=2.0), loss(two, temperature=2.0))


def test_high_temperature_is_squared_error(make_case):
    # T² · KL → ½ Var_uniform(z_s − z_t) for T → ∞ (Hinton et al., section 2.1, for centred logits).
    case = make_case("multiclass")
    difference = case.student - case.teacher
    expected = 0.5 * difference.var(-1, correction=0).mean()
    torch.testing.assert_close(loss(case, temperature=1e4), expected, rtol=1e-3, atol=0)


def test_gradients(checks, full, reduction):
    checks.gradients(lambda c: loss(c, temperature=2.0, reduction=reduction), full)


def test_gradient_is_temperature_times_difference(make_case):
    """Scale included: T · (q − p) / B, so a wrong divisor cannot hide behind Adam."""
    case = make_case("multiclass")
    student = case.student.clone().requires_grad_()
    loss(replace(case, student=student), temperature=2.0).backward()
    difference = (student.detach() / 2).softmax(-1) - (case.teacher / 2).softmax(-1)
    torch.testing.assert_close(student.grad, 2.0 * difference / len(student))


def test_permutation(checks, full):
    checks.permutation(lambda c: loss(c, reduction="none"), full)


def test_micro_batches__axolotl_3271(checks, full):
    checks.micro_batches(lambda c: loss(c, reduction="sum"), full)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_softmax_invariances(checks, make_case, temperature):
    case = make_case("multiclass")
    checks.shift(lambda c: loss(c, temperature=temperature), case)
    checks.appended_classes(lambda c: loss(c, temperature=temperature), case)


@pytest.mark.parametrize("at", [0.5, 1.0, 2.0])
def test_continuous_in_temperature(checks, full, at):
    """Nothing may change at T = 1, where the division is skipped."""
    for near in (at - 1e-7, at + 1e-7):
        torch.testing.assert_close(
            loss(full, temperature=near), loss(full, temperature=at), rtol=1e-5, atol=0
        )


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_class_masked_on_one_side_never_gives_nan(make_case, side):
    case = make_case("multiclass")
    logits = getattr(case, side).clone()
    logits[0, 1] = -torch.inf
    case = replace(case, **{side: logits})
    student = case.student.clone().requires_grad_()
    value = loss(replace(case, student=student), reduction="none")
    value.sum().backward()
    assert value.isfinite().all()
    assert student.grad.isfinite().all()
    # What the teacher holds possible and the student does not costs 1e30 per unit of mass.
    assert (value[0] > 1e25) == (side == "student")


def test_extremes__liger_769(checks, full):
    checks.extremes(lambda c: loss(c), full)


def test_half_precision(checks, full):
    checks.half_precision(lambda c: loss(c, temperature=2.0), full)


def test_compiled(checks, full):
    checks.compiled(lambda c: loss(c, temperature=2.0), full)


def test_module_equals_function(full):
    module = LogitKDLoss(task=full.task, temperature=2.0, reduction="sum")
    value = module(full.student, full.teacher, full.sample_weight)
    assert torch.equal(value, loss(full, temperature=2.0, reduction="sum"))
    module.temperature = 3.0
    value = module(full.student, full.teacher, full.sample_weight)
    assert torch.equal(value, loss(full, temperature=3.0, reduction="sum"))


def test_select(make_case):
    case = make_case("binary", weighted=True)
    module = LogitKDLoss(task="binary")
    student, teacher = (type("Output", (), {"logits": z}) for z in (case.student, case.teacher))
    assert torch.equal(module(**module.select(student, teacher, case)), loss(case))
    with pytest.raises(ValueError, match="LogitKDLoss needs a teacher's logits"):
        module.select(student, None, case)


ZEROS = torch.zeros(3, 4)


@pytest.mark.parametrize(
    ("task", "student", "teacher", "options", "message"),
    [
        ("multiclass", ZEROS, ZEROS[:, :2], {}, r"\(3, 4\) and teacher_logits \(3, 2\).*\(B, C\)"),
        ("binary", ZEROS, ZEROS, {}, r"student_logits have shape \(3, 4\).*expects \(B,\)"),
        ("multiclass", ZEROS, ZEROS.long(), {}, "teacher_logits must be floating point"),
        ("multiclass", ZEROS[:, :1], ZEROS[:, :1], {}, "at least two classes"),
        ("regression", ZEROS[0], ZEROS[0], {}, "'regression' has no class probabilities"),
        ("words", ZEROS, ZEROS, {}, "task 'words' is unknown"),
        ("multiclass", ZEROS, ZEROS, {"temperature": 0.0}, "temperature .* above 0, got 0.0"),
        ("multiclass", ZEROS, ZEROS, {"temperature": float("nan")}, "temperature .* got nan"),
        ("multiclass", ZEROS, ZEROS, {"reduction": "batchmean"}, "reduction 'batchmean'"),
    ],
)
def test_errors(task, student, teacher, options, message):
    with pytest.raises(ValueError, match=message):
        logit_kd_loss(student, teacher, task=task, **options)


@pytest.mark.parametrize(
    "options", [{"task": "regression"}, {"temperature": -1.0}, {"reduction": "avg"}]
)
def test_module_errors_come_at_construction(options):
    with pytest.raises(ValueError, match=r"regression|temperature|reduction"):
        LogitKDLoss(**{"task": "binary", **options})
