import logging
import math

import pytest
import torch
from scipy.optimize import minimize_scalar
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multiclass_calibration_error,
)

from coefvq.evaluation.calibration import (
    confidence_and_outcome,
    expected_calibration_error,
    fit_temperature,
    reliability_bins,
)
from coefvq.evaluation.metrics import compute_metrics
from coefvq.types import TaskSpec

BINARY = TaskSpec("degraded", "binary", ("clean", "degraded"))
KINDS = TaskSpec("type", "multiclass", ("none", "blur", "noise"))
FAULTS = TaskSpec("faults", "multilabel", ("blur", "noise"))


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(11)


def test_bins_by_hand():
    confidence = torch.tensor([0.1, 0.2, 0.9, 1.0, 0.5])
    outcome = torch.tensor([False, True, True, True, False])
    bins = reliability_bins(confidence, outcome, bins=2)
    assert bins.edges == (0.0, 0.5, 1.0)
    assert bins.counts == (3, 2)  # a border belongs to the bin below it
    assert bins.confidence == pytest.approx((0.8 / 3, 0.95))
    assert bins.accuracy == pytest.approx((1 / 3, 1.0))
    assert bins.ece == pytest.approx((3 * abs(1 / 3 - 0.8 / 3) + 2 * 0.05) / 5)


def test_zero_and_one_have_bins_and_empty_bins_are_nan():
    bins = reliability_bins(torch.tensor([0.0, 1.0]), torch.tensor([False, True]), bins=4)
    assert bins.counts == (1, 0, 0, 1) and bins.ece == 0.0
    assert math.isnan(bins.accuracy[1])
    assert math.isnan(expected_calibration_error(torch.zeros(0), torch.zeros(0)))
    with pytest.raises(ValueError, match="0 bins"):
        reliability_bins(torch.zeros(1), torch.zeros(1), bins=0)


def test_ece_against_torchmetrics(generator):
    labels = torch.randint(0, 2, (500,), generator=generator)
    logits = 2 * torch.randn(500, generator=generator).double()
    theirs = binary_calibration_error(logits.sigmoid(), labels, n_bins=15)
    ours = compute_metrics(logits, labels, BINARY)["ece"]
    assert ours == pytest.approx(theirs.item(), abs=1e-6) and ours > 0.05
    labels = torch.randint(0, 3, (500,), generator=generator)
    logits = torch.randn(500, 3, generator=generator).double()
    theirs = multiclass_calibration_error(logits.softmax(-1), labels, 3, n_bins=15)
    assert compute_metrics(logits, labels, KINDS)["ece"] == pytest.approx(theirs.item(), abs=1e-6)


def test_multilabel_ece_does_not_let_labels_cancel():
    # One label over-, one underconfident by 0.4: pooled they would look perfect.
    p = torch.full((10, 2), 0.5, dtype=torch.float64)
    labels = torch.zeros(10, 2)
    labels[:1, 0], labels[:9, 1] = 1, 1
    assert compute_metrics(p.logit(), labels, FAULTS)["ece"] == pytest.approx(0.4)
    pooled = expected_calibration_error(*confidence_and_outcome(p.logit(), labels, FAULTS))
    assert pooled == pytest.approx(0.0)


def test_multiclass_confidence_is_the_top_class():
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    confidence, right = confidence_and_outcome(logits, torch.tensor([0, 2]), KINDS)
    assert confidence.tolist() == pytest.approx(
        [math.e**2 / (math.e**2 + 2), math.e / (math.e + 2)]
    )
    assert right.tolist() == [True, False]
    with pytest.raises(ValueError, match="no probabilities"):
        confidence_and_outcome(torch.zeros(2), torch.zeros(2), TaskSpec("q", "regression"))


@pytest.mark.parametrize("task", [BINARY, KINDS, FAULTS], ids=lambda task: task.kind)
def test_temperature_against_scipy(task, generator):
    shape = (400, task.num_outputs) if task.num_outputs > 1 else (400,)
    logits = 3 * torch.randn(shape, generator=generator).double()
    if task is KINDS:
        labels = torch.multinomial((logits / 2.5).softmax(-1), 1, generator=generator).squeeze(1)
    else:
        labels = torch.bernoulli((logits / 2.5).sigmoid(), generator=generator)

    def nll(temperature):
        z = logits / temperature
        if task is KINDS:
            return torch.nn.functional.cross_entropy(z, labels).item()
        return torch.nn.functional.binary_cross_entropy_with_logits(z, labels).item()

    best = minimize_scalar(nll, bounds=(0.1, 10), method="bounded", options={"xatol": 1e-8}).x
    ours = fit_temperature(logits, labels, task)
    assert ours == pytest.approx(best, rel=1e-4)
    assert 1.8 < ours < 3.5  # it was 2.5 by construction


def test_temperature_at_the_ends_warns(caplog):
    with caplog.at_level(logging.WARNING):
        assert fit_temperature(
            torch.tensor([-1.0, 1.0]), torch.tensor([0, 1]), BINARY
        ) == pytest.approx(0.01)
        assert "separate" in caplog.text
        opposite = fit_temperature(torch.tensor([-1.0, 1.0]), torch.tensor([1, 0]), BINARY)
        assert opposite == pytest.approx(100.0)
        assert "say nothing" in caplog.text


def test_temperature_needs_labels():
    with pytest.raises(ValueError, match="no labelled clip"):
        fit_temperature(torch.zeros(2), torch.zeros(2), BINARY, label_mask=torch.zeros(2) > 0)
