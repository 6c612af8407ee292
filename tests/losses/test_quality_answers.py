"""Losses on answers: closed forms, two-hot targets, masks, limits, error sentences."""

import math
from types import SimpleNamespace

import pytest
import torch

from coefvq.losses.quality_answers import LevelAnswerLoss, NumberAnswerLoss, answer_loss

LEVELS = [100.0, 75.0, 50.0, 25.0, 0.0]
UNEVEN = [1.0, 2.0, 5.0]


def draw(batch=6, answers=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, answers, generator=generator, dtype=torch.float64) * 2
    return logits, torch.rand(batch, generator=generator, dtype=torch.float64)


def reference(logits, labels, values, target, mask=None, weight=None):
    """Plain loops; returns the per-sample values and the mean."""
    rows, total, count = [], 0.0, 0.0
    for i, (row, label) in enumerate(zip(logits, labels, strict=True)):
        if mask is not None and not mask[i]:
            rows.append(0.0)
            continue
        norm = math.log(sum(math.exp(z) for z in row))
        if target == "nearest":
            gaps = [abs(label - v) for v in values]
            shares = [float(k == gaps.index(min(gaps))) for k in range(len(values))]
        else:
            shares = [0.0] * len(values)
            for k in range(len(values) - 1):
                a, b = values[k], values[k + 1]
                if min(a, b) <= label <= max(a, b):
                    shares = [0.0] * len(values)
                    shares[k], shares[k + 1] = (b - label) / (b - a), (label - a) / (b - a)
        w = 1.0 if weight is None else weight[i]
        rows.append(w * sum(-t * (z - norm) for t, z in zip(shares, row, strict=True)))
        total, count = total + rows[-1], count + w
    return rows, total / count


def test_closed_form():
    # 90 is three fifths of the way from 75 to 100: −.6 log p[excellent] − .4 log p[good].
    p = torch.tensor([[0.4, 0.3, 0.1, 0.1, 0.1]])
    want = -0.6 * math.log(0.4) - 0.4 * math.log(0.3)
    assert answer_loss(p.log(), torch.tensor([90.0]), LEVELS).item() == pytest.approx(want)
    near = answer_loss(p.log(), torch.tensor([90.0]), LEVELS, target="nearest")
    assert near.item() == pytest.approx(-math.log(0.4))


@pytest.mark.parametrize("target", ["linear", "nearest"])
@pytest.mark.parametrize("values", [LEVELS, LEVELS[::-1], UNEVEN], ids=["fall", "rise", "uneven"])
@pytest.mark.parametrize("missing", [False, True])
def test_equals_plain_loops(target, values, missing):
    logits, share = draw(answers=len(values))
    labels = min(values) + share * (max(values) - min(values))
    labels[0], labels[1] = values[0], values[-1]
    mask = torch.tensor([True, True, False, True, False, True]) if missing else None
    weight = torch.tensor([1.0, 0.5, 2.0, 0.0, 1.0, 3.0], dtype=torch.float64)
    given = labels.clone()
    if missing:
        given[~mask] = torch.nan
    rows, mean = reference(logits.tolist(), labels.tolist(), values, target, mask, weight.tolist())
    options = {"target": target, "label_mask": mask, "sample_weight": weight}
    found = answer_loss(logits, given, values, reduction="none", **options)
    torch.testing.assert_close(found, torch.tensor(rows, dtype=torch.float64))
    assert answer_loss(logits, given, values, **options).item() == pytest.approx(mean)
    total = answer_loss(logits, given, values, reduction="sum", **options)
    assert total.item() == pytest.approx(sum(rows))


def test_linear_targets_keep_the_label():
    # The minimum is at the target, whose expectation is the label itself.
    labels = torch.linspace(0, 100, 41, dtype=torch.float64)
    logits = torch.zeros(41, 5, dtype=torch.float64, requires_grad=True)
    answer_loss(logits, labels, LEVELS, reduction="sum").backward()
    target = 1 / 5 - logits.grad
    torch.testing.assert_close(target @ torch.tensor(LEVELS, dtype=torch.float64), labels)


def test_limits():
    sure = torch.tensor([[-1e4, 1e4, -1e4]])
    assert answer_loss(sure, torch.tensor([2.0]), UNEVEN).item() == 0.0
    assert answer_loss(sure, torch.tensor([5.0]), UNEVEN).isfinite()
    assert answer_loss(sure, None, UNEVEN).item() == 0.0
    half = answer_loss(sure.bfloat16() / 1e4, torch.tensor([2.0]), UNEVEN)
    torch.testing.assert_close(half, answer_loss(sure / 1e4, torch.tensor([2.0]), UNEVEN))


def test_gradcheck_and_batch_invariance():
    logits, share = draw()
    labels = 100 * share
    assert torch.autograd.gradcheck(
        lambda z: answer_loss(z, labels, LEVELS), logits.clone().requires_grad_()
    )
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    rows = answer_loss(logits, labels, LEVELS, reduction="none")
    assert torch.equal(
        rows[order], answer_loss(logits[order], labels[order], LEVELS, reduction="none")
    )
    parts = [
        answer_loss(logits[a:b], labels[a:b], LEVELS, reduction="sum") for a, b in ((0, 2), (2, 6))
    ]
    torch.testing.assert_close(sum(parts), rows.sum())


def test_modules_equal_the_function_and_pick_their_fields():
    logits, share = draw()
    labels = 1 + 4 * share
    numbers = torch.randn(6, 101, dtype=torch.float64)
    student = SimpleNamespace(logits=labels, level_logits=logits, number_logits=numbers)
    batch = SimpleNamespace(labels=labels, label_mask=None, sample_weight=None)
    level, number = LevelAnswerLoss(1.0, 5.0), NumberAnswerLoss(1.0, 5.0)
    want = answer_loss(logits, labels, [5.0, 4.0, 3.0, 2.0, 1.0])
    torch.testing.assert_close(level(**level.select(student, None, batch)), want)
    values = 1 + 4 * torch.arange(101, dtype=torch.float64) / 100
    want = answer_loss(numbers, labels, values, target="nearest")
    torch.testing.assert_close(number(**number.select(student, None, batch)), want)
    silent = SimpleNamespace(logits=labels, level_logits=None)
    for loss, name in ((level, "level_logits"), (number, "number_logits")):
        with pytest.raises(ValueError, match=f"answers without {name}"):
            loss.select(silent, None, batch)


def test_error_sentences():
    logits, labels = torch.zeros(2, 3), torch.tensor([1.0, 6.0])
    with pytest.raises(ValueError, match=r"label 6.0 in row 1 is outside the answers.* 1 to 5"):
        answer_loss(logits, labels, UNEVEN)
    with pytest.raises(ValueError, match="values must rise or fall"):
        answer_loss(logits, labels, [1.0, 5.0, 2.0])
    with pytest.raises(ValueError, match="give one value per answer"):
        answer_loss(logits, labels, LEVELS)
    with pytest.raises(ValueError, match="target 'soft' is unknown"):
        answer_loss(logits, labels, UNEVEN, target="soft")
    with pytest.raises(ValueError, match="reduction 'max' is unknown"):
        LevelAnswerLoss(0.0, 1.0, reduction="max")
    with pytest.raises(ValueError, match="low must be below high"):
        NumberAnswerLoss(5.0, 1.0)
