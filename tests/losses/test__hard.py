from dataclasses import replace

import pytest
import torch

from coefvq.losses import gatekeeper_loss, supervised_loss
from coefvq.losses._hard import hard_elements, hard_values

OPTIONS = [
    ("binary", {}),
    ("binary", {"positive_weight": 3.0}),
    ("multilabel", {"label_smoothing": 0.1}),
    ("multilabel", {"positive_weight": [1.0, 2.0, 0.5]}),
    ("multilabel", {"focal_gamma": 2.0}),
    ("multiclass", {}),
    ("multiclass", {"label_smoothing": 0.1}),
    ("regression", {}),
]


@pytest.mark.parametrize(("task", "options"), OPTIONS)
def test_twice_differentiable(make_case, task, options):
    case = make_case(task, missing=True, weighted=True)

    def loss(z):
        return supervised_loss(
            z,
            case.labels,
            task=task,
            label_mask=case.label_mask,
            sample_weight=case.sample_weight,
            **options,
        )

    assert torch.autograd.gradcheck(loss, case.student.clone().requires_grad_())
    assert torch.autograd.gradgradcheck(loss, case.student.clone().requires_grad_())


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_gatekeeper_is_twice_differentiable(make_case, task):
    case = make_case(task, weighted=True)

    def loss(z):
        return gatekeeper_loss(
            z, case.labels, task=task, right_weight=0.3, sample_weight=case.sample_weight
        )

    assert torch.autograd.gradgradcheck(loss, case.student.clone().requires_grad_())


def test_backward_twice_gives_twice_the_gradient(make_case):
    for task in ("binary", "multilabel", "multiclass"):
        case = make_case(task)
        student = case.student.clone().requires_grad_()
        value = gatekeeper_loss(student, case.labels, task=task)
        value = value + supervised_loss(student, case.labels, task=task)
        value.backward(retain_graph=True)
        once = student.grad.clone()
        value.backward()
        torch.testing.assert_close(student.grad, 2 * once)


@pytest.mark.parametrize("task", ["binary", "multilabel", "multiclass"])
@pytest.mark.parametrize("per_sample", [False, True])
def test_weights_of_decisions(make_case, task, per_sample):
    case = make_case(task)
    elements = hard_elements(case.student, case.labels, task)
    shape = elements.shape[:1] if per_sample else elements.shape
    weight = torch.rand(shape, dtype=torch.float64)
    expanded = weight[:, None] if per_sample and elements.ndim == 2 else weight
    expected = (expanded * elements).reshape(6, -1).mean(-1)
    torch.testing.assert_close(
        hard_values(case.student, case.labels, task, weight=weight), expected
    )


def test_a_masked_class_anywhere_gets_no_smoothing(make_case):
    """The shortcut for logits without −inf must not be taken for a batch where one row has one."""
    case = make_case("multiclass")
    student = case.student.clone()
    student[0, (case.labels[0] + 1) % 4] = -torch.inf

    def loss(c, **options):
        return supervised_loss(
            c.student, c.labels, task="multiclass", label_smoothing=0.1, **options
        )

    values = loss(replace(case, student=student), reduction="none")
    torch.testing.assert_close(values[1:], loss(case, reduction="none")[1:])
    assert values[0] < 100
