from dataclasses import replace

import pytest
import reference_weighting
import torch
from torch import nn

from coefvq.losses import logit_kd_loss, supervised_loss
from coefvq.losses.ha_pfd import HAPFDLoss, ha_pfd_loss

WIDTH = 3


def given(case):
    return {
        "task": case.task,
        "label_mask": case.label_mask,
        "sample_weight": case.sample_weight,
    }


def features_of(case, seed=3):
    """Student's features, already projected, and the teacher's."""
    draw = torch.Generator().manual_seed(seed)
    shape = (len(case.student), WIDTH)
    return {
        f"{side}_features": torch.randn(shape, generator=draw, dtype=case.student.dtype)
        for side in ("student", "teacher")
    }


def loss(case, **options):
    return ha_pfd_loss(case.student, case.teacher, case.labels, **given(case), **options)


def test_closed_form():
    # Student ¼, teacher ½ for class 1. KL(½ ‖ ¼) = ½ log 2 + ½ log ⅔ = ½ log 4/3. Label 1: hard
    # log 4, hardness ¾; label 0: hard log 4/3, hardness ¼. β = 2, γ = 2, features (1, 3) against
    # (1, 1): mean square 2, γ' = 0.1.
    log4, third = torch.tensor(4.0).log(), torch.tensor(4 / 3).log()
    case = -torch.tensor(3.0).log().expand(2), torch.zeros(2), torch.tensor([1.0, 0.0])
    options = {
        "task": "binary",
        "distill_weight": 2.0,
        "exponent": 2.0,
        "feature_weight": 0.1,
        "student_features": torch.tensor([[1.0, 3.0]]).expand(2, -1),
        "teacher_features": torch.ones(2, 2),
        "reduction": "none",
    }
    hard = torch.stack([log4, third])
    hardness = torch.tensor([0.75, 0.25]) ** 2
    torch.testing.assert_close(
        ha_pfd_loss(*case, **options), hard + 2 * hardness * 0.5 * third + 0.1 * 2
    )
    # Without its label the second sample is as hard as its larger probability, ¾, leaves: ¼.
    value = ha_pfd_loss(*case, **options, label_mask=torch.tensor([True, False]))
    torch.testing.assert_close(value[1], 2 * 0.25**2 * 0.5 * third + 0.1 * 2)


@pytest.mark.parametrize(("exponent", "detach"), [(0.0, True), (0.5, False), (2.0, True)])
@pytest.mark.parametrize("with_features", [True, False])
def test_equals_reference(case, reduction, exponent, with_features, detach):
    options = {
        "distill_weight": 0.7,
        "exponent": exponent,
        "temperature": 2.0,
        "feature_weight": 0.3,
        "reduction": reduction,
    }
    features = features_of(case) if with_features else {}
    expected = reference_weighting.ha_pfd(
        *case.lists(),
        case.task,
        **options,
        **{name: value.tolist() for name, value in features.items()},
        **case.options(),
    )
    value = loss(case, **options, **features, detach_hardness=detach)
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))


def test_exponent_zero_is_the_plain_sum(full, reduction):
    """Everyone counts alike: hard + β · KD."""
    common = {**given(full), "reduction": reduction}
    hard = supervised_loss(full.student, full.labels, **common)
    common.pop("label_mask")
    soft = logit_kd_loss(full.student, full.teacher, temperature=2.0, **common)
    value = loss(full, distill_weight=0.7, exponent=0.0, temperature=2.0, reduction=reduction)
    torch.testing.assert_close(value, hard + 0.7 * soft)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weight_zero_is_supervised_to_the_bit(task, missing, weighted, reduction, dtype, make_case):
    case = make_case(task, missing, weighted, dtype=dtype)
    expected = supervised_loss(case.student, case.labels, **given(case), reduction=reduction)
    assert torch.equal(loss(case, distill_weight=0.0, reduction=reduction), expected)


def test_kd_of_equal_logits_is_zero__trl_5731(full):
    """Student = teacher, in logits and in features, leaves the hard term alone."""
    features = features_of(full)
    same = dict.fromkeys(features, features["teacher_features"])
    value = loss(replace(full, teacher=full.student), **same, distill_weight=5.0)
    torch.testing.assert_close(
        value, supervised_loss(full.student, full.labels, **given(full)), rtol=0, atol=1e-15
    )


def test_hard_samples_are_distilled_and_easy_ones_are_not():
    """γ large: of two samples with one and the same teacher, the one that is wrong counts."""
    labels, teacher = torch.tensor([0, 1]), torch.tensor([[0.0, 1.0, 0.5]]).expand(2, -1)
    student = torch.tensor([[4.0, 0.0, 0.0]]).expand(2, -1)
    soft = loss_of_soft_part(student, teacher, labels, exponent=8.0)
    plain = logit_kd_loss(student, teacher, task="multiclass", reduction="none")
    assert soft[0] < 1e-6 * plain[0]
    assert soft[1] > 0.8 * plain[1]


def loss_of_soft_part(student, teacher, labels, **options):
    common = {"task": "multiclass", "reduction": "none"}
    whole = ha_pfd_loss(student, teacher, labels, **common, **options)
    return whole - supervised_loss(student, labels, **common)


