import math

import pytest
import torch
import torch.nn.functional as F

from coefvq.losses import _bernoulli

LOGITS = torch.tensor(
    [-math.inf, -60.0, -3.0, -0.2, 0.0, 0.2, 3.0, 60.0, math.inf], dtype=torch.float64
)
FINITE = LOGITS[1:-1]


def pairs(logits):
    first, second = torch.meshgrid(logits, logits, indexing="ij")
    return first.flatten().clone(), second.flatten().clone()


def logs(z):
    return F.logsigmoid(z), F.logsigmoid(-z)


@pytest.mark.parametrize("weight", [None, 3.0])
@pytest.mark.parametrize("target", [0.0, 0.3, 1.0])
def test_cross_entropy_and_slope(target, weight):
    z = FINITE.clone().requires_grad_()
    w, y = (None if weight is None else torch.tensor(weight).double()), torch.full_like(z, target)
    yes, no = logs(z)
    expected = -(weight or 1) * y * yes - (1 - y) * no
    torch.testing.assert_close(_bernoulli.cross_entropy(z.detach(), y, w), expected.detach())
    (slope,) = torch.autograd.grad(expected.sum(), z)
    with torch.no_grad():
        torch.testing.assert_close(_bernoulli.cross_entropy_slope(z, y, w, None), slope)
        halved = _bernoulli.cross_entropy_slope(z, y, w, torch.tensor(0.5))
        torch.testing.assert_close(halved, slope / 2)
    torch.testing.assert_close(_bernoulli.cross_entropy_slope(z, y, w, None), slope)


@pytest.mark.parametrize("reverse", [False, True])
def test_divergence_and_slope(reverse):
    student, t = pairs(FINITE)
    z = student.requires_grad_()
    (log_q, log_not_q), (log_p, log_not_p) = logs(z), logs(t)
    gaps = log_q - log_p, log_not_q - log_not_p
    if reverse:
        expected = log_q.exp() * gaps[0] + log_not_q.exp() * gaps[1]
    else:
        expected = -log_p.exp() * gaps[0] - log_not_p.exp() * gaps[1]
    values, gradient = _bernoulli.divergence(z.detach(), t, reverse, True)
    torch.testing.assert_close(values, expected.detach(), rtol=1e-9, atol=1e-15)
    (slope,) = torch.autograd.grad(expected.sum(), z)
    torch.testing.assert_close(gradient, slope, rtol=1e-9, atol=1e-15)
    alone, nothing = _bernoulli.divergence(z.detach(), t, reverse, False)
    assert torch.equal(alone, values) and nothing is None


@pytest.mark.parametrize("reverse", [False, True])
def test_divergence_of_masked_decisions(reverse):
    z, t = pairs(LOGITS)
    values, gradient = _bernoulli.divergence(z, t, reverse, True)
    assert values.isfinite().all() and gradient.isfinite().all()
    assert (values[z == t] == 0).all() and (gradient[z == t] == 0).all()
    # All the mass of one side where the other has none.
    apart = (z.isinf() & t.isinf()) & (z != t)
    assert (values[apart] == 1e30).all()


def test_float32_keeps_the_digits_of_a_small_divergence():
    # p = σ(−20), q = σ(−21): the true value is about 5.4e−10, far below the rounding of 20.
    z, t = torch.tensor([-21.0, 21.0]), torch.tensor([-20.0, 20.0])
    for reverse in (False, True):
        values, _ = _bernoulli.divergence(z, t, reverse, False)
        exact, _ = _bernoulli.divergence(z.double(), t.double(), reverse, False)
        torch.testing.assert_close(values.double(), exact, rtol=1e-5, atol=0)


def test_undecided_and_slope():
    z = FINITE.clone().requires_grad_()
    yes, no = logs(z)
    expected = math.log(2) + yes.exp() * yes + no.exp() * no
    torch.testing.assert_close(_bernoulli.undecided(z.detach()), expected.detach())
    (slope,) = torch.autograd.grad(expected.sum(), z)
    torch.testing.assert_close(_bernoulli.undecided_slope(z.detach()), slope)
    ends = torch.tensor([-math.inf, math.inf])
    assert (_bernoulli.undecided(ends) == torch.tensor(2.0).log()).all()
    assert (_bernoulli.undecided_slope(ends) == 0).all()


def test_inputs_stay_as_they_are():
    z, t = pairs(LOGITS)
    before = z.clone(), t.clone()
    _bernoulli.cross_entropy(z, t.sigmoid(), None)
    _bernoulli.divergence(z, t, False, True)
    _bernoulli.undecided(z)
    assert torch.equal(z, before[0]) and torch.equal(t, before[1])
