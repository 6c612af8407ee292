from dataclasses import replace
from math import log

import pytest
import reference_weighting
import torch

from coefvq.losses import supervised_loss
from coefvq.losses.gatekeeper import GatekeeperLoss, gatekeeper_loss


def loss(case, **options):
    return gatekeeper_loss(
        case.student,
        case.labels,
        task=case.task,
        label_mask=case.label_mask,
        sample_weight=case.sample_weight,
        **options,
    )


def test_closed_form():
    # Says ¾ for class 1. Label 1, right: CE = log 4/3. Label 0, wrong: log 2 − H(¾), with
    # H(¾) = 2 log 2 − ¾ log 3, is ¾ log 3 − log 2. At α = 0.2: 0.2 and 0.8 of them.
    ce, divergence = log(4 / 3), 0.75 * log(3) - log(2)
    logits, labels = torch.tensor([3.0, 3.0]).log(), torch.tensor([1.0, 0.0])
    options = {"right_weight": 0.2, "reduction": "none"}
    expected = torch.tensor([0.2 * ce, 0.8 * divergence])
    value = gatekeeper_loss(logits, labels, task="binary", **options)
    torch.testing.assert_close(value, expected)
    two = torch.stack([torch.zeros(2), logits], -1)
    value = gatekeeper_loss(two, labels.long(), task="multiclass", **options)
    torch.testing.assert_close(value, expected)
    # Multilabel decides label by label; both labels of one clip give the mean.
    value = gatekeeper_loss(logits[None], labels[None], task="multilabel", **options)
    torch.testing.assert_close(value, expected.mean()[None])
    # The mean divides by all samples, not by the right and the wrong ones apart.
    mean = gatekeeper_loss(logits, labels, task="binary", right_weight=0.2)
    torch.testing.assert_close(mean, expected.sum() / 2)


@pytest.mark.parametrize("right_weight", [0.0, 0.3, 1.0])
def test_equals_reference(case, reduction, right_weight):
    student, _, labels = case.lists()
    options = {"right_weight": right_weight, "reduction": reduction}
    expected = reference_weighting.gatekeeper(
        student, labels, case.task, **options, **case.options()
    )
    torch.testing.assert_close(loss(case, **options), torch.tensor(expected, dtype=torch.float64))


def test_soft_binary_labels_are_read_as_a_decision():
    logits, labels = torch.tensor([1.0, 1.0]), torch.tensor([0.9, 0.4])
    value = gatekeeper_loss(logits, labels, task="binary", right_weight=1.0, reduction="none")
    own = supervised_loss(logits, labels, task="binary", reduction="none")
    torch.testing.assert_close(value, torch.stack([own[0], torch.zeros(())]))


def test_all_right_is_cross_entropy(make_case):
    case = make_case("multiclass")
    case = replace(case, student=case.student + 20 * torch.eye(4)[case.labels])
    expected = supervised_loss(case.student, case.labels, task="multiclass")
    torch.testing.assert_close(loss(case, right_weight=1.0), expected)


def test_wrong_and_undecided_is_zero():
    """Nothing more can be asked of a model that is wrong, and says so."""
    student = torch.tensor([[1e-9, 0.0, 0.0]], dtype=torch.float64)
    assert gatekeeper_loss(student, torch.tensor([2]), task="multiclass").item() < 1e-15


def test_steps_make_it_sure_where_right_and_unsure_where_wrong():
    logits = torch.tensor([1.0, 1.0], requires_grad=True)
    gatekeeper_loss(logits, torch.tensor([1.0, 0.0]), task="binary").backward()
    assert logits.grad[0] < 0 < logits.grad[1]


def test_no_label_no_loss(full):
    assert loss(replace(full, labels=None, label_mask=None)).item() == 0.0
    masked = replace(full, label_mask=torch.zeros(6, dtype=torch.bool))
    assert loss(masked).item() == 0.0


def test_mask_selects_samples__mlkd(full):
    """MLKD averaged before it applied the mask, so that the mask only rescaled."""
    kept = full.label_mask.nonzero()[:, 0]
    torch.testing.assert_close(loss(full), loss(full.rows(kept)))


def test_gradients(full, reduction):
    student = full.student.clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: loss(replace(full, student=z), reduction=reduction), student
    )


def test_permutation(checks, full):
    checks.permutation(lambda c: loss(c, reduction="none"), full)


def test_micro_batches(checks, full):
    checks.micro_batches(lambda c: loss(c, reduction="sum"), full)


def test_softmax_invariances(checks, make_case):
    """ModelOpt: classes masked by −inf change nothing; here they are no part of uniform."""
    case = make_case("multiclass", missing=True)
    checks.shift(loss, case)
    checks.appended_classes(loss, case)


def test_masked_logits_never_give_nan(task, make_case):
    case = make_case(task)
    logits = case.student.clone()
    logits.view(6, -1)[:, 0] = -torch.inf
    case = replace(case, student=logits.requires_grad_())
    value = loss(case, reduction="none")
    value.sum().backward()
    assert value.isfinite().all()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("at", [0.0, 0.5, 1.0])
def test_continuous_in_weight(checks, full, at):
    checks.continuous(lambda w: loss(full, right_weight=w), at)


def test_extremes(checks, full):
    checks.extremes(loss, full)


def test_half_precision(checks, full):
    checks.half_precision(loss, full)


def test_compiled(checks, full):
    checks.compiled(loss, full)


def test_module_equals_function(full):
    module = GatekeeperLoss(task=full.task, right_weight=0.3, reduction="sum")
    inputs = full.student, full.labels, full.label_mask, full.sample_weight
    assert torch.equal(module(*inputs), loss(full, right_weight=0.3, reduction="sum"))
    module.right_weight = 0.7
    assert torch.equal(module(*inputs), loss(full, right_weight=0.7, reduction="sum"))


def test_select_needs_no_teacher(make_case):
    case = make_case("binary", missing=True, weighted=True)
    module = GatekeeperLoss(task="binary")
    student = type("Output", (), {"logits": case.student})
    assert torch.equal(module(**module.select(student, None, case)), loss(case))


ZEROS, INDEX = torch.zeros(3, 4), torch.zeros(3, dtype=torch.long)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "regression"}, "'regression' has no class probabilities"),
        ({"right_weight": 1.5}, r"right_weight must be a number in \[0, 1\], got 1.5"),
        ({"reduction": "avg"}, "reduction 'avg' is unknown"),
        ({"student_logits": ZEROS[0]}, r"student_logits have shape \(4,\)"),
        ({"student_logits": ZEROS.long()}, "student_logits must be floating point"),
        ({"labels": INDEX - 1}, "label -1 in row 0"),
        ({"labels": INDEX.float()}, "must be integer class indices"),
    ],
)
def test_errors(changes, message):
    inputs = {"student_logits": ZEROS, "labels": INDEX}
    with pytest.raises(ValueError, match=message):
        gatekeeper_loss(**{**inputs, "task": "multiclass", **changes})


@pytest.mark.parametrize("options", [{"right_weight": -0.1}, {"task": "regression"}])
def test_module_errors_come_at_construction(options):
    with pytest.raises(ValueError, match=r"right_weight|regression"):
        GatekeeperLoss(**{"task": "binary", **options})
