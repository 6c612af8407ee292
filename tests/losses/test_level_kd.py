from dataclasses import replace

import pytest
import reference
import torch

from coefvq.losses import logit_kd_loss
from coefvq.losses.level_kd import LevelKDLoss, level_kd_loss


@pytest.fixture
def full(make_case):
    return make_case("multiclass", weighted=True)


def loss(case, **options):
    return level_kd_loss(case.student, case.teacher, sample_weight=case.sample_weight, **options)


def test_closed_form():
    # Teacher (½, ¼, ¼), student uniform: KL = log 3 − 1.5 log 2.
    teacher = torch.tensor([[0.5, 0.25, 0.25]]).log()
    expected = torch.tensor(1.0986122887 - 1.5 * 0.6931471806)
    torch.testing.assert_close(level_kd_loss(torch.zeros(1, 3), teacher), expected)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_equals_reference(make_case, weighted, reduction, temperature):
    case = make_case("multiclass", weighted=weighted)
    student, teacher, _ = case.lists()
    expected = reference.logit_kd(
        student,
        teacher,
        "multiclass",
        temperature=temperature,
        reduction=reduction,
        weight=case.options()["weight"],
    )
    value = loss(case, temperature=temperature, reduction=reduction)
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_is_logit_kd_over_the_levels_to_the_bit(make_case, reduction, dtype):
    case = make_case("multiclass", weighted=True, dtype=dtype)
    options = {"temperature": 2.0, "reduction": reduction}
    expected = logit_kd_loss(
        case.student,
        case.teacher,
        task="multiclass",
        sample_weight=case.sample_weight,
        **options,
    )
    assert torch.equal(loss(case, **options), expected)


def test_kd_of_equal_logits_is_zero__trl_5731(full):
    assert loss(replace(full, student=full.teacher), temperature=2.0).item() == 0.0


def test_picked_logits_are_the_renormalised_vocabulary():
    """What a language model gives to other words is left out, not spread."""
    draw = torch.Generator().manual_seed(0)
    vocabulary = torch.randn(4, 30, generator=draw, dtype=torch.float64)
    levels = torch.tensor([3, 17, 29])
    student = torch.randn(4, 3, generator=draw, dtype=torch.float64)
    p = vocabulary.softmax(-1)[:, levels]
    p = p / p.sum(-1, keepdim=True)
    torch.testing.assert_close(
        level_kd_loss(student, vocabulary[:, levels]), level_kd_loss(student, p.log())
    )


def test_one_mean_score_can_have_two_distributions():
    """Certainly fair, and half good half poor: both score ½, and this loss tells them apart."""
    value = torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0])
    fair = torch.tensor([[0.01, 0.01, 0.96, 0.01, 0.01]])
    torn = torch.tensor([[0.01, 0.48, 0.02, 0.48, 0.01]])
    torch.testing.assert_close(fair @ value, torn @ value)
    assert level_kd_loss(fair.log(), torn.log()) > 1


def test_gradients(checks, full, reduction):
    checks.gradients(lambda c: loss(c, temperature=2.0, reduction=reduction), full)


def test_invariances(checks, full):
    checks.permutation(lambda c: loss(c, reduction="none"), full)
    checks.micro_batches(lambda c: loss(c, reduction="sum"), full)
    checks.shift(loss, full)
    checks.appended_classes(loss, full)


def test_mean_is_never_over_levels__modelopt(make_case):
    """Each level repeated with half its mass is the same question: the loss stays."""
    case = make_case("multiclass")
    twice = replace(
        case,
        student=case.student.repeat_interleave(2, -1),
        teacher=case.teacher.repeat_interleave(2, -1),
    )
    torch.testing.assert_close(loss(twice), loss(case))


def test_extremes(checks, full):
    checks.extremes(loss, full)


def test_half_precision(checks, full):
    checks.half_precision(loss, full)


def test_compiled(checks, full):
    checks.compiled(loss, full)


def test_module_equals_function(full):
    module = LevelKDLoss(temperature=2.0, reduction="sum")
    inputs = full.student, full.teacher, full.sample_weight
    assert torch.equal(module(*inputs), loss(full, temperature=2.0, reduction="sum"))
    module.temperature = 3.0
    assert torch.equal(module(*inputs), loss(full, temperature=3.0, reduction="sum"))


def test_select(full):
    module = LevelKDLoss()
    student, teacher = (type("Output", (), {"logits": z}) for z in (full.student, full.teacher))
    unlabelled = replace(full, labels=None)
    assert torch.equal(module(**module.select(student, teacher, unlabelled)), loss(full))
    with pytest.raises(ValueError, match="LevelKDLoss needs a teacher"):
        module.select(student, None, unlabelled)


ZEROS = torch.zeros(3, 5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher_logits": torch.zeros(3, 30)}, r"\(3, 30\); both .* \(B, levels\).*vocabulary"),
        ({"student_logits": ZEROS[0], "teacher_logits": ZEROS[0]}, r"expected to be \(B, levels\)"),
        ({"student_logits": ZEROS[:, :1], "teacher_logits": ZEROS[:, :1]},
         "have 1 level; two or more are expected"),
        ({"teacher_logits": ZEROS.long()}, "teacher_logits must be floating point"),
        ({"sample_weight": ZEROS[0]}, r"sample_weight has shape \(5,\)"),
        ({"temperature": 0.0}, "temperature must be a finite number above 0, got 0.0"),
        ({"reduction": "batchmean"}, "reduction 'batchmean'"),
    ],
)  # fmt: skip
def test_errors(changes, message):
    inputs = {"student_logits": ZEROS, "teacher_logits": ZEROS}
    with pytest.raises(ValueError, match=message):
        level_kd_loss(**{**inputs, **changes})


@pytest.mark.parametrize("options", [{"temperature": -1.0}, {"reduction": "avg"}])
def test_module_errors_come_at_construction(options):
    with pytest.raises(ValueError, match=r"temperature|reduction"):
        LevelKDLoss(**options)
