import math

import numpy as np
import pytest
import torch

from coefvq.cascade.band_error import band_error
from coefvq.cascade.curves import deferral_curve, system_metrics
from coefvq.cascade.weighted import weighted_ece, weighted_metrics
from coefvq.evaluation.metrics import compute_metrics
from coefvq.types import TaskSpec


def clips(task, n=300, seed=0):
    draw = np.random.default_rng(seed)
    z = draw.normal(size=n if task == "binary" else (n, 3))
    z = z.round(1) if task == "binary" else z  # some tie; softmaxes that do differ by a bit
    noise = z + draw.normal(size=z.shape)
    labels = (noise > 0.5) if task == "binary" else noise.argmax(axis=1)
    return z, labels.astype(np.int64), draw.integers(0, 4, n)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
@pytest.mark.parametrize("threshold", [None, 0.7])
def test_whole_weights_are_repeated_clips(task, threshold):
    if task == "multiclass" and threshold is not None:
        pytest.skip("decides by argmax")
    z, labels, times = clips(task)
    found = weighted_metrics(z, labels, task, threshold, times.astype(float))
    names = tuple(str(k) for k in range(2 if task == "binary" else 3))
    theirs = compute_metrics(
        torch.from_numpy(np.repeat(z, times, axis=0)), torch.from_numpy(np.repeat(labels, times)),
        TaskSpec("t", task, names), threshold=threshold,
    )  # fmt: skip
    assert found.keys() == theirs.keys()
    for name in found.keys() - {"n"}:
        assert found[name] == pytest.approx(theirs[name], abs=1e-6), name
    assert found["n"] == 300
    # Equal weights are none.
    plain = system_metrics(z, labels, task, threshold)
    assert system_metrics(z, labels, task, threshold, sample_weight=np.full(300, 2.5)) == (
        pytest.approx(plain, abs=1e-6)
    )


def test_what_one_kind_leaves_undefined():
    z, labels, times = clips("binary")
    found = weighted_metrics(z, 0 * labels, "binary", None, times + 1.0)
    assert math.isnan(found["f1"]) and math.isnan(found["average_precision"])
    assert found["prevalence"] == 0 and 0 <= found["accuracy"] <= 1
    assert math.isnan(weighted_ece([0.5], [True], np.zeros(1)))


def test_errors_in_a_band_are_weighted():
    z, labels, times = clips("binary")
    routes = np.abs(z) < 0.5
    found = band_error(z, labels, routes, task="binary", sample_weight=times)
    plain = band_error(*(np.repeat(a, times) for a in (z, labels, routes)), task="binary")
    assert found.inside == pytest.approx(plain.inside)
    assert found.everywhere == pytest.approx(plain.everywhere)


def test_budgets_of_a_curve_are_of_the_traffic():
    z, labels, times = clips("binary")
    u = -np.abs(z) + 1e-6 * np.arange(300)
    words = {"task": "binary", "budgets": (0.0, 0.25, 1.0)}
    found = deferral_curve(u, z, 2 * z + 1, labels, sample_weight=times, **words)
    rows = [np.repeat(a, times) for a in (u, z, 2 * z + 1, labels)]
    for own, plain in zip(found, deferral_curve(*rows, **words), strict=True):
        assert own.deferred == pytest.approx(plain.deferred)
        assert own.metrics["f1"] == pytest.approx(plain.metrics["f1"], abs=1e-6)
    alike = deferral_curve(u, z, 2 * z + 1, labels, **words)
    assert abs(found[1].metrics["f1"] - alike[1].metrics["f1"]) > 1e-3
