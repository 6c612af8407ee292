import json
import math

import numpy as np
import pytest
import torch

from coefvq.cascade.cost import Cost
from coefvq.cascade.curves import (
    BUDGETS,
    aurc,
    deferral_curve,
    normalised_area,
    system_metrics,
)
from coefvq.cascade.gates import entropy
from coefvq.evaluation.metrics import compute_metrics
from coefvq.types import TaskSpec


def test_the_curve_starts_at_the_light_model_and_ends_at_the_heavy(rare):
    c = rare(5000, prevalence=0.2)
    u = entropy(c.light, "binary")
    cost = Cost(0.01, 1.0, 0.05)
    points = deferral_curve(u, c.light, c.heavy, c.labels, task="binary", cost=cost)
    assert [p.budget for p in points] == list(BUDGETS)
    spec = TaskSpec("t", "binary", ("no", "yes"))
    for point, scores in ((points[0], c.light), (points[-1], c.heavy)):
        theirs = compute_metrics(torch.tensor(scores), torch.tensor(c.labels), spec)
        assert point.metrics == theirs
    seconds = [p.seconds_per_1000 for p in points]
    assert seconds == sorted(seconds) and len(set(seconds)) == len(seconds)
    accuracy = [p.metrics["accuracy"] for p in points]
    assert accuracy[0] < accuracy[3] < accuracy[6]
    assert all(abs(p.deferred - p.budget) < 1e-3 for p in points)
    json.dumps([p.to_dict() for p in points], allow_nan=False)


def test_undefined_metrics_are_null():
    points = deferral_curve([0.1, 0.2], [0.0, 1.0], [0.0, 1.0], [0, 0], task="binary",
                            budgets=(0.5,))  # fmt: skip
    assert points[0].to_dict()["metrics"]["average_precision"] is None


def test_decision_thresholds_per_budget(rare):
    c = rare(2000, prevalence=0.2)
    u = entropy(c.light, "binary")
    points = deferral_curve(u, c.light, c.heavy, c.labels, task="binary", budgets=(0, 1),
                            decision_thresholds=(0.9, 0.1))  # fmt: skip
    assert points[0].metrics["f1"] == system_metrics(c.light, c.labels, "binary", 0.9)["f1"]
    assert points[1].metrics["f1"] == system_metrics(c.heavy, c.labels, "binary", 0.1)["f1"]


def test_area_is_1_for_the_oracle_0_for_chance_and_negative_for_the_reverse(rare):
    c = rare(3000, prevalence=0.3)
    right = [(z > 0) == (c.labels == 1) for z in (c.light, c.heavy)]
    gain = right[1].astype(float) - right[0]

    def area(u):
        return normalised_area(u, c.light, c.heavy, c.labels, task="binary")

    assert area(gain) == pytest.approx(1)
    assert area(-gain) < -0.9
    draw = np.random.default_rng(0)
    chance = [area(draw.random(3000)) for _ in range(20)]
    assert abs(np.mean(chance)) < 0.05
    assert 0.3 < area(entropy(c.light, "binary")) < 1


def test_area_of_another_metric(rare):
    c = rare(1500, prevalence=0.3)
    u = entropy(c.light, "binary")
    found = normalised_area(u, c.light, c.heavy, c.labels, task="binary", steps=5, draws=3,
                            metric="average_precision")  # fmt: skip
    assert 0.2 < found < 1.2


def test_area_is_undefined_where_both_models_agree(rare):
    c = rare(100, prevalence=0.3)
    assert math.isnan(normalised_area(c.light, c.light, c.light, c.labels, task="binary"))


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_other_tasks(task, shaped):
    z, y = shaped(task)
    light = z + 3 * np.random.default_rng(5).standard_normal(z.shape)
    u = entropy(light, task)
    points = deferral_curve(u, light, z, y, task=task, budgets=(0, 0.5, 1))
    assert points[0].metrics["accuracy"] < points[2].metrics["accuracy"]
    assert normalised_area(u, light, z, y, task=task) < 1


def test_masked_classes_are_measured():
    z = np.array([[0.0, 1.0, -np.inf], [2.0, 0.0, -np.inf]])
    assert system_metrics(z, [1, 0], "multiclass")["accuracy"] == 1


def test_aurc():
    # errors at the two least certain of four: risks 0, 0, 1/3, 2/4
    assert aurc([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1]) == pytest.approx((1 / 3 + 1 / 2) / 4)
    assert aurc([0.4, 0.3, 0.2, 0.1], [0, 0, 1, 1]) > 0.7
    # all tie: the error rate, whatever the order
    assert aurc([1, 1, 1, 1], [0, 1, 0, 1]) == aurc([1, 1, 1, 1], [1, 1, 0, 0]) == 0.5
    assert math.isnan(aurc([], []))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: deferral_curve([0.1], [0.0], [0.0, 1.0], [1], task="binary"), "same clips"),
        (lambda: deferral_curve([0.1, 0.2], [0.0], [0.0], [1], task="binary"), "uncertainty must"),
        (lambda: deferral_curve([0.1], [0.0], [0.0], None, task="binary"), "labels are missing"),
        (
            lambda: deferral_curve([0.1], [0.0], [0.0], [1], task="binary", budgets=(2,)),
            "budget must be a share",
        ),
        (
            lambda: deferral_curve(
                [0.1], [0.0], [0.0], [1], task="binary", decision_thresholds=(0.5,)
            ),
            "1 decision thresholds for 8 budgets",
        ),
        (
            lambda: normalised_area(
                [0.1, 0.2], [0.0, 1.0], [0.0, 1.0], [1, 0], task="binary", metric="mcc"
            ),
            "metric must be one of f1",
        ),
        (
            lambda: normalised_area([0.1], [0.0], [0.0], [1], task="binary", steps=0),
            "steps and draws",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
