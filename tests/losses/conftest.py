"""Cases and checks that every loss shares; a loss is given to a check as a function of a Case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

CLASSES, LABELS = 4, 3


@dataclass(frozen=True)
class Case:
    task: str
    student: Tensor
    teacher: Tensor
    labels: Tensor
    label_mask: Tensor | None = None
    sample_weight: Tensor | None = None

    def rows(self, index) -> Case:
        """The samples at `index`, in that order."""
        changes = {
            name: value[index] for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **changes)

    def lists(self) -> tuple[list, list, list]:
        """What the reference computes with."""
        return self.student.tolist(), self.teacher.tolist(), self.labels.tolist()

    def options(self) -> dict:
        """Mask and weight, as the reference takes them."""
        mask, weight = self.label_mask, self.sample_weight
        return {
            "mask": None if mask is None else mask.tolist(),
            "weight": None if weight is None else weight.tolist(),
        }


def _make_case(
    task: str,
    missing: bool = False,
    weighted: bool = False,
    batch: int = 6,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Case:
    """Random logits and labels. Missing labels hold values that must never be read."""
    draw = torch.Generator().manual_seed(seed)
    shape = {"multiclass": (batch, CLASSES), "multilabel": (batch, LABELS)}.get(task, (batch,))
    student, teacher = (torch.randn(shape, generator=draw, dtype=dtype) * 2 for _ in range(2))
    if task == "multiclass":
        labels = torch.randint(CLASSES, (batch,), generator=draw)
    elif task == "regression":
        labels = torch.randn(shape, generator=draw, dtype=dtype)
    else:
        labels = torch.randint(2, shape, generator=draw).to(dtype)
    mask = None
    if missing:
        mask = torch.arange(batch) % 3 != 1
        labels[~mask] = 99 if task == "multiclass" else torch.nan
    weight = torch.rand(batch, generator=draw, dtype=dtype) + 0.5 if weighted else None
    return Case(task, student, teacher, labels, mask, weight)


Loss = Callable[[Case], Tensor]


class Checks:
    """Properties that any loss must have."""

    @staticmethod
    def gradients(loss: Loss, case: Case) -> None:
        """The student's gradient is right, the teacher gets none."""
        student = case.student.clone().requires_grad_()
        assert torch.autograd.gradcheck(lambda z: loss(replace(case, student=z)), student)
        teacher = case.teacher.clone().requires_grad_()
        loss(replace(case, student=student, teacher=teacher)).sum().backward()
        assert teacher.grad is None
        assert student.grad is not None

    @staticmethod
    def permutation(loss: Loss, case: Case) -> None:
        """A per-sample loss follows the samples."""
        order = torch.randperm(len(case.labels), generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(loss(case)[order], loss(case.rows(order)), rtol=0, atol=0)

    @staticmethod
    def shift(loss: Loss, case: Case) -> None:
        """A constant added to the softmax logits of a sample changes nothing."""
        constant = torch.linspace(-3, 5, len(case.labels), dtype=case.student.dtype)[:, None]
        moved = replace(case, student=case.student + constant, teacher=case.teacher - 2 * constant)
        torch.testing.assert_close(loss(case), loss(moved))

    @staticmethod
    def micro_batches(loss: Loss, case: Case) -> None:
        """A summed loss and its gradient don't depend on how a batch is cut."""
        whole = case.student.clone().requires_grad_()
        cut = case.student.clone().requires_grad_()
        total = loss(replace(case, student=whole))
        parts = [
            loss(replace(case, student=cut).rows(slice(a, b))) for a, b in ((0, 1), (1, 4), (4, 6))
        ]
        torch.testing.assert_close(sum(parts), total)
        total.backward()
        sum(parts).backward()
        torch.testing.assert_close(cut.grad, whole.grad)

    @staticmethod
    def appended_classes(loss: Loss, case: Case) -> None:
        """Classes masked by −inf in both logits change neither loss nor gradient."""
        short = case.student.clone().requires_grad_()
        impossible = torch.full((len(case.labels), 5), -torch.inf, dtype=case.student.dtype)
        long = torch.cat([case.student, impossible], -1).requires_grad_()
        teacher = torch.cat([case.teacher, impossible], -1)
        without = loss(replace(case, student=short))
        appended = loss(replace(case, student=long, teacher=teacher))
        torch.testing.assert_close(appended, without)
        without.backward()
        appended.backward()
        torch.testing.assert_close(long.grad[:, : short.shape[1]], short.grad)
        assert (long.grad[:, short.shape[1] :] == 0).all()

    @staticmethod
    def extremes(loss: Loss, case: Case) -> None:
        """±1e4 in float32 stays finite, and so does the gradient."""
        sign = case.student.sign().float()
        for student, teacher in ((sign, sign), (sign, -sign)):
            logits = (student * 1e4).requires_grad_()
            value = loss(replace(case, student=logits, teacher=teacher * 1e4))
            value.sum().backward()
            assert value.isfinite().all()
            assert logits.grad.isfinite().all()

    @staticmethod
    def half_precision(loss: Loss, case: Case) -> None:
        """bf16 logits are computed with in float32, inside autocast and outside."""
        half = replace(case, student=case.student.bfloat16(), teacher=case.teacher.bfloat16())
        same = replace(half, student=half.student.float(), teacher=half.teacher.float())
        expected = loss(same)
        assert expected.dtype == torch.float32
        torch.testing.assert_close(loss(half), expected, rtol=0, atol=0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(loss(half), expected, rtol=0, atol=0)
        assert loss(case).dtype == torch.float64
        torch.testing.assert_close(loss(half).double(), loss(case), rtol=0.05, atol=0.02)

    @staticmethod
    def compiled(loss: Loss, case: Case) -> None:
        """torch.compile makes one graph of it, with the same value and gradient."""
        torch.compiler.reset()

        @torch.compile(backend="aot_eager", fullgraph=True)
        def run(student: Tensor) -> Tensor:
            return loss(replace(case, student=student))

        eager = case.student.clone().requires_grad_()
        graph = case.student.clone().requires_grad_()
        expected, value = loss(replace(case, student=eager)), run(graph)
        torch.testing.assert_close(value, expected)
        expected.sum().backward()
        value.sum().backward()
        torch.testing.assert_close(graph.grad, eager.grad)

    @staticmethod
    def continuous(loss: Callable[[float], Tensor], at: float, step: float = 1e-6) -> None:
        """No cliff at a number, from either side (a side outside [0, 1] counts as absent)."""
        here = loss(at)
        for near in (at - step, at + step):
            if near >= 0 and not (at == 1 and near > 1):
                torch.testing.assert_close(loss(near), here, rtol=0, atol=1e-4)


@pytest.fixture
def checks() -> type[Checks]:
    return Checks


@pytest.fixture
def make_case() -> Callable[..., Case]:
    return _make_case


@pytest.fixture(params=["binary", "multiclass", "multilabel"])
def task(request) -> str:
    """Tasks with class probabilities."""
    return request.param


@pytest.fixture(params=[False, True], ids=["all-labelled", "missing"])
def missing(request) -> bool:
    return request.param


@pytest.fixture(params=[False, True], ids=["unweighted", "weighted"])
def weighted(request) -> bool:
    return request.param


@pytest.fixture(params=["none", "mean", "sum"])
def reduction(request) -> str:
    return request.param


@pytest.fixture
def case(task, missing, weighted) -> Case:
    """Every task, with and without missing labels, with and without weights."""
    return _make_case(task, missing, weighted)


@pytest.fixture
def full(task) -> Case:
    """Every task with missing labels and weights: the hardest case of each."""
    return _make_case(task, missing=True, weighted=True)
