import math
import warnings

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sk

from coefvq.evaluation.metrics import (
    compute_metrics,
    fit_notes,
    higher_is_better,
    primary_metric,
    undefined_notes,
)
from coefvq.types import TaskSpec

BINARY = TaskSpec("degraded", "binary", ("clean", "degraded"))
KINDS = TaskSpec("type", "multiclass", ("none", "blur", "noise", "freeze"))
FAULTS = TaskSpec("faults", "multilabel", ("blur", "noise", "freeze"))
QUALITY = TaskSpec("quality", "regression")


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(7)


def recall_at_80(truth, score):
    precision, recall, _ = sk.precision_recall_curve(truth, score)
    return recall[precision >= 0.8].max()


def test_binary_against_scikit_learn(generator):
    labels = (torch.rand(300, generator=generator) < 0.3).float()
    logits = 1.5 * labels + torch.randn(300, generator=generator)
    ours = compute_metrics(logits, labels, BINARY, threshold=0.6)
    y, p = labels.numpy(), logits.double().sigmoid().numpy()
    assert ours["average_precision"] == pytest.approx(sk.average_precision_score(y, p), abs=1e-6)
    assert ours["auroc"] == pytest.approx(sk.roc_auc_score(y, p), abs=1e-6)
    assert ours["f1"] == pytest.approx(sk.f1_score(y, p >= 0.6), abs=1e-6)
    assert ours["accuracy"] == pytest.approx(sk.accuracy_score(y, p >= 0.6))
    assert ours["recall_at_precision_80"] == pytest.approx(recall_at_80(y, p), abs=1e-6)
    assert 0 < ours["recall_at_precision_80"] < 1
    assert ours["prevalence"] == pytest.approx(y.mean()) and ours["n"] == 300


def test_multiclass_against_scikit_learn(generator):
    labels = torch.randint(0, 4, (300,), generator=generator)
    logits = torch.randn(300, 4, generator=generator) + torch.nn.functional.one_hot(labels, 4)
    ours = compute_metrics(logits, labels, KINDS)
    y, p = labels.numpy(), logits.double().softmax(-1).numpy()
    one_hot = np.eye(4)[y]
    assert ours["average_precision"] == pytest.approx(
        sk.average_precision_score(one_hot, p, average="macro"), abs=1e-6
    )
    assert ours["auroc"] == pytest.approx(sk.roc_auc_score(y, p, multi_class="ovr"), abs=1e-6)
    assert ours["f1"] == pytest.approx(sk.f1_score(y, p.argmax(1), average="macro"), abs=1e-6)
    assert ours["accuracy"] == pytest.approx(sk.accuracy_score(y, p.argmax(1)))
    assert ours["recall_at_precision_80"] == pytest.approx(
        np.mean([recall_at_80(one_hot[:, k], p[:, k]) for k in range(4)]), abs=1e-6
    )


def test_multilabel_against_scikit_learn(generator):
    labels = (torch.rand(300, 3, generator=generator) < 0.4).float()
    logits = labels + torch.randn(300, 3, generator=generator)
    cut = [0.3, 0.5, 0.7]
    ours = compute_metrics(logits, labels, FAULTS, threshold=cut)
    y, p = labels.numpy(), logits.double().sigmoid().numpy()
    assert ours["average_precision"] == pytest.approx(sk.average_precision_score(y, p), abs=1e-6)
    assert ours["auroc"] == pytest.approx(sk.roc_auc_score(y, p), abs=1e-6)
    assert ours["f1"] == pytest.approx(sk.f1_score(y, p >= cut, average="macro"), abs=1e-6)
    assert ours["accuracy"] == pytest.approx(np.mean(y == (p >= cut)))


def test_regression_against_scipy(generator):
    labels = torch.randn(80, generator=generator).round(decimals=1)  # with ties
    scores = labels + torch.randn(80, generator=generator)
    ours = compute_metrics(scores, labels, QUALITY)
    y, s = labels.double().numpy(), scores.double().numpy()
    assert ours["srcc"] == pytest.approx(stats.spearmanr(s, y).statistic, abs=1e-6)
    assert ours["plcc_raw"] == pytest.approx(stats.pearsonr(s, y).statistic, abs=1e-6)
    assert ours["krcc"] == pytest.approx(stats.kendalltau(s, y).statistic, abs=1e-6)
    assert ours["rmse_raw"] == pytest.approx(math.sqrt(np.mean((s - y) ** 2)), abs=1e-6)
    assert ours["logistic_fit"] == 1 and ours["plcc"] >= ours["plcc_raw"] - 1e-9
    assert ours["rmse"] < ours["rmse_raw"]
    assert "level_accuracy" in compute_metrics(
        scores, labels, TaskSpec("quality", "regression", label_range=(-4.0, 4.0))
    )


def test_a_logistic_that_was_not_fitted_is_said():
    scores, labels = torch.arange(20.0), torch.arange(20.0)
    assert fit_notes(scores, labels, QUALITY) == []
    assert "upside down" in fit_notes(-scores, labels, QUALITY)[0]
    assert fit_notes(scores, labels % 2, BINARY) == []


