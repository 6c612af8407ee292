import numpy as np
import pytest

from coefvq.cascade.cost import Cost
from coefvq.cascade.curves import system_metrics
from coefvq.cascade.fitting import fit_policy
from coefvq.cascade.recall import positives_needed


def fit(c, **options):
    return fit_policy(c.light, c.heavy, c.labels, task="binary", **options)


def run(policy, c):
    routes = policy.decide(c.light).routes
    return routes, policy.combine(c.light, c.heavy, routes)


def recall_80(scores, c):
    hits = np.cumsum(c.labels[np.argsort(-scores, kind="stable")])
    good = hits >= 0.8 * np.arange(1, len(hits) + 1)
    return float((hits * good).max() / hits[-1])


def test_the_quick_recall_is_the_librarys(rare):
    c = rare(3000, prevalence=0.2)
    theirs = system_metrics(c.light, c.labels, "binary")["recall_at_precision_80"]
    assert recall_80(c.light, c) == pytest.approx(theirs)


def test_calibration_to_the_serving_prevalence_decides_what_a_cascade_is_worth(rare):
    """Two balanced models serving 2 % positives at a budget of 10 %, as published figures say.

    Expected about: light .103, heavy .696, Platt .629, uncalibrated .148, temperature .114.
    """
    found = {}
    for seed in range(3):
        fitting, served = rare(20_000, seed=100 + seed), rare(60_000, seed=seed)
        for name, kind, heavy_kind in (
            ("affine", "affine", "affine"),
            ("none", "none", "none"),
            ("temperature", "temperature", "temperature"),
            ("temperature of the light model only", "temperature", "affine"),
            ("isotonic", "isotonic", "affine"),
        ):
            policy = fit(fitting, budget=0.1, calibrator=kind, heavy_calibrator=heavy_kind)
            routes, final = run(policy, served)
            assert routes.mean() < 0.11 and (kind == "isotonic" or routes.mean() > 0.09)
            found.setdefault(name, []).append(recall_80(final, served))
        found.setdefault("light", []).append(recall_80(served.light, served))
        found.setdefault("heavy", []).append(recall_80(served.heavy, served))
    mean = {name: float(np.mean(values)) for name, values in found.items()}
    print("\nrecall at 80 % precision, budget 10 %:", {k: round(v, 3) for k, v in mean.items()})
    assert mean["light"] == pytest.approx(0.10, abs=0.03)
    assert mean["heavy"] == pytest.approx(0.70, abs=0.03)
    assert mean["affine"] > 0.88 * mean["heavy"]
    for name in ("none", "temperature", "temperature of the light model only"):
        assert mean[name] < 0.3 * mean["affine"]
    assert mean["isotonic"] > 0.9 * mean["affine"]


def test_prior_correction_changes_routes_while_temperature_alone_does_not(rare):
    fitting, served = rare(20_000), rare(20_000, seed=1)
    routes = {}
    for kind in ("none", "temperature", "prior_shift", "affine"):
        options = {}
        if kind == "prior_shift":
            options = {"train_prevalence": 0.5, "serving_prevalence": 0.02}
        policy = fit(fitting, budget=0.1, calibrator=kind, **options)
        routes[kind] = policy.decide(served.light).routes
    np.testing.assert_array_equal(routes["none"], routes["temperature"])
    for kind in ("prior_shift", "affine"):
        assert (routes[kind] != routes["none"]).mean() > 0.1
    assert (routes["prior_shift"] != routes["affine"]).mean() < 0.01


def test_serving_prevalence_from_balanced_clips(rare):
    """Fitted on half positives with serving_prevalence, it does what fitting at 2 % does."""
    half, two = rare(20_000, prevalence=0.5, seed=1), rare(40_000, seed=2)
    served = rare(60_000, seed=3)
    moved = fit(half, budget=0.1, serving_prevalence=0.02, precision=0.8)
    direct = fit(two, budget=0.1, precision=0.8)
    assert moved.decide(served.light).routes.mean() == pytest.approx(0.1, abs=0.015)
    for policy in (moved, direct):
        _, final = run(policy, served)
        yes = policy.answers(final) == 1
        assert served.labels[yes].mean() == pytest.approx(0.8, abs=0.06)
    assert moved.expected["cascade"]["precision"] == pytest.approx(0.8, abs=0.01)
    assert moved.expected["deferred"] == pytest.approx(0.1, abs=1e-3)


def test_a_promised_recall_end_to_end(rare):
    """40 policies, each fitted anew: at most as many break the promise as it allows (and 3 σ)."""
    served, broken = rare(50_000, prevalence=0.2, seed=999), 0
    there = served.labels == 1
    for seed in range(40):
        policy = fit(rare(2000, prevalence=0.2, seed=seed), recall=0.9, decision_threshold=0.1)
        _, final = run(policy, served)
        broken += policy.answers(final)[there].mean() < 0.9
    assert broken <= 40 * 0.05 + 3 * np.sqrt(40 * 0.05 * 0.95)


