import math

import pytest
import torch

from coefvq.teacher_supply.preflight import MIN_LABELS, Preflight, preflight
from coefvq.types import TaskSpec

BINARY = TaskSpec("degraded", "binary", ("clean", "degraded"))
MULTICLASS = TaskSpec("kind", "multiclass", ("a", "b", "c"))
MULTILABEL = TaskSpec("flaws", "multilabel", ("blur", "noise"))
REGRESSION = TaskSpec("quality", "regression")
TASKS = [BINARY, MULTICLASS, MULTILABEL, REGRESSION]


def made(task, skill, n=200, seed=0):
    """Logits that are noise and, `skill` times, the labels."""
    g = torch.Generator().manual_seed(seed)
    if task.kind == "multiclass":
        labels = torch.randint(3, (n,), generator=g)
        return torch.randn(n, 3, generator=g) + skill * torch.eye(3)[labels], labels
    shape = (n, 2) if task.kind == "multilabel" else (n,)
    labels = torch.randn(shape, generator=g)
    labels = labels if task.kind == "regression" else (labels > 0.3).float()
    return torch.randn(shape, generator=g) + skill * labels, labels


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.kind)
def test_a_teacher_that_knows_something_goes_on(task):
    result = preflight(*made(task, 2.0), task)
    assert result.verdict == "fine" and result.value > result.bar > result.chance
    assert result.metric == ("srcc" if task.kind == "regression" else "f1")
    result.check()


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.kind)
def test_a_teacher_that_says_one_thing_stops_the_run(task):
    logits, labels = made(task, 0.0)
    result = preflight(torch.zeros_like(logits), labels, task)
    assert result.verdict == "near chance"
    with pytest.raises(ValueError, match=r"chance; .*teacher\.preflight=false"):
        result.check()


@pytest.mark.parametrize("task", [BINARY, REGRESSION], ids=lambda t: t.kind)
def test_noise_passes_as_seldom_as_it_says(task):
    # One in twenty is let through by the rule; more than 3 of 10 has a chance of 1 in 1000.
    passed = sum(preflight(*made(task, 0.0, 60, s), task).verdict == "fine" for s in range(10))
    assert passed <= 3


def test_chance_is_what_shuffled_labels_give():
    # 37 of 100 positive: average precision of a random order is about its share, 0.37.
    labels = (torch.arange(100) < 37).float()
    logits = torch.randn(100, generator=torch.Generator().manual_seed(0)) + 3 * labels
    result = preflight(logits, labels, BINARY, metric="average_precision")
    assert result.chance == pytest.approx(0.37, abs=0.05)
    assert result.line().startswith("teacher  validation average precision 0.9")
    assert "(chance 0." in result.line()
    # The best F1 that a coin reaches is at least that of saying yes always: 2 p / (1 + p) = 0.54.
    assert preflight(logits, labels, BINARY).chance == pytest.approx(0.56, abs=0.03)


def test_a_teacher_worse_than_the_student_alone_stops_the_run():
    logits, labels = made(BINARY, 2.0)
    own = preflight(logits, labels, BINARY).value
    assert preflight(logits, labels, BINARY, baseline=own).verdict == "fine"
    worse = preflight(logits, labels, BINARY, baseline=own + 0.01)
    assert f"student without teacher {own + 0.01:.2f}" in worse.line()
    with pytest.raises(ValueError, match=r"below the 0\..*without a teacher.*preflight=false"):
        worse.check()
    assert preflight(logits, labels, BINARY, baseline=math.nan).verdict == "fine"


def test_too_few_labels_are_no_reason_to_stop():
    logits, labels = made(BINARY, 0.0, MIN_LABELS - 1)
    result = preflight(logits, labels, BINARY, baseline=0.99)
    assert result.verdict == "cannot tell"
    assert f"{MIN_LABELS - 1} labelled clips are too few" in result.line()
    result.check()


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.kind)
def test_what_cannot_be_measured_is_no_reason_to_stop(task):
    logits, labels = made(task, 1.0, 60)
    none = preflight(logits, labels, task, label_mask=torch.zeros(60, dtype=torch.bool))
    assert none.verdict == "cannot tell" and "undefined on 0 labelled clips" in none.line()
    none.check()
    same = preflight(logits, torch.zeros_like(labels), task)
    assert task.kind == "multiclass" or same.verdict == "cannot tell"


def test_masked_clips_are_not_read():
    logits, labels = made(BINARY, 2.0)
    spoilt = torch.cat([labels, torch.full((50,), math.nan)])
    mask = torch.arange(250) < 200
    result = preflight(torch.cat([logits, torch.zeros(50)]), spoilt, BINARY, label_mask=mask)
    assert result == preflight(logits, labels, BINARY)


def test_wrong_metrics_are_refused():
    logits, labels = made(BINARY, 2.0)
    with pytest.raises(ValueError, match="more is better, got 'ece'"):
        preflight(logits, labels, BINARY, metric="ece")
    with pytest.raises(ValueError, match="'srcc' is not one of f1"):
        preflight(logits, labels, BINARY, metric="srcc")


def test_the_line_without_a_chance_level():
    line = Preflight("f1", 0.5, math.nan, math.nan, 60).line()
    assert line == "teacher  validation f1 0.50; 60 labelled clips are too few to judge it by"
