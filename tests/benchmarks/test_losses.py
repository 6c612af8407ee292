"""The losses against the plain torch lines that they replace.

    pytest -m benchmark -s tests/benchmarks/test_losses.py

B = 4096, C = 1000, forward and backward in eager mode, in turns in one process. Printed: ratios of
processor time, which a busy machine disturbs less than the time on the clock; their median must
stay below 1.10.
"""

import math
import time
from statistics import median

import pytest
import torch
from torch.nn import functional

from coefvq.losses import (
    confidence,
    cpfd_loss,
    dkd_loss,
    gatekeeper_loss,
    ha_pfd_loss,
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


def plain_cpfd_entropy(student, teacher, labels):
    q, p = student.log_softmax(-1), teacher.log_softmax(-1)
    trust = 1 + (teacher.softmax(-1) * teacher.log_softmax(-1)).sum(-1) / math.log(1000)
    soft = plain_kl(q, p, "none").sum(-1)
    return 0.5 * functional.cross_entropy(student, labels) + 0.5 * (trust * soft).mean()


def plain_ha_pfd(student, teacher, labels):
    q, p = student.log_softmax(-1), teacher.log_softmax(-1)
    hardness = 1 - q.detach().gather(-1, labels[:, None])[:, 0].exp()
    soft = plain_kl(q, p, "none").sum(-1)
    return functional.cross_entropy(student, labels) + (hardness * soft).mean()


def plain_gatekeeper(student, teacher, labels):
    q = student.log_softmax(-1)
    hard = functional.nll_loss(q, labels, reduction="none")
    undecided = math.log(1000) + (q.exp() * q).sum(-1)
    return torch.where(student.argmax(-1) == labels, 0.5 * hard, 0.5 * undecided).mean()


def several(labels):
    """(B, L) labels, about half of them set, from the class indices."""
    return ((labels[:, None] * torch.arange(1, 1001)) % 7 > 3).float()


def plain_bce(student, teacher, labels):
    return functional.binary_cross_entropy_with_logits(student, labels)


def pairs_of_logs(student, teacher):
    return (
        (functional.logsigmoid(x), functional.logsigmoid(-x)) for x in (student / 2, teacher / 2)
    )


def plain_labels_kl(student, teacher):
    (q, no_q), (p, no_p) = pairs_of_logs(student, teacher)
    return 4 * (p.exp() * (p - q) + no_p.exp() * (no_p - no_q))


def plain_labels_kd(student, teacher, labels):
    return plain_labels_kl(student, teacher).mean()


def plain_labels_reverse(student, teacher, labels):
    (q, no_q), (p, no_p) = pairs_of_logs(student, teacher)
    return 4 * (q.exp() * (q - p) + no_q.exp() * (no_q - no_p)).mean()


def plain_labels_jsd(student, teacher, labels):
    total = 0
    for q, p in zip(*pairs_of_logs(student, teacher), strict=True):
        m = ((q.exp() + p.exp()) / 2).log()
        total = total + 2 * (p.exp() * (p - m) + q.exp() * (q - m))
    return total.mean()


def plain_labels_pfd(student, teacher, labels):
    return 0.5 * plain_bce(student, teacher, labels) + 0.5 * plain_labels_kd(
        student, teacher, labels
    )


def plain_labels_cpfd(student, teacher, labels):
    p = teacher.sigmoid()
    trust = labels * p + (1 - labels) * (1 - p)
    soft = trust * plain_labels_kl(student, teacher)
    return 0.5 * plain_bce(student, teacher, labels) + 0.5 * soft.mean()


def plain_labels_gatekeeper(student, teacher, labels):
    hard = functional.binary_cross_entropy_with_logits(student, labels, reduction="none")
    q = student.sigmoid()
    undecided = math.log(2) + q * functional.logsigmoid(student)
    undecided = undecided + (1 - q) * functional.logsigmoid(-student)
    return torch.where((student > 0) == (labels > 0), 0.5 * hard, 0.5 * undecided).mean()


def classes(loss, **options):
    """Our loss of student, teacher and class indices."""
    return lambda s, t, y: loss(s, t, y, task="multiclass", **options)


def labelled(loss, **options):
    """Our multilabel loss of student, teacher and (B, L) labels."""
    return lambda s, t, y: loss(s, t, y, task="multilabel", **options)


def alone(loss, task="multiclass", **options):
    return lambda s, t, y: loss(s, y, task=task, **options)


def soft(task, direction):
    options = {"task": task, "temperature": 2.0, "direction": direction}
    return lambda s, t, y: logit_kd_loss(s, t, **options)


PAIRS = {
    "supervised": (
        alone(supervised_loss),
        lambda s, t, y: functional.cross_entropy(s, y),
    ),
    "supervised_smoothed": (
        alone(supervised_loss, label_smoothing=0.1),
        lambda s, t, y: functional.cross_entropy(s, y, label_smoothing=0.1),
    ),
    "logit_kd": (soft("multiclass", "forward"), plain_kd),
    "logit_kd_reverse": (soft("multiclass", "reverse"), plain_reverse),
    "logit_kd_jsd": (soft("multiclass", "jsd"), plain_jsd),
    "pfd": (classes(pfd_loss, temperature=2.0), plain_pfd),
    "cpfd": (classes(cpfd_loss, temperature=2.0), plain_cpfd),
    "cpfd_entropy": (
        classes(cpfd_loss, confidence=confidence.normalized_entropy),
        plain_cpfd_entropy,
    ),
    "ha_pfd": (classes(ha_pfd_loss), plain_ha_pfd),
    "dkd": (lambda s, t, y: dkd_loss(s, t, y, temperature=2.0), plain_dkd),
    "nkd": (lambda s, t, y: nkd_loss(s, t, y, temperature=2.0), plain_nkd),
    "standardized_kd": (lambda s, t, y: standardized_kd_loss(s, t), plain_standardized),
    "gatekeeper": (alone(gatekeeper_loss), plain_gatekeeper),
    "supervised_labels": (alone(supervised_loss, "multilabel"), plain_bce),
    "supervised_labels_weighted": (
        alone(supervised_loss, "multilabel", positive_weight=3.0),
        lambda s, t, y: functional.binary_cross_entropy_with_logits(
            s, y, pos_weight=torch.tensor(3.0)
        ),
    ),
    "logit_kd_labels": (soft("multilabel", "forward"), plain_labels_kd),
    "logit_kd_labels_reverse": (soft("multilabel", "reverse"), plain_labels_reverse),
    "logit_kd_labels_jsd": (soft("multilabel", "jsd"), plain_labels_jsd),
    "pfd_labels": (labelled(pfd_loss, temperature=2.0), plain_labels_pfd),
    "cpfd_labels": (labelled(cpfd_loss, temperature=2.0), plain_labels_cpfd),
    "gatekeeper_labels": (alone(gatekeeper_loss, "multilabel"), plain_labels_gatekeeper),
}


@pytest.mark.parametrize("name", PAIRS)
def test_overhead(name, capsys):
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(4096, 1000, generator=generator, requires_grad=True)
    teacher = torch.randn(4096, 1000, generator=generator)
    labels = torch.randint(0, 1000, (4096,), generator=generator)
    labels = several(labels) if "_labels" in name else labels
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
