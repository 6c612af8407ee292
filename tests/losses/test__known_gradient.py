"""Values with a gradient of one's own: passed on, refused a second time, the same compiled."""

import pytest
import torch

from coefvq.losses._known_gradient import wants_gradient, with_gradient, with_slope

Z = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
GRADIENT = torch.arange(12, dtype=torch.float64).view(3, 4) - 5  # of nothing in particular
UPSTREAM = torch.tensor([1.0, 10.0, -0.5], dtype=torch.float64)


def leaf():
    return Z.clone().requires_grad_()


def cubes(z):
    """Σ z³ / 3 of each row; its slope is z²."""
    return (z.detach() ** 3).sum(-1) / 3


def test_who_wants_a_gradient():
    assert wants_gradient(leaf()) and not wants_gradient(Z)
    with torch.no_grad():
        assert not wants_gradient(leaf())


@pytest.mark.parametrize("shape", [(3,), (3, 4)], ids=["per sample", "per element"])
def test_the_gradient_is_the_given_one_times_what_comes_from_above(shape):
    values = torch.linspace(1, 2, 3, dtype=torch.float64)
    upstream = UPSTREAM
    if shape == (3, 4):
        values, upstream = values[:, None].expand(shape), UPSTREAM[:, None]
    values = values.clone().requires_grad_()
    given, z = GRADIENT.clone().requires_grad_(), leaf()
    found = with_gradient(z, values, given)
    assert torch.equal(found, values) and found.data_ptr() != values.data_ptr()
    (found * upstream).sum().backward()
    assert torch.equal(z.grad, GRADIENT * UPSTREAM[:, None])
    assert values.grad is None and given.grad is None


@pytest.mark.parametrize("upstream", ["constant", "of the logits"])
def test_a_second_derivative_is_refused_whatever_comes_from_above(upstream):
    """torch's `once_differentiable` would let the constant one pass, as 0."""
    z = leaf()
    value = with_gradient(z, cubes(z), z.detach() ** 2).sum()
    (first,) = torch.autograd.grad(
        value if upstream == "constant" else value * z.sum(), z, create_graph=True
    )
    with pytest.raises(RuntimeError, match="gives a first derivative only; for a second one"):
        first.sum().backward()


def test_a_slope_is_asked_for_in_backward_and_never_before():
    asked, z, other = [], leaf(), torch.ones(3, 4, dtype=torch.float64)

    def slope(logits, *tensors):
        asked.append(tensors)
        return logits**2

    value = with_slope(z, cubes(z), slope, other, None)
    assert torch.equal(value, cubes(z)) and asked == []
    (value * UPSTREAM).sum().backward(retain_graph=True)
    once = z.grad.clone()
    torch.testing.assert_close(once, Z**2 * UPSTREAM[:, None])
    (value * UPSTREAM).sum().backward()
    assert torch.equal(z.grad, 2 * once)
    assert len(asked) == 2 and torch.equal(asked[0][0], other) and asked[0][1] is None


def test_a_slope_of_autograds_own_steps_has_a_second_derivative():
    def loss(z):
        return with_slope(z, cubes(z), lambda logits: logits**2)

    assert torch.autograd.gradcheck(loss, leaf())
    assert torch.autograd.gradgradcheck(loss, leaf())


def test_per_sample_gradients_of_torch_func():
    def known(z, gradient):
        return with_gradient(z, z.sum(), gradient)

    def sloped(z):
        return with_slope(z, cubes(z), lambda logits: logits**2)

    each = torch.func.vmap(torch.func.grad(known))(Z, GRADIENT)
    assert torch.equal(each, GRADIENT)
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(sloped))(Z), Z**2)


@pytest.mark.parametrize("shape", [(3,), (3, 4)], ids=["per sample", "per element"])
def test_compiled_it_is_the_same_but_for_impossible_logits(shape):
    torch.compiler.reset()
    values, upstream = torch.ones(shape, dtype=torch.float64), UPSTREAM
    if len(shape) == 2:
        upstream = upstream[:, None]

    def loss(z):
        known = with_gradient(z, values, GRADIENT)
        return ((known + with_slope(z, values, lambda x: 2 * GRADIENT)) * upstream).sum()

    z, graph = leaf(), leaf()
    with torch.no_grad():
        graph[1, 2] = -torch.inf  # eager code hands its gradient on, a compiled one has 0 there
    expected, value = loss(z), torch.compile(loss, backend="eager", fullgraph=True)(graph)
    assert torch.equal(value, expected)
    expected.backward()
    value.backward()
    z.grad[1, 2] = 0.0
    torch.testing.assert_close(graph.grad, z.grad)
