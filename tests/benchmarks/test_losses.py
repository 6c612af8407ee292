"""The losses against the plain torch lines that they replace.

    pytest -m benchmark -s tests/benchmarks/test_losses.py

B = 4096, C = 1000, forward and backward in eager mode, in turns in one process. Printed: ratios.
"""

import time
from statistics import median

import pytest
import torch
from torch.nn import functional

from coefvq.losses import logit_kd_loss, pfd_loss, supervised_loss

pytestmark = pytest.mark.benchmark
ROUNDS = 15


def plain_kd(student, teacher, labels):
    return functional.kl_div(
        (student / 2).log_softmax(-1), (teacher / 2).log_softmax(-1), reduction="batchmean",
        log_target=True,
    ) * 4  # fmt: skip


PAIRS = {
    "supervised": (
        lambda s, t, y: supervised_loss(s, y, task="multiclass"),
        lambda s, t, y: functional.cross_entropy(s, y),
    ),
    "logit_kd": (
        lambda s, t, y: logit_kd_loss(s, t, task="multiclass", temperature=2.0),
        plain_kd,
    ),
    "pfd": (
        lambda s, t, y: pfd_loss(s, t, y, task="multiclass", temperature=2.0),
        lambda s, t, y: 0.5 * functional.cross_entropy(s, y) + 0.5 * plain_kd(s, t, y),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_overhead(name, capsys):
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(4096, 1000, generator=generator, requires_grad=True)
    teacher = torch.randn(4096, 1000, generator=generator)
    labels = torch.randint(0, 1000, (4096,), generator=generator)
    ours, theirs = PAIRS[name]
    torch.testing.assert_close(ours(student, teacher, labels), theirs(student, teacher, labels))

    def seconds(loss):
        student.grad = None
        start = time.perf_counter()
        loss(student, teacher, labels).backward()
        return time.perf_counter() - start

    ratios = []
    for turn in range(ROUNDS):
        pair = (ours, theirs) if turn % 2 else (theirs, ours)
        first, second = seconds(pair[0]), seconds(pair[1])
        ratios.append(first / second if turn % 2 else second / first)
    with capsys.disabled():
        print(f"\n{name} / plain torch: {median(ratios):.3f} ({min(ratios):.3f}-{max(ratios):.3f})")
