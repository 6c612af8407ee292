"""A distribution split at its label: against the formula in plain steps, row by row."""

import math

import pytest
import torch

from coefvq.losses._target import apart, check_many_classes, check_width

LABELS = torch.tensor([0, 3, 1, 2, 1])


def draw(seed, classes=4):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(5, classes, generator=generator, dtype=torch.float64)


STUDENT, TEACHER = draw(1), draw(2)


def plain(student, teacher, labels, temperature, alpha, beta):
    """α · KL(b_p ‖ b_q) + β · KL(p̂ ‖ q̂) as it is written."""
    rows = []
    for z, t, y in zip(student / temperature, teacher / temperature, labels.tolist(), strict=True):
        q, p = z.softmax(0), t.softmax(0)
        target = p[y] * (p[y] / q[y]).log() + (1 - p[y]) * ((1 - p[y]) / (1 - q[y])).log()
        others = torch.arange(len(z)) != y
        hat_q, hat_p = z[others].log_softmax(0), t[others].log_softmax(0)
        rows.append(alpha * target + beta * (hat_p.exp() * (hat_p - hat_q)).sum())
    return torch.stack(rows)


def test_closed_form():
    # p = (½, 0.3, 0.2), q uniform, label 0: b = (½, ½) against (⅓, ⅔), p̂ = (0.6, 0.4) against ½.
    teacher = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64).log()
    target = 0.5 * math.log(1.5) + 0.5 * math.log(0.75)
    others = 0.6 * math.log(1.2) + 0.4 * math.log(0.8)
    for alpha, beta in ((1.0, 0.0), (0.0, 1.0), (2.0, 3.0)):
        values, gradient = apart(
            torch.zeros(1, 3).double(), teacher, torch.tensor([0]), 1.0, alpha, beta, True
        )
        assert values.item() == pytest.approx(alpha * target + beta * others)
        # d = α (⅓ − ½) for the label; the others share −d evenly and differ by β (q̂ − p̂).
        d = -alpha / 6
        expected = [d, -d / 2 - 0.1 * beta, -d / 2 + 0.1 * beta]
        torch.testing.assert_close(gradient, torch.tensor([expected], dtype=torch.float64))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_values_and_gradient_are_those_of_the_plain_formula(temperature):
    z = STUDENT.clone().requires_grad_()
    expected = plain(z, TEACHER, LABELS, temperature, 1.3, 4.0)
    expected.sum().backward()
    values, gradient = apart(STUDENT, TEACHER, LABELS, temperature, 1.3, 4.0, True)
    torch.testing.assert_close(values, expected.detach())
    torch.testing.assert_close(gradient / temperature, z.grad)  # it is for z / T
    torch.testing.assert_close(gradient.sum(-1), torch.zeros(5).double())


def test_nothing_is_computed_unasked_and_nothing_given_is_changed():
    student, teacher = STUDENT.clone(), TEACHER.clone()
    values, nothing = apart(student, teacher, LABELS, 1.0, 1.3, 4.0, False)
    assert nothing is None
    assert torch.equal(values, apart(student, teacher, LABELS, 1.0, 1.3, 4.0, True)[0])
    assert torch.equal(student, STUDENT) and torch.equal(teacher, TEACHER)


def test_equal_sides_are_worth_nothing():
    values, gradient = apart(TEACHER, TEACHER, LABELS, 2.0, 1.0, 8.0, True)
    torch.testing.assert_close(values, torch.zeros(5).double())
    torch.testing.assert_close(gradient, torch.zeros(5, 4).double())


def test_masked_classes_count_for_nothing():
    nothing = torch.full((5, 2), -torch.inf, dtype=torch.float64)
    wide = [torch.cat([x, nothing], -1) for x in (STUDENT, TEACHER)]
    values, gradient = apart(*wide, LABELS, 2.0, 1.3, 4.0, True)
    expected, part = apart(STUDENT, TEACHER, LABELS, 2.0, 1.3, 4.0, True)
    torch.testing.assert_close(values, expected)
    torch.testing.assert_close(gradient[:, :4], part)
    assert (gradient[:, 4:] == 0).all()


def test_a_label_that_is_the_only_possible_class():
    alone = torch.tensor([[1.0, -torch.inf, -torch.inf]])
    values, gradient = apart(alone, alone, torch.tensor([0]), 4.0, 1.0, 8.0, True)
    assert values.item() == 0.0 and gradient.isfinite().all()


def test_large_logits_stay_finite():
    student = (1e4 * STUDENT.sign()).float()
    values, gradient = apart(student, -student, LABELS, 1.0, 1.0, 8.0, True)
    assert values.isfinite().all() and gradient.isfinite().all()


def test_what_has_two_classes_is_refused_with_what_would_vanish():
    with pytest.raises(ValueError, match=r"^x_loss needs task .*got 'binary': with two, y is 0; u"):
        check_many_classes("binary", "x_loss", "y is 0")
    with pytest.raises(ValueError, match="got 'multilabel', whose labels have two each: with two"):
        check_many_classes("multilabel", "x_loss", "y is 0")
    with pytest.raises(ValueError, match="task 'regression' is unknown; choose one of multiclass"):
        check_many_classes("regression", "x_loss", "y is 0")
    check_many_classes("multiclass", "x_loss", "y is 0")
    with pytest.raises(ValueError, match=r"got logits of shape \(5, 2\): with two, y is 0; use lo"):
        check_width(STUDENT[:, :2], "x_loss", "y is 0")
    check_width(STUDENT[:, :3], "x_loss", "y is 0")
