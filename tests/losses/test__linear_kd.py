"""The single pass: what it holds, what it multiplies, how it cuts, and one derivative only."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from coefvq.losses import _linear_kd
from coefvq.losses._linear_kd import Linear, Options, evaluate, sum_dtype
from coefvq.losses.logit_kd import divergence

N, V, H, W, K = 7, 11, 5, 3, 4  # W: the teacher's width
MASK = torch.tensor([1, 0, 1, 1, 0, 1, 1]).bool()
OPTIONS = Options("tail", 1.0, "forward", 0.5, compiled=False, chunk_size=None)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


STUDENT = Linear(draw(N, H, seed=1), draw(V, H, seed=2), draw(V, seed=3))
TEACHER = Linear(draw(N, W, seed=4), draw(V, W, seed=5), draw(V, seed=6))
LOGPROBS, INDICES = F.linear(*TEACHER).log_softmax(-1).topk(K)
# Two ways to have a teacher, and what is said of it.
TEACHERS = [(TEACHER, OPTIONS._replace(topk=None, temperature=2.0)), ((INDICES, LOGPROBS), OPTIONS)]
either = pytest.mark.parametrize(("teacher", "options"), TEACHERS, ids=["whole", "stored"])


def leaves(wanted=(True, True, True)):
    return Linear(*(x.clone().requires_grad_(w) for x, w in zip(STUDENT, wanted, strict=True)))


def shares(mask=None):
    each = torch.linspace(0.5, 1.5, N, dtype=torch.float64)
    return each if mask is None else each * mask


def one_pass(student, teacher, options, mask=None, **changes):
    return evaluate(student, teacher, mask, shares(mask), True, options._replace(**changes))


def test_it_is_the_sum_of_share_and_divergence_times_the_squared_temperature():
    teacher, options = TEACHERS[0]
    logs = (F.linear(*side).div(2.0).log_softmax(-1) for side in (STUDENT, TEACHER))
    values = divergence(*logs, "forward", 0.5, False)[0]
    expected = 4 * (values * shares(MASK)).sum()
    for size in (None, 1, 3):
        found = one_pass(STUDENT, teacher, options, MASK, chunk_size=size)
        torch.testing.assert_close(found, expected)


class Largest(TorchDispatchMode):
    """The most elements that any tensor made inside has."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for x in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(x, torch.Tensor):
                self.elements = max(self.elements, x.numel())
        return made


@pytest.mark.parametrize("topk", [None, "raw", "tail", "renormalized", "teacher_renormalized"])
def test_it_never_holds_all_logits(topk):
    teacher = TEACHER if topk is None else (INDICES, LOGPROBS)
    with Largest() as seen:
        one_pass(leaves(), teacher, OPTIONS, topk=topk, chunk_size=2).backward()
    assert 2 * V <= seen.elements <= max(2 * V, V * H) < N * V


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ((True, True, False), 6 * H + 2 * W),
        ((True, False, False), 4 * H + 2 * W),
        ((False, False, False), 2 * H + 2 * W),
    ],
)
def test_it_does_the_least_matrix_work(wanted, expected):
    """6 · N · V · H_s + 2 · N · V · H_t; a part that isn't wanted isn't computed."""
    for mask, tokens in ((None, N), (MASK, int(MASK.sum()))):
        with FlopCounterMode(display=False) as counter:
            value = one_pass(leaves(wanted), *TEACHERS[0], mask, chunk_size=3)
            if value.requires_grad:
                value.backward()
        assert value.requires_grad == any(wanted)
        assert counter.get_total_flops() == tokens * V * expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [(6, [4, 3]), (3, [3, 3, 1]), (100, [7]), (None, [7])],
)
def test_chunks_are_as_even_as_can_be(size, expected, monkeypatch):
    seen, inner = [], _linear_kd._compare
    monkeypatch.setattr(
        _linear_kd, "_compare", lambda z, *more: seen.append(len(z)) or inner(z, *more)
    )
    one_pass(leaves(), *TEACHERS[0], chunk_size=size)
    assert seen == expected


def test_without_a_size_chunks_and_blocks_follow_from_the_vocabulary(monkeypatch):
    seen, inner = [], _linear_kd._compare
    monkeypatch.setattr(
        _linear_kd, "_compare", lambda z, *more: seen.append(len(z)) or inner(z, *more)
    )
    whole = one_pass(leaves(), *TEACHERS[0])
    seen.clear()
    monkeypatch.setattr(_linear_kd, "_CHUNK", {"cpu": 5 * V})
    monkeypatch.setattr(_linear_kd, "_BLOCK", {"cpu": 3 * V})
    torch.testing.assert_close(one_pass(leaves(), *TEACHERS[0]), whole)
    assert seen == [3, 1, 3]  # chunks of 4 and 3 tokens, in blocks of up to 3


@either
def test_backward_twice_is_the_same_and_twice_over_is_refused(teacher, options):
    student = leaves()
    value = one_pass(student, teacher, options)
    first = torch.autograd.grad(value, student, retain_graph=True)
    value.backward(retain_graph=True)
    (3 * value).backward()
    for leaf, once in zip(student, first, strict=True):
        torch.testing.assert_close(leaf.grad, 4 * once, rtol=1e-12, atol=0)
    with pytest.raises(RuntimeError, match="linear_kd_loss is differentiable once but backward wa"):
        torch.autograd.grad(one_pass(student, teacher, options), student[0], create_graph=True)


@either
def test_no_token_at_all_is_worth_nothing(teacher, options):
    student = leaves()
    value = one_pass(student, teacher, options, torch.zeros_like(MASK))
    value.backward()
    assert value.item() == 0.0 and all((leaf.grad == 0).all() for leaf in student)


def test_sums_are_made_in_float32_or_better():
    assert sum_dtype(torch.float64) == torch.float64
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert sum_dtype(dtype) == torch.float32
