from dataclasses import replace

import pytest
import reference_weighting
import torch

from coefvq.losses import confidence, cpfd_loss, logit_kd_loss
from coefvq.losses.wsld import WSLDLoss, wsld_loss


def given(case):
    return {
        "task": case.task,
        "label_mask": case.label_mask,
        "sample_weight": case.sample_weight,
    }


def loss(case, **options):
    return wsld_loss(case.student, case.teacher, case.labels, **given(case), **options)


def test_closed_form():
    # Teacher ¾, student ½ for class 1: KL = ¾ log 3 − log 2. Label 1: CE are log 2 and log 4/3,
    # so exp(−ratio) = 2^(−1/log2(4/3)). Label 0: log 2 and log 4, ratio ½, weight 1 − exp(−½).
    log2, log3 = torch.tensor(2.0).log(), torch.tensor(3.0).log()
    divergence = 0.75 * log3 - log2
    case = torch.zeros(2), log3.expand(2), torch.tensor([1.0, 0.0])
    weight = torch.stack([1 - (-log2 / (4 / 3 * torch.ones(())).log()).exp(),
                          1 - torch.tensor(-0.5).exp()])  # fmt: skip
    options = {"task": "binary", "temperature": 1.0, "reduction": "none"}
    torch.testing.assert_close(wsld_loss(*case, **options), weight * divergence)
    # Without a label the weight is the teacher's larger probability, ¾.
    unlabelled = wsld_loss(*case, **options, label_mask=torch.tensor([True, False]))
    torch.testing.assert_close(unlabelled[1], 0.75 * divergence)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_equals_reference(case, reduction, temperature):
    options = {"temperature": temperature, "reduction": reduction}
    expected = reference_weighting.wsld(*case.lists(), case.task, **options, **case.options())
    torch.testing.assert_close(loss(case, **options), torch.tensor(expected, dtype=torch.float64))


def test_is_cpfd_with_the_relative_confidence(case, reduction):
    expected = cpfd_loss(
        case.student,
        case.teacher,
        case.labels,
        **given(case),
        distill_weight=1.0,
        temperature=2.0,
        confidence=confidence.relative,
        reduction=reduction,
    )
    torch.testing.assert_close(loss(case, reduction=reduction), expected, rtol=0, atol=1e-15)


def test_a_hopeless_student_gets_plain_kd(make_case):
    """CE_student / CE_teacher → ∞: the weight is 1."""
    labels = torch.tensor([0, 1, 2])
    teacher = 20.0 * torch.eye(4)[labels]
    student = -20.0 * torch.eye(4)[labels]
    expected = logit_kd_loss(student, teacher, task="multiclass", temperature=2.0)
    torch.testing.assert_close(wsld_loss(student, teacher, labels, task="multiclass"), expected)


def test_kd_of_equal_logits_is_zero__trl_5731(full):
    assert loss(replace(full, teacher=full.student)).item() == 0.0


def test_labels_none_falls_back_to_the_largest_probability(full):
    value = loss(replace(full, labels=None, label_mask=None))
    expected = cpfd_loss(
        full.student,
        full.teacher,
        None,
        task=full.task,
        sample_weight=full.sample_weight,
        distill_weight=1.0,
        temperature=2.0,
        confidence=confidence.max_probability,
    )
    torch.testing.assert_close(value, expected)


def test_gradient_leaves_the_weight_alone(full):
    """w reads the student, so gradcheck cannot be used: w is a constant, once computed."""
    student = full.student.clone().requires_grad_()
    teacher = full.teacher.clone().requires_grad_()
    loss(replace(full, student=student, teacher=teacher), reduction="sum").backward()
    assert teacher.grad is None

    again = full.student.clone().requires_grad_()
    weight = confidence.relative(
        full.student, full.teacher, full.labels, task=full.task, label_mask=full.label_mask
    )

    def fixed(*_, **__):
        return weight

    cpfd_loss(
        again,
        full.teacher,
        full.labels,
        **given(full),
        distill_weight=1.0,
        temperature=2.0,
        confidence=fixed,
        reduction="sum",
    ).backward()
    torch.testing.assert_close(student.grad, again.grad)


def test_permutation(checks, full):
    checks.permutation(lambda c: loss(c, reduction="none"), full)


def test_micro_batches(checks, full):
    checks.micro_batches(lambda c: loss(c, reduction="sum"), full)


def test_softmax_invariances(checks, make_case):
    case = make_case("multiclass", missing=True)
    checks.shift(loss, case)
    checks.appended_classes(loss, case)


def test_extremes(checks, full):
    checks.extremes(loss, full)


def test_half_precision(checks, full):
    checks.half_precision(loss, full)


def test_compiled(checks, full):
    checks.compiled(loss, full)


def test_module_equals_function(full):
    module = WSLDLoss(task=full.task, temperature=3.0, reduction="sum")
    inputs = full.student, full.teacher, full.labels, full.label_mask, full.sample_weight
    assert torch.equal(module(*inputs), loss(full, temperature=3.0, reduction="sum"))
    module.temperature = 4.0
    assert torch.equal(module(*inputs), loss(full, temperature=4.0, reduction="sum"))
    assert torch.equal(WSLDLoss(task=full.task)(*inputs), loss(full))


def test_select(make_case):
    case = make_case("binary", missing=True, weighted=True)
    module = WSLDLoss(task="binary")
    student, teacher = (type("Output", (), {"logits": z}) for z in (case.student, case.teacher))
    assert torch.equal(module(**module.select(student, teacher, case)), loss(case))
    with pytest.raises(ValueError, match="WSLDLoss needs a teacher's logits"):
        module.select(student, None, case)


ZEROS, INDEX = torch.zeros(3, 4), torch.zeros(3, dtype=torch.long)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "regression"}, "'regression' has no class probabilities"),
        ({"temperature": 0.0}, "temperature .* got 0.0"),
        ({"reduction": "avg"}, "reduction 'avg' is unknown"),
        ({"teacher_logits": ZEROS[:2]}, r"\(3, 4\) and teacher_logits \(2, 4\)"),
        ({"teacher_logits": ZEROS.long()}, "teacher_logits must be floating point"),
        ({"labels": INDEX + 4}, "label 4 in row 0 is not a class index from 0 to 3"),
        ({"sample_weight": -torch.ones(3)}, "sample_weight must be finite and not negative"),
    ],
)
def test_errors(changes, message):
    inputs = {"student_logits": ZEROS, "teacher_logits": ZEROS, "labels": INDEX}
    with pytest.raises(ValueError, match=message):
        wsld_loss(**{**inputs, "task": "multiclass", **changes})


def test_nan_labels_are_refused():
    with pytest.raises(ValueError, match="label nan in row 1"):
        wsld_loss(torch.zeros(2), torch.zeros(2), torch.tensor([0.0, torch.nan]), task="binary")


@pytest.mark.parametrize("options", [{"temperature": -1.0}, {"task": "regression"}])
def test_module_errors_come_at_construction(options):
    with pytest.raises(ValueError, match=r"temperature|regression"):
        WSLDLoss(**{"task": "binary", **options})
