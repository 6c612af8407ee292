import pytest

from coefvq.cascade.cost import Cost
from coefvq.cascade.fit_words import RULES, check_positives, check_rule, check_words


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_alone_is_taken(rule):
    value = Cost(1.0, 1.0) if rule == "cost" else 0.5
    assert check_rule("binary", {rule: value, "unknown": 1}) == rule
    check_words({rule: value}, task="binary")


def test_a_threshold_may_be_infinite():
    assert check_rule("binary", {"threshold": float("-inf")}) == "threshold"


def test_several_light_models_and_their_gate_belong_together():
    words = {"budget": 0.1}
    check_words(words | {"gate": "disagreement"}, task="binary", light_models=2)
    with pytest.raises(ValueError, match="gate disagreement reads several light models, got 1"):
        check_words(words | {"gate": "disagreement"}, task="binary")
    with pytest.raises(ValueError, match="gate entropy reads one, got 3; use gate=disagreement"):
        check_words(words, task="binary", light_models=3)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({}, "give exactly one of budget, recall, expected_recall, cost, threshold, got none"),
        ({"budget": 0.1, "threshold": 0.0}, "got budget and threshold"),
        ({"budget": True, "gate": "entropy", "gate_options": {"over": "mean"}}, "over must be"),
        ({"budget": 0.1, "gate": "top_p_risk"}, "so use entropy"),
        ({"recall": 0.9, "false_alarms": 0.1, "decision_threshold": 0.5}, "leave precision and"),
        ({"recall": 0.9, "false_alarms": 0.1, "recall_of": "gate"}, "without another recall_of"),
        ({"budget": 0.1, "heavy_calibrator": "prior_shift"}, "needs train_prevalence"),
        ({"budget": 0.1, "calibrator": "prior_shift", "train_prevalence": 2,
          "serving_prevalence": 0.1}, "train_prevalence must be one share"),
    ],
)  # fmt: skip
def test_errors(words, sentence):
    task = "multilabel" if words.get("budget") is True else "binary"
    with pytest.raises(ValueError, match=sentence):
        check_words(words, task=task)


def test_labelled_positives_are_twice_those_that_are_counted():
    for rule, needed in (("recall", 297), ("expected_recall", 97)):
        check_positives(needed, rule, 0.98)
        with pytest.raises(ValueError, match=f"needs at least {needed} labelled positives"):
            check_positives(needed - 1, rule, 0.98)
    check_positives(597, "recall", 0.98, heavy_found=(149, 299))
    with pytest.raises(ValueError, match=r"about 594 \(an estimate\) .* 100 of 200, .*, got 400;"):
        check_positives(400, "recall", 0.98, heavy_found=(100, 200))
    with pytest.raises(ValueError, match="needs more labelled positives"):
        check_positives(400, "recall", 0.98, heavy_found=(0, 200))
