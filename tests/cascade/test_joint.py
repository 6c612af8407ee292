import numpy as np
import pytest

from coefvq.cascade.arrays import sigmoid
from coefvq.cascade.fitting import fit_policy
from coefvq.cascade.gates import entropy
from coefvq.cascade.joint import BUDGETS, SHARES, recall_and_false_alarms
from coefvq.cascade.thresholds import by_budget

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:mapie")


@pytest.fixture(autouse=True)
def _mapie():
    pytest.importorskip("mapie", reason="MAPIE is an optional extra")


def halves(c):
    first = np.arange(len(c.labels)) % 2 == 0
    return first, ~first


def choose(c, **options):
    words = {"recall": 0.7, "false_alarms": 0.1, "confidence": 0.9} | options
    u = entropy(c.light, "binary")
    return recall_and_false_alarms(u, c.light, c.heavy, c.labels, *halves(c), **words)


def test_both_shares_hold_on_other_clips(rare):
    """30 choices, each on new clips: at most as many break a promise as it allows (and 3 σ)."""
    far, broken = rare(60_000, prevalence=0.2, seed=999), 0
    for seed in range(30):
        pair = choose(rare(3000, prevalence=0.2, seed=seed))
        deferred = entropy(far.light, "binary") >= pair.threshold
        yes = sigmoid(np.where(deferred, far.heavy, far.light)) >= pair.decision_threshold
        broken += yes[far.labels == 1].mean() < 0.7 or yes[far.labels == 0].mean() > 0.1
    assert broken <= 30 * 0.1 + 3 * np.sqrt(30 * 0.1 * 0.9)


def test_the_cheapest_proven_pair_is_taken(rare):
    c = rare(6000, prevalence=0.2)
    easy, hard = choose(c, recall=0.5, false_alarms=0.3), choose(c, recall=0.85)
    assert easy.candidates == hard.candidates == len(BUDGETS) * len(SHARES)
    assert 0 < hard.accepted < easy.accepted
    assert hard.threshold < easy.threshold  # defers more


def test_a_policy_with_two_promises(rare):
    c = rare(6000, prevalence=0.2)
    words = {"task": "binary", "recall": 0.8, "false_alarms": 0.1}
    policy = fit_policy(c.light, c.heavy, c.labels, **words)
    record = policy.fitted
    assert record["rule"] == "recall" and record["level"] == 0.8 and record["false_alarms"] == 0.1
    assert 0 < record["accepted"] <= record["candidates"]
    assert policy.expected["cascade"]["recall"] > 0.8
    assert fit_policy(c.light, c.heavy, c.labels, **words) == policy


def test_what_cannot_be_proven_is_refused(rare):
    with pytest.raises(ValueError, match="none of 18 candidates is proven"):
        choose(rare(2000, prevalence=0.2), recall=0.99)
    with pytest.raises(ValueError, match="of one kind only"):
        choose(rare(40, prevalence=0.01))


def test_weights_within_a_kind_are_refused_and_those_of_a_class_price_the_traffic(rare):
    c = rare(6000, prevalence=0.2)
    for kind, value in (("positive", 1), ("negative", 0)):
        weight = np.where((c.labels == value) & (c.light > 1), 3.0, 1.0)
        with pytest.raises(ValueError, match=f"sample_weight of the {kind} clips runs from 1 to 3"):
            choose(c, sample_weight=weight)
    assert choose(c, sample_weight=np.full(6000, 7.0)) == choose(c)
    # Where positives are rare, less of the traffic is uncertain: the same share lies lower.
    rarer = choose(c, sample_weight=np.where(c.labels == 1, 0.01, 1.0))
    budgets = [by_budget(entropy(c.light, "binary")[halves(c)[0]], b) for b in BUDGETS]
    assert choose(c).threshold in budgets and rarer.threshold not in budgets[1:-1]