def test_the_record_of_a_recall_floor(rare):
    c = rare(6000, prevalence=0.2)
    policy = fit(c, recall=0.95, recall_of="heavy", gate="band", gate_options={"high": 0.99})
    record = policy.fitted
    assert record["rule"] == "recall" and record["of"] == "heavy" and record["confidence"] == 0.95
    assert record["clips"] == 6000 and record["labelled_positives"] == c.labels.sum()
    assert record["missed"] <= record["tolerated"] < record["positives"] < c.labels.sum() / 2
    assert positives_needed(0.95, 0.95) <= record["positives"]
    assert (
        fit(c, recall=0.95, recall_of="heavy", gate="band", gate_options={"high": 0.99}) == policy
    )


def separable(positives, *, found=1.0, seed=0):
    """A light model that is often unsure, a heavy one that finds a share of the positives."""
    draw = np.random.default_rng(seed)
    labels = np.r_[np.ones(positives, int), np.zeros(3000, int)]
    light = 3 * labels + draw.normal(size=len(labels))
    heavy = 9.0 * labels - 4 + draw.normal(0, 0.5, len(labels))
    heavy[: round(positives * (1 - found))] = -5.0
    return light, heavy, labels


def test_the_number_of_positives_that_is_named_is_enough():
    """149 are counted for 98 %; the other half of the labelled ones goes to calibrators."""
    for rule, given in (({"recall": 0.98}, 297), ({"expected_recall": 0.98}, 97)):
        for few in (given - 1, given // 2 + 1):
            with pytest.raises(ValueError, match=rf"at least {given} labelled .*, got {few};"):
                fit_policy(*separable(few), task="binary", **rule)
        assert fit_policy(*separable(given), task="binary", **rule).fitted["missed"] == 0


def test_of_what_the_heavy_model_finds_the_number_is_an_estimate():
    words = {"task": "binary", "recall": 0.98, "recall_of": "heavy", "decision_threshold": 0.5}
    with pytest.raises(ValueError, match=r"about (\d+) \(an estimate\) labelled pos") as caught:
        fit_policy(*separable(300, found=0.5), **words)
    named = int(str(caught.value).split("about ")[1].split()[0])
    assert named == pytest.approx(2 * 297, rel=0.15)
    # Enough it is, but for chance: which half a find falls into is drawn.
    fit_policy(*separable(round(1.1 * named), found=0.5), **words)
    with pytest.raises(ValueError, match="finds 0 of 150, and 149 must be found"):
        fit_policy(*separable(300, found=0.0), **words | {"calibrator": "none"})


@pytest.mark.parametrize("rule", [{"recall": 0.8}, {"expected_recall": 0.8}])
def test_no_recall_is_promised_for_clips_that_weigh_differently(rare, rule):
    c = rare(4000, prevalence=0.2)
    words = rule | {"recall_of": "gate", "calibrator": "none", "decision_threshold": 0.5}
    with pytest.raises(ValueError, match="positive clips runs from 1 to 50, and a recall can be"):
        fit(c, sample_weight=np.where(c.light < 1, 50.0, 1.0), **words)
    plain = fit(c, **words)
    # A weight per class changes no recall, whoever makes it.
    by_class = np.where(c.labels == 1, 0.1, 1.0)
    for same in ({"sample_weight": by_class}, {"serving_prevalence": 0.02},
                 {"sample_weight": by_class, "serving_prevalence": 0.02}):  # fmt: skip
        assert fit(c, **words, **same).threshold == plain.threshold
    # Without a promise each clip may weigh what it likes.
    fit(c, budget=0.1, sample_weight=np.where(c.light < 1, 50.0, 1.0))


def test_expected_recall_defers_less_than_the_promise(rare):
    c = rare(6000, prevalence=0.2)
    options = {"recall_of": "gate", "gate": "band", "gate_options": {"high": 0.999}}
    promised, mean = fit(c, recall=0.95, **options), fit(c, expected_recall=0.95, **options)
    assert mean.expected["deferred"] < promised.expected["deferred"]


def test_cost_balances_seconds_and_misses(rare):
    c = rare(20_000)
    cost = Cost(0.01, 1.0, 0.05)
    shares = [
        fit(c, cost=cost, miss_price=price, false_alarm_price=1.0).expected["deferred"]
        for price in (0.1, 10.0, 100.0, 1000.0)
    ]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] > 0.05
    policy = fit(c, cost=cost, miss_price=100.0)
    seconds = policy.expected["seconds_per_1000"]
    assert seconds == pytest.approx(cost.per_1000(policy.expected["deferred"]))