def test_by_hand():
    # Sorted by score: 1 0 1 1 0, threshold 0.5 keeps the first four.
    labels = torch.tensor([1, 0, 1, 1, 0])
    logits = torch.tensor([4.0, 3.0, 2.0, 1.0, -1.0])
    ours = compute_metrics(logits, labels, BINARY)
    assert ours["f1"] == pytest.approx(2 * 3 / (4 + 3))
    assert ours["accuracy"] == pytest.approx(4 / 5)
    assert ours["average_precision"] == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert ours["auroc"] == pytest.approx(4 / 6)
    assert ours["recall_at_precision_80"] == pytest.approx(1 / 3)


def test_logits_that_look_like_probabilities_are_still_logits():
    # torchmetrics would take scores within [0, 1] for probabilities: 0.4 would decide "no".
    ours = compute_metrics(torch.tensor([0.4, 0.2]), torch.tensor([1, 1]), BINARY)
    assert ours["accuracy"] == 1.0


def test_confident_logits_do_not_become_ties():
    ours = compute_metrics(torch.tensor([20.0, 25.0]), torch.tensor([0, 1]), BINARY)
    assert ours["auroc"] == 1.0


def test_huge_logits_stay_finite():
    labels = torch.tensor([0, 1, 0, 1])
    ours = compute_metrics(torch.tensor([-1e4, 1e4, 1e4, -1e4]), labels, BINARY)
    assert all(math.isfinite(value) for value in ours.values())


def test_order_of_clips_and_masked_rows_do_not_matter(generator):
    labels = (torch.rand(60, generator=generator) < 0.4).float()
    logits = labels + torch.randn(60, generator=generator)
    whole = compute_metrics(logits, labels, BINARY)
    order = torch.randperm(60, generator=generator)
    assert compute_metrics(logits[order], labels[order], BINARY) == pytest.approx(whole)
    padded = compute_metrics(
        torch.cat([logits, torch.full((9,), 5.0)]),
        torch.cat([labels, torch.full((9,), math.nan)]),
        BINARY,
        label_mask=torch.arange(69) < 60,
    )
    assert padded == whole


@pytest.mark.parametrize(
    ("labels", "undefined", "said"),
    [
        (torch.zeros(6), {"f1", "auroc", "average_precision", "recall_at_precision_80"}, "no clip"),
        (torch.ones(6), {"auroc", "average_precision", "recall_at_precision_80"}, "every clip"),
    ],
)
def test_one_class_is_undefined_with_a_reason(labels, undefined, said):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = compute_metrics(torch.linspace(-1, 1, 6), labels, BINARY)
    assert {name for name, value in ours.items() if math.isnan(value)} == undefined
    [note] = undefined_notes(labels, BINARY)
    assert said in note and "'degraded'" in note and all(name in note for name in undefined)


def test_positives_that_nobody_finds_are_a_real_zero():
    ours = compute_metrics(torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([0, 0, 1]), BINARY)
    assert ours["f1"] == 0.0


def test_absent_classes_are_left_out_of_the_mean_and_named():
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    logits = torch.nn.functional.one_hot(labels, 4) * 3.0
    ours = compute_metrics(logits, labels, KINDS)
    assert ours["f1"] == ours["average_precision"] == ours["auroc"] == 1.0
    notes = undefined_notes(labels, KINDS)
    assert len(notes) == 2 and "'noise'" in notes[0] and "'freeze'" in notes[1]
    faults = torch.tensor([[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    ours = compute_metrics(faults * 4 - 2, faults, FAULTS)
    assert ours["f1"] == 1.0 and ours["auroc"] == 1.0
    assert len(undefined_notes(faults, FAULTS)) == 2


@pytest.mark.parametrize("task", [BINARY, KINDS, FAULTS, QUALITY], ids=lambda task: task.kind)
def test_no_labelled_clip_is_all_undefined(task):
    shape = (3, task.num_outputs) if task.num_outputs > 1 else (3,)
    labels = torch.zeros(shape if task.kind == "multilabel" else 3)
    nobody = torch.zeros(3, dtype=torch.bool)
    ours = compute_metrics(torch.zeros(shape), labels, task, label_mask=nobody)
    assert ours.pop("n") == 0
    assert all(math.isnan(value) for value in ours.values())
    assert "no labelled clip" in undefined_notes(labels, task, label_mask=nobody)[0]


def test_constant_scores_have_no_correlation():
    ours = compute_metrics(torch.ones(4), torch.arange(4.0), QUALITY)
    assert math.isnan(ours["srcc"]) and math.isnan(ours["plcc"]) and ours["rmse"] > 0
    assert "srcc" in undefined_notes(torch.ones(4), QUALITY)[0]
    assert undefined_notes(torch.arange(4.0), QUALITY) == []


def test_nan_logits_are_a_sentence():
    with pytest.raises(ValueError, match="NaN or infinite"):
        compute_metrics(torch.tensor([0.0, math.nan]), torch.tensor([0, 1]), BINARY)


def test_primary_metric_and_direction():
    assert primary_metric(BINARY) == primary_metric(KINDS) == primary_metric(FAULTS) == "f1"
    assert primary_metric(QUALITY) == "srcc"
    assert higher_is_better("f1") and not higher_is_better("ece")
