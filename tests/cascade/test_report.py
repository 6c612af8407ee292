import json

import numpy as np
import pytest
import torch

from coefvq.cascade.cost import Cost
from coefvq.cascade.curves import BUDGETS
from coefvq.cascade.fitting import fit_policy
from coefvq.cascade.report import cascade_figures, labelled
from coefvq.evaluation.collect import Predictions
from coefvq.evaluation.report import plain


def scored(seed, task="binary", clips=600):
    """A weak and a strong model of the same clips; one clip in ten has no label."""
    draw = np.random.default_rng(seed)
    width = {"binary": (), "multiclass": (3,), "multilabel": (2,)}[task]
    truth = draw.normal(size=(clips, *width))
    labels = truth.argmax(1) if task == "multiclass" else (truth > 0.3).astype(np.float32)
    mask = torch.from_numpy(draw.random(clips) > 0.1)
    ids = tuple(f"clip{i}" for i in range(clips))

    def model(noise):
        logits = 2 * truth + noise * draw.normal(size=truth.shape)
        return Predictions(ids, torch.from_numpy(logits).float(), torch.from_numpy(labels), mask)

    return model(4.0), model(0.5)


@pytest.fixture(params=["binary", "multiclass", "multilabel"])
def task(request):
    return request.param


def figures_of(task, *, cost=None, **words):
    val, test = scored(0, task), scored(1, task)
    kind = "vector" if task == "multiclass" else "affine"
    policy = fit_policy(*labelled(*val), task=task, calibrator=kind, **({"budget": 0.2} | words))
    return policy, val, test, cascade_figures(policy, val, test, cost=cost)


def test_the_cascade_is_between_its_models(task):
    policy, _, test, figures = figures_of(task)
    metrics = figures["test"]
    for name in ("accuracy", "average_precision"):
        if name in metrics["light"]:
            assert metrics["light"][name] < metrics["cascade"][name] < metrics["heavy"][name]
    light, heavy, labels = labelled(*test)
    routes = policy.decide(light).routes
    assert figures["deferred"] == pytest.approx(routes.mean()) == pytest.approx(0.2, abs=0.05)
    answers = policy.answers(policy.combine(light, heavy, routes))
    assert metrics["cascade"]["accuracy"] == pytest.approx((answers == labels).mean(), abs=1e-6)
    assert json.loads(json.dumps(plain(figures))) == plain(figures)


def test_the_curve_starts_at_the_light_and_ends_at_the_heavy_model(task):
    _, _, _, figures = figures_of(task)
    curve = figures["curve"]
    assert [point["budget"] for point in curve] == list(BUDGETS)
    for point, who in ((curve[0], "light"), (curve[-1], "heavy")):
        for name in ("average_precision", "auroc"):
            if name in point["metrics"]:
                assert point["metrics"][name] == pytest.approx(figures["test"][who][name])
    shares = [point["deferred"] for point in curve]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 1
    assert all(0 < value <= 1.5 for value in figures["area"].values())  # better than random
    assert figures["area"]["accuracy"] <= 1
    assert 0 < figures["aurc"] < 1
    assert set(figures["calibration"]) == {"everywhere", "inside", "outside", "uncalibrated"}


def test_prices_rise_with_the_budget():
    cost = Cost(0.001, 0.1, decode_seconds=0.01)
    _, _, _, figures = figures_of("binary", cost=cost)
    prices = [point["seconds_per_1000"] for point in figures["curve"]]
    assert prices == sorted(prices) and prices[0] == pytest.approx(11.0)
    share = figures["deferred"]
    assert figures["seconds_per_1000"] == pytest.approx(
        {"light": 11.0, "cascade": 11.0 + 100 * share, "heavy": 110.0}
    )
    assert figures["cost"]["heavy_seconds"] == 0.1
    _, _, _, free = figures_of("binary")
    assert free["cost"] is None and free["seconds_per_1000"] is None
    assert free["curve"][0]["seconds_per_1000"] is None


