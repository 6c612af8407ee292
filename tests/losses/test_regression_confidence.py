"""Confidences of a teacher of scores: closed forms, order, detached, refusals."""

import math

import pytest
import torch

from coefvq.losses.regression_confidence import (
    LabelCloseness,
    StdConfidence,
    agreement_std,
    level_entropy,
    level_spread,
    score_confidence,
    uniform,
)

SCORES = torch.zeros(3)
# Sure of one level; between two neighbours; between the best and the worst.
LEVELS = torch.tensor([[1.0, 0, 0, 0, 0], [0.5, 0.5, 0, 0, 0], [0.5, 0, 0, 0, 0.5]]).log()


def test_closed_forms():
    # Deviations 0, 1/8 and 1/2 of levels worth 1, 3/4, 1/2, 1/4, 0.
    torch.testing.assert_close(
        level_spread(SCORES, None, level_logits=LEVELS), torch.tensor([1.0, 0.75, 0.0])
    )
    # The entropy doesn't know that neighbours are near: log 2 of log 5 for both.
    rest = 1 - math.log(2) / math.log(5)
    torch.testing.assert_close(
        level_entropy(SCORES, None, level_logits=LEVELS), torch.tensor([1.0, rest, rest])
    )
    found = StdConfidence(2.0)(SCORES, None, score_std=torch.tensor([0.0, 2.0, 6.0]))
    torch.testing.assert_close(found, torch.tensor([1.0, 0.5, 0.1]))


def test_the_label_and_what_is_said_without_one():
    labels, mask = (
        torch.tensor([4.0, float("nan"), float("nan")]),
        torch.tensor([True, False, False]),
    )
    close = LabelCloseness(2.0, otherwise=level_spread)
    found = close(SCORES, labels, level_logits=LEVELS, label_mask=mask)
    torch.testing.assert_close(found, torch.tensor([0.2, 0.75, 0.0]))
    assert LabelCloseness(2.0)(SCORES, None).tolist() == [1.0, 1.0, 1.0]


def test_agreement_of_prompts_or_teachers():
    scores = torch.tensor([[1.0, 10.0], [1.0, 20.0], [1.0, 30.0]], requires_grad=True)
    found = agreement_std(scores)
    torch.testing.assert_close(found, torch.tensor([0.0, math.sqrt(200 / 3)]))
    assert not found.requires_grad
    with pytest.raises(ValueError, match="cannot disagree with itself"):
        agreement_std(scores[:1])
    wide = torch.tensor([[1.0, 1e8], [1.0, 1e8 + 3]], dtype=torch.float64)
    assert agreement_std(wide).tolist() == [0.0, 1.5] and agreement_std(wide).dtype == wide.dtype
    assert agreement_std(scores.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize(
    "function", [level_spread, level_entropy, uniform, StdConfidence(1.0), LabelCloseness(1.0)]
)
def test_values_are_shares_without_gradient(function):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(50, generator=generator, requires_grad=True)
    levels = (30 * torch.randn(50, 5, generator=generator)).requires_grad_()
    std = torch.rand(50, generator=generator).requires_grad_()
    found = function(scores, torch.zeros(50), level_logits=levels, score_std=std)
    assert found.shape == (50,) and not found.requires_grad
    assert ((found >= 0) & (found <= 1)).all()


def test_refusals():
    with pytest.raises(ValueError, match="level_logits, which it does not give"):
        level_spread(SCORES, None)
    with pytest.raises(ValueError, match="score_std, which it does not give"):
        StdConfidence(1.0)(SCORES, None)
    with pytest.raises(ValueError, match="level_logits have shape"):
        level_entropy(SCORES, None, level_logits=LEVELS[:2])
    for kind in (StdConfidence, LabelCloseness):
        with pytest.raises(ValueError, match="scale must be a finite number above 0"):
            kind(0.0)


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("score_std", math.nan, "score_std must be finite, got nan in row 1"),
        ("score_std", -2.0, r"score_std must be 0 or more, got -2\.0 in row 1; give standard dev"),
        ("scores", math.inf, "teacher_scores must be finite, got inf in row 1"),
    ],
)
def test_a_bad_number_is_named_by_what_it_is(place, value, words):
    given = {"scores": torch.zeros(3), "score_std": torch.ones(3)}
    given[place][1] = value
    confidence = uniform if place == "scores" else StdConfidence(1.0)
    with pytest.raises(ValueError, match=words):
        confidence(given["scores"], None, score_std=given["score_std"])
    with pytest.raises(ValueError, match=r"\(3,\) and score_std \(2,\); both"):
        StdConfidence(1.0)(torch.zeros(3), None, score_std=torch.ones(2))


def test_confidences_go_by_names():
    scores, labels = torch.tensor([40.0, 50.0]), torch.tensor([50.0, 50.0])
    far = score_confidence("closeness", scale=10.0)(scores, labels)
    assert far.tolist() == [0.5, 1.0]
    std = torch.tensor([0.0, 5.0])
    assert score_confidence("std", 5.0)(scores, None, score_std=std).tolist() == [1.0, 0.5]
    assert score_confidence("level_spread") is level_spread
    with pytest.raises(ValueError, match="confidence"):
        score_confidence("hope")