def test_labels_none_leaves_the_soft_and_feature_parts(full):
    features = features_of(full)
    nobody = torch.zeros(6, dtype=torch.bool)
    value = loss(replace(full, labels=None, label_mask=None), **features)
    assert torch.equal(value, loss(replace(full, label_mask=nobody), **features))
    assert value > 0


def test_gradients_through_the_hardness(checks, full, reduction):
    for exponent in (1.0, 2.5):
        options = {"exponent": exponent, "reduction": reduction, "detach_hardness": False}
        checks.gradients(lambda c, options=options: loss(c, **options), full)


def test_a_detached_hardness_is_a_weight(full):
    """gradcheck cannot be used: hardness reads the student, and is a constant, once computed."""
    student = full.student.clone().requires_grad_()
    teacher = full.teacher.clone().requires_grad_()
    case = replace(full, student=student, teacher=teacher)
    loss(case, exponent=2.0, reduction="sum").backward()
    assert teacher.grad is None

    again = full.student.clone().requires_grad_()
    common = {"task": full.task, "sample_weight": full.sample_weight}
    hard = supervised_loss(again, full.labels, label_mask=full.label_mask, **common,
                           reduction="sum")  # fmt: skip
    alike = loss(full, distill_weight=0.0, reduction="none")
    hardness_times_kd = loss(full, exponent=2.0, reduction="none") - alike
    kd = logit_kd_loss(again, full.teacher, **common, reduction="none")
    if full.task == "multilabel":  # one hardness per label: weight the labels themselves
        own = torch.where(full.label_mask[:, None], full.labels, (again.detach() > 0).double())
        hardness = (own - again.detach().sigmoid()).abs() ** 2
        flat = logit_kd_loss(
            again.flatten(), full.teacher.flatten(), task="binary", reduction="none"
        )
        soft = (hardness * flat.view_as(again)).mean(-1) * full.sample_weight
    else:
        soft = kd * (hardness_times_kd / kd).detach()
    (hard + soft.sum()).backward()
    torch.testing.assert_close(student.grad, again.grad)


@pytest.mark.parametrize("exponent", [0.0, 0.1, 1.0])
def test_no_nan_where_nothing_is_hard(task, make_case, exponent):
    """A power below 1 has no slope at 0."""
    case = make_case(task, dtype=torch.float32)
    sure = case.labels if task != "multiclass" else torch.eye(4)[case.labels]
    student = (2e4 * sure - 1e4).requires_grad_()
    for detach in (True, False):
        value = loss(replace(case, student=student), exponent=exponent, detach_hardness=detach)
        value.backward()
        assert value.isfinite()
        assert student.grad.isfinite().all()


def test_feature_gradients(full, reduction):
    features = features_of(full)
    ours = features["student_features"].requires_grad_()
    theirs = features["teacher_features"].requires_grad_()
    assert torch.autograd.gradcheck(
        lambda f: loss(full, student_features=f, teacher_features=theirs, reduction=reduction), ours
    )
    loss(full, **features).backward()
    assert theirs.grad is None


def test_permutation(full):
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    features = features_of(full)
    turned = {name: value[order] for name, value in features.items()}
    torch.testing.assert_close(
        loss(full.rows(order), **turned, reduction="none"),
        loss(full, **features, reduction="none")[order],
    )


def test_micro_batches(checks, full):
    checks.micro_batches(lambda c: loss(c, reduction="sum"), full)


@pytest.mark.parametrize("detach", [True, False])
def test_softmax_invariances(checks, make_case, detach):
    case = make_case("multiclass", missing=True)
    checks.shift(lambda c: loss(c, detach_hardness=detach), case)
    checks.appended_classes(lambda c: loss(c, detach_hardness=detach), case)


@pytest.mark.parametrize("at", [0.0, 0.5, 1.0])
def test_continuous_in_weights_and_exponent(checks, full, at):
    features = features_of(full)
    checks.continuous(lambda w: loss(full, distill_weight=w), at)
    checks.continuous(lambda w: loss(full, feature_weight=w, **features), at)
    checks.continuous(lambda w: loss(full, exponent=w), at)


@pytest.mark.parametrize("detach", [True, False])
def test_extremes(checks, full, detach):
    checks.extremes(lambda c: loss(c, detach_hardness=detach), full)


def test_half_precision(checks, full):
    checks.half_precision(lambda c: loss(c, **features_of(full)), full)
    half = replace(full, student=full.student.bfloat16(), teacher=full.teacher.bfloat16())
    features = {name: value.bfloat16() for name, value in features_of(full).items()}
    wide = {name: value.float() for name, value in features.items()}
    assert loss(half, **features).dtype == torch.float32
    assert torch.equal(loss(half, **features), loss(half, **wide))


def test_compiled(checks, full):
    features = features_of(full)
    checks.compiled(lambda c: loss(c, **features, exponent=2.0), full)


