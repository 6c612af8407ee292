import logging

import pytest
import torch
from sklearn.metrics import f1_score

from coefvq.evaluation.metrics import compute_metrics
from coefvq.evaluation.threshold import choose_threshold
from coefvq.types import TaskSpec

BINARY = TaskSpec("degraded", "binary", ("clean", "degraded"))
FAULTS = TaskSpec("faults", "multilabel", ("blur", "noise"))


def logit(*p):
    return torch.tensor(p, dtype=torch.float64).logit()


@pytest.mark.parametrize("seed", range(5))
def test_no_other_cut_is_better(seed):
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(120, generator=generator) < 0.25).float()
    # Rounded, so that several clips share a score.
    logits = (labels + torch.randn(120, generator=generator)).round(decimals=1)
    chosen = choose_threshold(logits, labels, BINARY)
    p = logits.double().sigmoid()
    best = max(f1_score(labels, p >= cut) for cut in p.tolist())
    assert f1_score(labels, p >= chosen) == pytest.approx(best)
    assert compute_metrics(logits, labels, BINARY, threshold=chosen)["f1"] == pytest.approx(best)
    assert chosen not in p.tolist()


def test_the_cut_lies_half_way():
    chosen = choose_threshold(logit(0.1, 0.2, 0.6, 0.9), torch.tensor([0, 0, 1, 1]), BINARY)
    assert chosen == pytest.approx(0.4)


def test_of_equal_cuts_the_one_nearest_to_a_half():
    # Keeping one of the scores (cut .5): F1 2·1/(1+3) = .5; two: .4; three (cut .25): 2/3; four
    # (cut .15): 4/7; all five (cut .05): 6/8. A plain maximum, no tie.
    labels = torch.tensor([1, 0, 1, 0, 1])
    assert choose_threshold(logit(0.6, 0.4, 0.3, 0.2, 0.1), labels, BINARY) == pytest.approx(0.05)
    # The cut .75 keeps one of two positives: 2/3; the cut .15 keeps all four: 4/6. A tie.
    labels = torch.tensor([1, 0, 0, 1])
    assert choose_threshold(logit(0.8, 0.7, 0.3, 0.3), labels, BINARY) == pytest.approx(0.75)
    # Cut .625 keeps one of two positives: 2/3; cut .375 keeps four with both: 4/6. As near: higher.
    labels = torch.tensor([1, 0, 0, 1, 0])
    assert choose_threshold(logit(0.75, 0.5, 0.5, 0.5, 0.25), labels, BINARY) == pytest.approx(
        0.625
    )


def test_neighbouring_floats_are_cut_apart():
    low = torch.tensor([0.0], dtype=torch.float64)
    high = low + 1e-15
    labels = torch.tensor([0, 1])
    logits = torch.cat([low, high])
    chosen = choose_threshold(logits, labels, BINARY)
    assert compute_metrics(logits, labels, BINARY, threshold=chosen)["f1"] == 1.0


def test_probability_zero_can_be_included():
    logits = torch.tensor([-1e4, 3.0, 3.0])
    chosen = choose_threshold(logits, torch.tensor([1, 1, 0]), BINARY)
    assert compute_metrics(logits, torch.tensor([1, 1, 0]), BINARY, threshold=chosen)[
        "f1"
    ] == pytest.approx(0.8)


@pytest.mark.parametrize(("labels", "word"), [(torch.zeros(4), "none"), (torch.ones(4), "every")])
def test_one_class_gives_a_half_and_a_warning(labels, word, caplog):
    with caplog.at_level(logging.WARNING):
        assert choose_threshold(torch.randn(4), labels, BINARY) == 0.5
    assert word in caplog.text and "'degraded'" in caplog.text


def test_each_label_has_its_own(caplog):
    logits = torch.stack([logit(0.1, 0.2, 0.6, 0.9), logit(0.8, 0.7, 0.1, 0.2)], dim=1)
    labels = torch.tensor([[0, 1], [0, 1], [1, 0], [1, 0]])
    assert choose_threshold(logits, labels, FAULTS) == pytest.approx([0.4, 0.45])
    labels[:, 1] = 0
    assert choose_threshold(logits, labels, FAULTS) == pytest.approx([0.4, 0.5])
    assert "'noise'" in caplog.text


def test_masked_rows_have_no_say():
    logits, labels = logit(0.1, 0.2, 0.6, 0.9), torch.tensor([0, 0, 1, 1])
    mask = torch.tensor([True, True, False, True])
    assert choose_threshold(logits, labels, BINARY, label_mask=mask) == pytest.approx(0.55)


def test_tasks_without_threshold():
    kinds = TaskSpec("type", "multiclass", ("a", "b"))
    assert choose_threshold(torch.zeros(2, 2), torch.tensor([0, 1]), kinds) is None
    assert choose_threshold(torch.zeros(2), torch.zeros(2), TaskSpec("q", "regression")) is None
