"""The losses against the plain torch lines that they replace.

    pytest -m benchmark -s tests/benchmarks/test_losses.py

B = 4096, C = 1000, forward and backward in eager mode, in turns in one process. Printed: ratios of
processor time, which a busy machine disturbs less than the time on the clock; their median must
stay below 1.10.
"""

import time
from statistics import median

import pytest
import torch
from torch.nn import functional

from coefvq.losses import (
    cpfd_loss,
    dkd_loss,
    logit_kd_loss,
    nkd_loss,
    pfd_loss,
    standardized_kd_loss,
    supervised_loss,
)

pytestmark = pytest.mark.benchmark
ROUNDS, LIMIT = 15, 1.10


def plain_kl(student, teacher, reduction="batchmean"):
    return functional.kl_div(student, teacher, reduction=reduction, log_target=True)


def logs(student, teacher):
    return (student / 2).log_softmax(-1), (teacher / 2).log_softmax(-1)


def plain_kd(student, teacher, labels):
    return plain_kl(*logs(student, teacher)) * 4


def plain_reverse(student, teacher, labels):
    q, p = logs(student, teacher)
    return plain_kl(p, q) * 4


def plain_jsd(student, teacher, labels):
    q, p = logs(student, teacher)
    m = ((q.exp() + p.exp()) / 2).log()
    return (plain_kl(m, q) + plain_kl(m, p)) * 2


def plain_pfd(student, teacher, labels):
    hard = functional.cross_entropy(student, labels)
    return 0.5 * hard + 0.5 * plain_kd(student, teacher, labels)


def plain_cpfd(student, teacher, labels):
    trust = teacher.softmax(-1).gather(-1, labels[:, None])[:, 0]
    soft = plain_kl(*logs(student, teacher), "none").sum(-1) * 4
    return 0.5 * functional.cross_entropy(student, labels) + 0.5 * (trust * soft).mean()


def plain_dkd(student, teacher, labels):
    own = functional.one_hot(labels, student.shape[-1]).bool()
    q, p = ((x / 2).softmax(-1)[own] for x in (student, teacher))
    target = plain_kl(*(torch.stack([x, 1 - x], -1).log() for x in (q, p)))
    others = plain_kl(*logs(student - 1e4 * own, teacher - 1e4 * own))
    return 4 * target + 32 * others


def plain_nkd(student, teacher, labels):
    own = functional.one_hot(labels, student.shape[-1]).bool()
    target = -(teacher.softmax(-1)[own] * student.log_softmax(-1)[own]).mean()
    return target + 6 * plain_kl(*logs(student - 1e4 * own, teacher - 1e4 * own))


def plain_standardized(student, teacher, labels):
    scores = (
        (x - x.mean(-1, keepdim=True)) / x.std(-1, correction=0, keepdim=True)
        for x in (student, teacher)
    )
    return plain_kd(*scores, labels)


def logit_kd(direction):
    return lambda s, t, y: logit_kd_loss(
        s, t, task="multiclass", temperature=2.0, direction=direction
    )


PAIRS = {
    "supervised": (
        lambda s, t, y: supervised_loss(s, y, task="multiclass"),
        lambda s, t, y: functional.cross_entropy(s, y),
    ),
    "logit_kd": (logit_kd("forward"), plain_kd),
    "logit_kd_reverse": (logit_kd("reverse"), plain_reverse),
    "logit_kd_jsd": (logit_kd("jsd"), plain_jsd),
    "pfd": (lambda s, t, y: pfd_loss(s, t, y, task="multiclass", temperature=2.0), plain_pfd),
    "cpfd": (lambda s, t, y: cpfd_loss(s, t, y, task="multiclass", temperature=2.0), plain_cpfd),
    "dkd": (lambda s, t, y: dkd_loss(s, t, y, temperature=2.0), plain_dkd),
    "nkd": (lambda s, t, y: nkd_loss(s, t, y, temperature=2.0), plain_nkd),
    "standardized_kd": (lambda s, t, y: standardized_kd_loss(s, t), plain_standardized),
}


@pytest.mark.parametrize("name", PAIRS)
def test_overhead(name, capsys):
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(4096, 1000, generator=generator, requires_grad=True)
    teacher = torch.randn(4096, 1000, generator=generator)
    labels = torch.randint(0, 1000, (4096,), generator=generator)
    ours, theirs = PAIRS[name]
    torch.testing.assert_close(
        ours(student, teacher, labels), theirs(student, teacher, labels), rtol=1e-5, atol=1e-5
    )

    def seconds(loss):
        student.grad = None
        start = time.process_time()
        loss(student, teacher, labels).backward()
        return time.process_time() - start

    ratios = []
    for turn in range(ROUNDS):
        pair = (ours, theirs) if turn % 2 else (theirs, ours)
        first, second = seconds(pair[0]), seconds(pair[1])
        ratios.append(first / second if turn % 2 else second / first)
    with capsys.disabled():
        print(f"\n{name} / plain torch: {median(ratios):.3f} ({min(ratios):.3f}-{max(ratios):.3f})")
    assert median(ratios) <= LIMIT
