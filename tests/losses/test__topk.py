"""A teacher of its k likeliest tokens: what each meaning compares, and what it may not be given."""

import math

import pytest
import torch

from coefvq.losses._contract import IMPOSSIBLE
from coefvq.losses._topk import (
    _log_tail,
    check_topk_options,
    check_topk_values,
    topk_divergence,
)
from coefvq.losses.logit_kd import divergence

N, V, K = 12, 9, 4
MEANINGS = ("raw", "tail", "renormalized", "teacher_renormalized")
HOWS = [("forward", 0.5), ("reverse", 0.5), ("jsd", 0.5), ("jsd", 0.2)]


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double() * 2


STUDENT, TEACHER = draw(N, V, seed=1), draw(N, V, seed=2)


def stored(teacher, k=K):
    logprobs, indices = teacher.log_softmax(-1).topk(k)
    return indices, logprobs


def compare(student, indices, logprobs, topk, direction="forward", beta=0.5, temperature=1.0):
    """The values; `topk_divergence` works in the memory of what it is given."""
    return topk_divergence(
        student.clone(), indices, logprobs, topk=topk, temperature=temperature,
        direction=direction, beta=beta, wanted=False,
    )[0]  # fmt: skip


def whole(student, teacher, direction="forward", beta=0.5):
    logs = student.log_softmax(-1), teacher.log_softmax(-1)
    return divergence(*logs, direction, beta, False)[0]


def test_the_gradient_takes_the_students_own_memory():
    for topk, temperature in (("raw", 1.0), ("tail", 1.0), ("renormalized", 2.0)):
        z, options = STUDENT.clone(), {"topk": topk, "temperature": temperature}
        values, gradient = topk_divergence(
            z, *stored(TEACHER), direction="forward", beta=0.5, wanted=True, **options
        )
        assert gradient.data_ptr() == z.data_ptr() and gradient.shape == (N, V)
        torch.testing.assert_close(values, compare(STUDENT, *stored(TEACHER), **options))
        nothing = topk_divergence(
            STUDENT.clone(), *stored(TEACHER), direction="forward", beta=0.5, wanted=False,
            **options,
        )  # fmt: skip
        assert nothing[1] is None


@pytest.mark.parametrize(("direction", "beta"), HOWS)
def test_tail_is_never_above_the_whole(direction, beta):
    student, teacher = draw(200, 30, seed=3), draw(200, 30, seed=4)
    expected = whole(student, teacher, direction, beta)
    previous = torch.zeros_like(expected)
    for k in (1, 5, 20, 29, 30):  # finer outcomes can only tell more apart
        value = compare(student, *stored(teacher, k), "tail", direction, beta)
        assert (value >= -1e-14).all()
        assert (value >= previous - 1e-9).all()
        assert (value <= expected + 1e-9).all()
        previous = value
    torch.testing.assert_close(previous, expected)  # k = V


def test_all_meanings_agree_when_everything_is_stored():
    for topk in MEANINGS:
        value = compare(STUDENT, *stored(TEACHER, V), topk)
        torch.testing.assert_close(value, whole(STUDENT, TEACHER))


def test_raw_may_be_negative():
    likely = torch.zeros_like(TEACHER).scatter_(-1, TEACHER.topk(K).indices, 1.0).bool()
    student = torch.where(likely, TEACHER, -20.0)  # nothing for other tokens
    assert (compare(student, *stored(TEACHER), "raw") < 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_stored_teacher_of_a_masked_vocabulary(dtype):
    """All possible tokens are stored: rounding must not be charged as mass on impossible ones."""
    impossible = torch.arange(V) >= K
    student, teacher = (x.float().masked_fill(impossible, -torch.inf) for x in (STUDENT, TEACHER))
    indices, logprobs = stored(teacher)
    expected = whole(student[:, :K], teacher[:, :K])
    for topk in MEANINGS:
        value = compare(student, indices, logprobs.to(dtype), topk)
        torch.testing.assert_close(value, expected, rtol=1e-2, atol=1e-2)


def test_confident_teacher_in_the_reverse_direction():
    """A stored rest that rounds to 0 must not cost 1e30 where the student still has some mass."""
    teacher = torch.tensor([[30.0, 0.0, -1.0, -2.0]])
    value = compare(torch.zeros(1, 4), *stored(teacher, 1), "tail", "reverse")
    assert 0 < value.item() < 50


def test_the_rest_of_a_stored_teacher():
    log = torch.tensor([[0.5, 0.25], [0.75, 0.25], [0.75, 0.2495]], dtype=torch.float64).log()
    likely, none = torch.zeros(3, 1), torch.full((3, 1), -IMPOSSIBLE)
    rest = _log_tail(log, likely)[:, 0]
    assert rest[0].item() == pytest.approx(math.log(0.25))
    assert rest[1].item() == pytest.approx(math.log(torch.finfo(torch.float64).eps))  # never −inf
    assert rest[2].item() == pytest.approx(math.log(0.0005))
    # Where the student cannot say anything else, what rounding has left over is not charged.
    assert _log_tail(log, none)[:, 0].tolist() == [rest[0].item(), -IMPOSSIBLE, -IMPOSSIBLE]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("best", 1.0, "forward"), "topk 'best' is unknown; choose one of raw, tail, renormalized"),
        (("raw", 2.0, "forward"), "topk 'raw' needs temperature 1, got 2.0: the normaliser"),
        (("tail", 0.5, "reverse"), "topk 'tail' needs temperature 1, got 0.5"),
        (("raw", 1.0, "jsd"), "topk 'raw' needs direction 'forward', got 'jsd': the student's"),
        (("teacher_renormalized", 2.0, "reverse"), "'teacher_renormalized' needs direction 'for"),
    ],
)
def test_what_cannot_be_computed_from_k_entries_is_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_topk_options(*options)


def test_what_can_be_computed_passes():
    for options in (
        ("raw", 1.0, "forward"), ("tail", 1.0, "reverse"), ("renormalized", 3.0, "jsd"),
        ("teacher_renormalized", 3.0, "forward"),
    ):  # fmt: skip
        check_topk_options(*options)


def test_entries_that_are_no_teachers_are_refused():
    indices, logprobs = stored(TEACHER)
    check_topk_values(indices, logprobs, V)
    every = stored(TEACHER, V)
    check_topk_values(every[0], every[1] + 0.009, V)  # the rounding of half precision
    with pytest.raises(ValueError, match=r"add up to a probability of 1\.02"):
        check_topk_values(every[0], every[1] + 0.02, V)
    check_topk_values(indices, torch.full_like(logprobs, -torch.inf), V)
    for shifted, named in ((indices + V - 1, V), (indices - V, -V)):
        first = shifted[(shifted < 0) | (shifted >= V)][0].item()
        assert abs(first - named) < V
        with pytest.raises(ValueError, match=rf"hold {first}, which is not .* 0 to 8 \(V = 9\)"):
            check_topk_values(shifted, logprobs, V)
    twice = indices.clone()
    twice[3, 0] = twice[3, 2]
    with pytest.raises(ValueError, match="hold a token twice at one position; store each once"):
        check_topk_values(twice, logprobs, V)
    with pytest.raises(ValueError, match=r"add up to a probability of 2; store log-probabilities"):
        check_topk_values(indices, torch.full_like(logprobs, math.log(0.5)), V)
    with pytest.raises(ValueError, match="add up to a probability of nan"):
        check_topk_values(indices, logprobs * torch.nan, V)
