import json

import numpy as np
import pytest

from coefvq.cascade import ablation
from coefvq.cascade.ablation import KINDS, calibration_ablation
from coefvq.cascade.curves import system_metrics
from coefvq.cascade.fitting import fit_policy


def columns(c):
    return c.light, c.heavy, c.labels


def test_affine_is_worth_what_temperature_is_not(rare):
    """Balanced models at 2 %, a budget of 10 %: the published order, and by how much."""
    found = calibration_ablation(columns(rare(20_000)), columns(rare(40_000, seed=1)),
                                 task="binary")  # fmt: skip
    rows = {row["calibrator"]: row for row in found}
    assert list(rows) == ["none", "temperature", "affine", "isotonic"]
    recall = {kind: row["metrics"]["recall_at_precision_80"] for kind, row in rows.items()}
    assert min(recall["affine"], recall["isotonic"]) > 0.5
    assert max(recall["none"], recall["temperature"]) < 0.3
    assert rows["none"]["deferred"] == rows["temperature"]["deferred"]  # one order, one budget
    assert rows["affine"]["inside"] < 0.05 < rows["none"]["inside"]
    assert json.loads(json.dumps(found)) == found


def test_a_row_is_the_policy_of_that_calibrator(rare):
    val, test = rare(3000, prevalence=0.2), rare(3000, prevalence=0.2, seed=1)
    found = calibration_ablation(columns(val), columns(test), task="binary", budget=0.25,
                                 deferred="stack")  # fmt: skip
    policy = fit_policy(*columns(val), task="binary", budget=0.25, deferred="stack")
    routes = policy.decide(test.light).routes
    final = policy.combine(test.light, test.heavy, routes)
    own = system_metrics(final, test.labels, "binary", policy.decision_threshold)
    (row,) = [row for row in found if row["calibrator"] == "affine"]
    assert row["metrics"] == own and row["deferred"] == routes.mean()


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_other_tasks(task, shaped):
    (z, y), (x, w) = shaped(task, n=600), shaped(task, n=600, seed=1)
    found = calibration_ablation((z, 2 * z, y), (x, 2 * x, w), task=task)
    assert tuple(row["calibrator"] for row in found) == KINDS[task]
    assert all(0 < row["deferred"] < 0.4 for row in found)


def test_what_these_clips_cannot_fit_is_a_row_with_the_reason(rare, monkeypatch):
    c = rare(2000, prevalence=0.2)
    fit = ablation.fit_policy

    def without_sklearn(*given, calibrator, **words):
        if calibrator == "isotonic":
            raise ValueError("scikit-learn is not installed")
        return fit(*given, calibrator=calibrator, **words)

    monkeypatch.setattr(ablation, "fit_policy", without_sklearn)
    *rest, last = calibration_ablation(columns(c), columns(c), task="binary")
    assert last == {"calibrator": "isotonic", "budget": 0.1,
                    "problem": "scikit-learn is not installed"}  # fmt: skip
    assert all(np.isfinite(row["everywhere"]) for row in rest)