def test_figures_of_a_serving_prevalence_are_those_of_the_traffic():
    """Weighted to 5 %, half-and-half clips are measured as if negatives were 19 times as many."""
    val, test = scored(0, clips=3000), scored(1, clips=3000)
    policy = fit_policy(*labelled(*val), task="binary", budget=0.2, serving_prevalence=0.05)
    figures = cascade_figures(policy, val, test, cost=Cost(0.001, 0.1))
    plain_ = cascade_figures(
        fit_policy(*labelled(*val), task="binary", budget=0.2), val, test
    )  # fmt: skip
    light, heavy, labels = labelled(*test)
    weight = np.where(labels == 1, 0.05 / labels.mean(), 0.95 / (1 - labels.mean()))
    routes = policy.decide(light).routes
    answers = policy.answers(policy.combine(light, heavy, routes))
    hits = (weight * (answers * labels)).sum()
    f1 = 2 * hits / ((weight * answers).sum() + (weight * labels).sum())
    assert figures["test"]["cascade"]["f1"] == pytest.approx(f1)
    assert figures["test"]["cascade"]["prevalence"] == pytest.approx(0.05)
    share = (weight * routes).sum() / weight.sum()
    assert figures["deferred"] == pytest.approx(share) == pytest.approx(0.2, abs=0.03)
    assert abs(routes.mean() - share) > 0.02  # of the clips as they are it is another
    assert figures["seconds_per_1000"]["cascade"] == pytest.approx(1 + 100 * share)
    at = next(p for p in figures["curve"] if p["budget"] == 0.2)
    assert at["deferred"] == pytest.approx(0.2, abs=0.005)
    # The cut of the curve is the policy's, from the same weights.
    assert at["metrics"]["f1"] == pytest.approx(f1, abs=0.05)
    assert figures["calibration"]["everywhere"] < 0.05 < plain_["test"]["light"]["prevalence"]
    assert figures["prevalence"]["weighted_to"] == [0.05]
    assert "the policy serves 5.0%: all figures are weighted to that" in figures["notes"][0]
    assert plain_["prevalence"]["weighted_to"] is None
    assert not any("prevalence" in note for note in plain_["notes"])


def test_nothing_is_chosen_on_the_test_clips():
    """Other test labels change what is measured, never what is decided."""
    policy, val, test, figures = figures_of("binary")
    turned = tuple(Predictions(p.ids, p.logits, 1 - p.labels, p.label_mask) for p in test)
    other = cascade_figures(policy, val, turned)
    assert other["deferred"] == figures["deferred"]
    for a, b in zip(figures["curve"], other["curve"], strict=True):
        assert a["deferred"] == b["deferred"]
        # The same answers, held against the opposite labels.
        assert a["metrics"]["accuracy"] + b["metrics"]["accuracy"] == pytest.approx(1)


def test_stacked_answers_are_measured_as_such():
    _, _, _, replaced = figures_of("binary")
    _, _, _, stacked = figures_of("binary", deferred="stack")
    assert stacked["test"]["heavy"]["auroc"] != replaced["test"]["heavy"]["auroc"]


def test_precision_moves_the_cuts_of_the_curve():
    policy, val, test, figures = figures_of("binary")
    strict = cascade_figures(policy, val, test, precision=0.99)
    assert strict["curve"][0]["metrics"]["f1"] < figures["curve"][0]["metrics"]["f1"]
    assert strict["curve"][0]["metrics"]["auroc"] == figures["curve"][0]["metrics"]["auroc"]


def test_a_precision_that_the_light_model_never_reaches_is_no_error():
    _, heavy = scored(0)
    flat = Predictions(heavy.ids, 0 * heavy.logits, heavy.labels, heavy.label_mask)
    policy = fit_policy(
        *labelled(flat, heavy), task="binary", threshold=-np.inf, precision=0.9
    )  # fmt: skip
    figures = cascade_figures(policy, (flat, heavy), (flat, heavy), precision=0.9)
    first, last = figures["curve"][0], figures["curve"][-1]
    assert first["metrics"]["f1"] == 0 and last["metrics"]["f1"] > 0.8


def test_labelled_rows_only():
    light, heavy = scored(0)
    a, b, labels = labelled(light, heavy)
    assert len(a) == len(b) == len(labels) == int(light.label_mask.sum()) < 600
    assert a.dtype == b.dtype == np.float64
    np.testing.assert_array_equal(a, light.logits.numpy().astype(float)[light.label_mask.numpy()])


def test_what_does_not_belong_together_is_said():
    light, heavy = scored(0)
    turned = Predictions(heavy.ids[::-1], heavy.logits, heavy.labels, heavy.label_mask)
    with pytest.raises(ValueError, match="score the same clips with both"):
        labelled(light, turned)
    for none in (
        Predictions(light.ids, light.logits, None, None),
        Predictions(light.ids, light.logits, light.labels, torch.zeros(600, dtype=torch.bool)),
    ):
        with pytest.raises(ValueError, match="no clip has a label"):
            labelled(none, heavy)
