"""CPFD on scores: becomes PFD, follows the confidence, loops, invariances, error sentences."""

from types import SimpleNamespace

import pytest
import torch

from coefvq.losses import score_kd_loss
from coefvq.losses.regression_confidence import level_spread, uniform
from coefvq.losses.score_cpfd import ScoreCPFDLoss, score_cpfd_loss


def draw(batch=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    z, t, y = (3 * torch.randn(batch, generator=generator, dtype=torch.float64) for _ in range(3))
    return z, t, y, torch.rand(batch, generator=generator, dtype=torch.float64)


def distance(a, b, beta):
    gap = abs(a - b)
    return gap * gap / (2 * beta) if gap < beta else gap - beta / 2


@pytest.mark.parametrize("hard_weight", ["fixed", "complement"])
@pytest.mark.parametrize("missing", [False, True])
def test_equals_plain_loops(hard_weight, missing):
    z, t, y, c = draw()
    mask = [True, False, True, True, False, True] if missing else [True] * 6
    weight, lam, beta = [1.0, 2.0, 0.5, 0.0, 1.0, 1.0], 0.3, 2.0
    hard = soft = 0.0
    for i in range(6):
        share = 1 - lam if hard_weight == "fixed" else 1 - lam * c[i].item()
        hard += mask[i] * weight[i] * share * distance(z[i].item(), y[i].item(), beta)
        soft += weight[i] * lam * c[i].item() * distance(z[i].item(), t[i].item(), beta)
    want = hard / sum(m * w for m, w in zip(mask, weight, strict=True)) + soft / sum(weight)
    label_mask = torch.tensor(mask)
    found = score_cpfd_loss(
        z, t, torch.where(label_mask, y, torch.nan), c, distill_weight=lam, beta=beta,
        hard_weight=hard_weight, label_mask=label_mask,
        sample_weight=torch.tensor(weight, dtype=torch.float64),
    )  # fmt: skip
    assert found.item() == pytest.approx(want)


def test_limits():
    z, t, y, c = draw()
    for hard_weight in ("fixed", "complement"):
        sure = score_cpfd_loss(z, t, y, torch.ones(6), hard_weight=hard_weight)
        assert torch.equal(sure, score_cpfd_loss(z, t, y))
    assert torch.equal(score_cpfd_loss(z, t, y, c, distill_weight=0.0), score_kd_loss(z, y))
    assert torch.equal(score_cpfd_loss(z, t, None, distill_weight=1.0), score_kd_loss(z, t))
    assert score_cpfd_loss(z, z, z, c).item() == 0.0
    nobody = score_cpfd_loss(z, t, y, torch.zeros(6), hard_weight="complement")
    assert torch.equal(nobody, score_kd_loss(z, y))


def test_gradients():
    z, t, y, c = draw()
    t, c = t.requires_grad_(), c.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s: score_cpfd_loss(s, t, y, c), z.clone().requires_grad_()
    )
    score_cpfd_loss(z.requires_grad_(), t, y, c).backward()
    assert t.grad is None and c.grad is None
    rows = score_cpfd_loss(z, t, y, c, reduction="none")
    order = torch.tensor([5, 4, 3, 2, 1, 0])
    swapped = score_cpfd_loss(z[order], t[order], y[order], c[order], reduction="none")
    assert torch.equal(rows[order], swapped)
    assert score_cpfd_loss(z.bfloat16(), t, y, c).dtype == torch.float32


def test_the_module_makes_the_confidence():
    z, t, y, _ = draw()
    levels = torch.randn(6, 5, dtype=torch.float64)
    teacher = SimpleNamespace(logits=t, level_logits=levels, score_std=None)
    batch = SimpleNamespace(labels=y, label_mask=None, sample_weight=None)
    student = SimpleNamespace(logits=z)
    loss = ScoreCPFDLoss(beta=3.0)
    want = score_cpfd_loss(z, t, y, level_spread(t, y, level_logits=levels), beta=3.0)
    assert torch.equal(loss(**loss.select(student, teacher, batch)), want)
    plain, even = ScoreCPFDLoss(confidence=None), ScoreCPFDLoss(confidence=uniform)
    picked = plain.select(student, teacher, batch)
    assert torch.equal(plain(**picked), even(**picked))
    with pytest.raises(ValueError, match="ScoreCPFDLoss needs a teacher"):
        loss.select(student, None, batch)


def test_error_sentences():
    z, t, y, c = draw()
    with pytest.raises(ValueError, match="return one number per sample"):
        score_cpfd_loss(z, t, y, c[:2])
    with pytest.raises(ValueError, match=r"distill_weight must be a number in \[0, 1\]"):
        score_cpfd_loss(z, t, y, distill_weight=1.5)
    with pytest.raises(ValueError, match="hard_weight 'none' is unknown"):
        ScoreCPFDLoss(hard_weight="none")
    with pytest.raises(ValueError, match="beta must be a finite number above 0"):
        ScoreCPFDLoss(beta=0.0)


def test_a_confidence_that_is_none_is_refused_as_in_cpfd():
    z, t, y, c = draw()
    for bad in (-c - 1, torch.full_like(c, torch.nan)):
        with pytest.raises(ValueError, match="a confidence must be finite and not negative"):
            score_cpfd_loss(z, t, y, bad)
    with pytest.raises(ValueError, match="what the confidence function returns must be a tensor"):
        score_cpfd_loss(z, t, y, c.tolist())