def test_a_band_as_it_is_given(rare):
    c = rare(5000)
    policy = fit(c, threshold=0.0, gate="band", gate_options={"low": 0.02, "high": 0.9})
    p = 1 / (1 + np.exp(-policy.light_calibrator(c.light)))
    np.testing.assert_array_equal(policy.decide(c.light).routes, (p >= 0.02) & (p <= 0.9))


def test_a_budget_needs_no_labels(rare):
    c = rare(5000)
    policy = fit_policy(c.light, c.heavy, task="binary", budget=0.1, calibrator="none")
    assert policy.expected == {"deferred": 0.1, "clips": 5000} and policy.decision_threshold is None


def test_unlabelled_clips_count_for_a_budget_only(rare):
    c = rare(5000)
    mask = np.arange(5000) < 3000
    holes = np.where(mask, c.labels, -7)
    policy = fit_policy(c.light, c.heavy, holes, task="binary", budget=0.1, label_mask=mask)
    alone = fit_policy(c.light[:3000], c.heavy[:3000], c.labels[:3000], task="binary", budget=0.1)
    assert policy.light_calibrator == alone.light_calibrator
    assert policy.decide(c.light).routes.mean() == 0.1
    assert policy.fitted["labelled"] == 3000 and policy.fitted["clips"] == 5000


def test_stacking_both_scores_is_no_worse(rare):
    fitting, served = rare(20_000), rare(60_000, seed=1)
    figures = {}
    for deferred in ("replace", "stack"):
        _, final = run(fit(fitting, budget=0.2, deferred=deferred), served)
        figures[deferred] = system_metrics(final, served.labels, "binary")["average_precision"]
    assert figures["stack"] > figures["replace"] + 0.005


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
@pytest.mark.parametrize("rule", [{"budget": 0.2}, {"cost": Cost(0.1, 1.0), "miss_price": 9.0}])
def test_other_tasks(task, rule, shaped):
    light, labels = shaped(task, n=600)
    kind = "vector" if task == "multiclass" else "affine"
    policy = fit_policy(light, 3 * light, labels, task=task, calibrator=kind, deferred="stack",
                        **rule)  # fmt: skip
    routes = policy.decide(light).routes
    final = policy.combine(light, 3 * light, routes)
    answers = policy.answers(final)
    assert answers.shape == labels.shape
    assert policy.expected["cascade"]["accuracy"] == pytest.approx((answers == labels).mean())
    assert policy.expected["deferred"] == pytest.approx(routes.mean())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of budget, recall, expected_recall, cost, threshold, got none"),
        ({"budget": 0.1, "recall": 0.9}, "got budget and recall"),
        ({"budget": 1.1}, "budget must be a share from 0 to 1"),
        ({"budget": 10}, r"for 10 % write 0\.1"),
        ({"recall": 0.99}, "needs at least 597 labelled positives .* got 419; label more"),
        ({"recall": 1.0}, "recall must be a share between 0 and 1"),
        ({"recall": 0.9, "decision_threshold": 0.99}, "out of reach"),
        ({"recall": 0.9, "recall_of": "all"}, "got 'all'"),
        ({"budget": 0.1, "gate": "margin"}, "so use entropy"),
        ({"budget": 0.1, "calibrator": "vector"}, "use affine, isotonic or temperature"),
        ({"budget": 0.1, "gate": "learned", "gate_options": {"low": 0.1}}, "one option, ridge"),
        ({"budget": 0.1, "deferred": "mix"}, "replace or stack, got 'mix'"),
        ({"budget": 0.1, "precision": 0.8, "decision_threshold": 0.5}, "not both"),
        ({"budget": 0.1, "precision": 80}, "for 80 % write 0.8"),
        ({"cost": Cost(1, 1), "miss_price": -1.0}, "miss_price must be a finite number"),
    ],
)
def test_errors(options, message, rare):
    with pytest.raises(ValueError, match=message):
        fit(rare(2000, prevalence=0.2), **options)


def test_missing_labels_and_other_tasks_are_refused(rare, shaped):
    c = rare(2000)
    for options in ({"budget": 0.1}, {"cost": Cost(1, 1), "calibrator": "none"},
                    {"budget": 0.1, "calibrator": "none", "deferred": "stack"},
                    {"recall": 0.9, "calibrator": "none"},
                    {"budget": 0.1, "calibrator": "none", "gate": "learned"}):  # fmt: skip
        with pytest.raises(ValueError, match="labels are missing"):
            fit_policy(c.light, c.heavy, task="binary", **options)
    z, y = shaped("multilabel")
    with pytest.raises(ValueError, match="need one question with a yes, got a multilabel task"):
        fit_policy(z, z, y, task="multilabel", recall=0.9)