def test_module_equals_function(full):
    options = {
        "distill_weight": 0.3,
        "exponent": 2.0,
        "feature_weight": 0.5,
        "temperature": 2.0,
        "detach_hardness": False,
        "reduction": "sum",
    }
    module = HAPFDLoss(task=full.task, student_width=5, teacher_width=WIDTH, **options).double()
    ours = torch.randn(6, 5, dtype=torch.float64)
    theirs = features_of(full)["teacher_features"]
    inputs = full.student, full.teacher, full.labels, ours, theirs
    rest = full.label_mask, full.sample_weight
    projected = {"student_features": module.projection(ours), "teacher_features": theirs}
    assert torch.equal(module(*inputs, *rest), loss(full, **options, **projected))
    module.exponent = options["exponent"] = 0.5
    assert torch.equal(module(*inputs, *rest), loss(full, **options, **projected))
    bare = HAPFDLoss(task=full.task, **options)
    assert bare.projection is None
    assert torch.equal(bare(*inputs[:3], None, None, *rest), loss(full, **options))


def test_projection_is_trained_and_saved__sub_losses_in_a_plain_dict():
    """It is there before the optimizer looks, in `parameters` and in the state."""
    module = HAPFDLoss(task="binary", student_width=5, teacher_width=WIDTH)
    assert [tuple(p.shape) for p in module.parameters()] == [(WIDTH, 5), (WIDTH,)]
    assert set(module.state_dict()) == {"projection.weight", "projection.bias"}
    assert not any(isinstance(p, nn.UninitializedParameter) for p in module.parameters())
    draw = torch.Generator().manual_seed(0)
    ours, theirs = (torch.randn(8, width, generator=draw) for width in (5, WIDTH))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    values = []
    for _ in range(20):
        value = module(torch.zeros(8), torch.zeros(8), None, ours, theirs)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.8 * values[0]


def test_select(make_case):
    case = make_case("binary", missing=True, weighted=True)
    features = features_of(case)
    student = type("Output", (), {"logits": case.student, "features": torch.ones(6, 5).double()})
    teacher = type("Output", (), {"logits": case.teacher, "features": features["teacher_features"]})
    bare = HAPFDLoss(task="binary")
    assert torch.equal(bare(**bare.select(student, teacher, case)), loss(case))
    module = HAPFDLoss(task="binary", student_width=5, teacher_width=WIDTH).double()
    projected = {**features, "student_features": module.projection(student.features)}
    assert torch.equal(module(**module.select(student, teacher, case)), loss(case, **projected))
    with pytest.raises(ValueError, match="HAPFDLoss needs a teacher's logits"):
        module.select(student, None, case)


@pytest.mark.parametrize(
    ("side", "features", "message"),
    [
        ("student", None, "student's features have width None .* student_width=5"),
        ("teacher", None, "teacher's features have width None .* teacher_width=3"),
        ("student", torch.zeros(2, 4), "set student_width=4"),
        ("teacher", torch.zeros(2, 4), "set teacher_width=4"),
    ],
)
def test_module_says_which_width_is_wrong(side, features, message):
    module = HAPFDLoss(task="binary", student_width=5, teacher_width=WIDTH)
    found = {"student_features": torch.zeros(2, 5), "teacher_features": torch.zeros(2, WIDTH)}
    with pytest.raises(ValueError, match=message):
        module(torch.zeros(2), torch.zeros(2), None, **{**found, f"{side}_features": features})


ZEROS, INDEX = torch.zeros(3, 4), torch.zeros(3, dtype=torch.long)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "regression"}, "'regression' has no class probabilities"),
        ({"distill_weight": -0.1}, "distill_weight must be a finite number from 0, got -0.1"),
        ({"exponent": -1.0}, "exponent must be a finite number from 0, got -1.0"),
        ({"feature_weight": float("inf")}, "feature_weight .* got inf"),
        ({"temperature": 0.0}, "temperature .* got 0.0"),
        ({"reduction": "avg"}, "reduction 'avg' is unknown"),
        ({"teacher_logits": ZEROS[:2]}, r"\(3, 4\) and teacher_logits \(2, 4\)"),
        ({"labels": INDEX - 1}, "label -1 in row 0"),
        ({"student_features": ZEROS}, "teacher_features is None but the other side's are given"),
        ({"teacher_features": ZEROS}, "student_features is None but the other side's are given"),
        (
            {"student_features": ZEROS, "teacher_features": ZEROS[:, :2]},
            r"\(3, 4\) and teacher_features \(3, 2\).*or use HAPFDLoss",
        ),
        ({"student_features": ZEROS[:2], "teacher_features": ZEROS[:2]}, "with B = 3"),
        ({"student_features": ZEROS, "teacher_features": ZEROS.int()}, "must be floating point"),
    ],
)
def test_errors(changes, message):
    inputs = {"student_logits": ZEROS, "teacher_logits": ZEROS, "labels": INDEX}
    with pytest.raises(ValueError, match=message):
        ha_pfd_loss(**{**inputs, "task": "multiclass", **changes})


@pytest.mark.parametrize("options", [{"exponent": -1.0}, {"student_width": 3}])
def test_module_errors_come_at_construction(options):
    with pytest.raises(ValueError, match=r"exponent|give both for the feature part"):
        HAPFDLoss(task="binary", **options)
