import math

import pytest
import torch

from coefvq.evaluation.scores import (
    checked,
    checked_logits,
    decisions,
    one_against_rest,
    probabilities,
)
from coefvq.types import TaskSpec

BINARY = TaskSpec("degraded", "binary", ("clean", "degraded"))
KINDS = TaskSpec("type", "multiclass", ("none", "blur", "noise"))
FAULTS = TaskSpec("faults", "multilabel", ("blur", "noise"))
QUALITY = TaskSpec("quality", "regression")


def test_unlabelled_rows_are_dropped_before_their_label_is_read():
    labels = torch.tensor([1.0, math.nan, 7.0, 0.0])
    mask = torch.tensor([True, False, False, True])
    logits, kept = checked(torch.tensor([1.0, 2.0, 3.0, 4.0]), labels, BINARY, mask)
    assert logits.tolist() == [1.0, 4.0] and logits.dtype == torch.float64
    assert kept.tolist() == [1, 0] and kept.dtype == torch.int64


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_bad_logits_are_a_sentence_with_the_row(bad):
    with pytest.raises(ValueError, match=r"1 of 3 clips are NaN or infinite \(first at row 2\)"):
        checked_logits(torch.tensor([0.0, 1.0, bad]), BINARY)


@pytest.mark.parametrize(
    ("task", "logits", "labels", "said"),
    [
        (BINARY, torch.zeros(3, 1), torch.zeros(3), r"shape \(3, 1\).*expects \(N,\)"),
        (KINDS, torch.zeros(3, 4), torch.zeros(3), r"expects \(N, 3\)"),
        (KINDS, torch.zeros(3), torch.zeros(3), r"expects \(N, 3\)"),
        (BINARY, torch.zeros(3), torch.zeros(4), r"labels of shape \(4,\)"),
        (FAULTS, torch.zeros(3, 2), torch.zeros(3), r"expected \(3, 2\)"),
        (BINARY, torch.zeros(2), torch.tensor([0.0, 2.0]), "label 2.0 at row 1"),
        (BINARY, torch.zeros(2), torch.tensor([0.4, 1.0]), "label 0.4"),
        (BINARY, torch.zeros(2), torch.tensor([0.0, math.nan]), "label nan at row 1"),
        (KINDS, torch.zeros(2, 3), torch.tensor([0, 3]), "from 0 to 2"),
        (KINDS, torch.zeros(2, 3), torch.tensor([-1, 2]), "label -1.0 at row 0"),
        (FAULTS, torch.zeros(2, 2), torch.tensor([[0, 1], [2, 0]]), r"label \[2.0, 0.0\] at row 1"),
        (QUALITY, torch.zeros(2), torch.tensor([0.0, math.inf]), "finite numbers"),
    ],
)
def test_what_does_not_fit_the_task_is_a_sentence(task, logits, labels, said):
    with pytest.raises(ValueError, match=said):
        checked(logits, labels, task)


def test_a_mask_of_another_length_is_a_sentence():
    with pytest.raises(ValueError, match=r"label_mask of shape \(2,\)"):
        checked(torch.zeros(3), torch.zeros(3), BINARY, torch.tensor([True, False]))


def test_probabilities_are_float64_and_keep_confident_logits_apart():
    p = probabilities(checked_logits(torch.tensor([20.0, 25.0]), BINARY), BINARY)
    assert p[0] < p[1] < 1  # in float32 both are exactly 1
    torch.testing.assert_close(
        probabilities(torch.zeros(1, 3), KINDS).sum(-1), torch.ones(1), rtol=0, atol=1e-7
    )
    with pytest.raises(ValueError, match="no probabilities"):
        probabilities(torch.zeros(2), QUALITY)


def test_decisions_hold_at_the_threshold_itself():
    p = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    assert decisions(p, BINARY).tolist() == [0, 1, 1]
    assert decisions(p, BINARY, 0.8).tolist() == [0, 0, 1]
    several = torch.tensor([[0.3, 0.3]], dtype=torch.float64)
    assert decisions(several, FAULTS, [0.2, 0.4]).tolist() == [[1, 0]]
    assert decisions(torch.tensor([[0.1, 0.7, 0.2]]), KINDS).tolist() == [1]


@pytest.mark.parametrize(
    ("task", "threshold", "said"),
    [
        (BINARY, 1.5, "outside"),
        (BINARY, math.nan, "outside"),
        (BINARY, [0.5], "expected one number"),
        (FAULTS, [0.5, 0.5, 0.5], "expected one, or 2"),
        (KINDS, 0.5, "argmax"),
    ],
)
def test_bad_thresholds_are_sentences(task, threshold, said):
    shape = (2, task.num_outputs) if task.num_outputs > 1 else (2,)
    with pytest.raises(ValueError, match=said):
        decisions(torch.full(shape, 0.5, dtype=torch.float64), task, threshold)


def test_one_against_rest_names_its_columns():
    p, labels = torch.rand(4, 3), torch.tensor([0, 1, 2, 1])
    columns = one_against_rest(p, labels, KINDS)
    assert [name for name, _, _ in columns] == ["none", "blur", "noise"]
    assert columns[1][2].tolist() == [False, True, False, True]
    assert torch.equal(columns[2][1], p[:, 2])
    [(name, _, truth)] = one_against_rest(p[:, 0], torch.tensor([0, 1, 1, 0]), BINARY)
    assert name == "degraded" and truth.tolist() == [False, True, True, False]
