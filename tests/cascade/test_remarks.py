import dataclasses
import math

import pytest

from coefvq.cascade.fitting import fit_policy
from coefvq.cascade.remarks import remarks


@pytest.fixture
def figures():
    """Of a cascade that nothing is to be said of."""
    return {
        "area": {"accuracy": 0.4, "average_precision": math.nan},
        "seconds_per_1000": {"light": 1.0, "cascade": 5.0, "heavy": 20.0},
        "cost": {"unit": "seconds"},
        "calibration": {"everywhere": 0.02, "uncalibrated": 0.2},
        "prevalence": {"val": [0.1], "test": [0.4], "weighted_to": None},
        "labelled": [900, 100],
    }


def policy_of(rare, **words):
    c = rare(2000, prevalence=0.2)
    return fit_policy(c.light, c.heavy, c.labels, task="binary", budget=0.1, **words)


def test_nothing_is_said_without_a_reason(rare, figures):
    assert remarks(policy_of(rare), figures) == []
    figures["seconds_per_1000"] = None
    assert remarks(policy_of(rare), figures) == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"seconds_per_1000": {"light": 1.0, "cascade": 20.0, "heavy": 20.0}},
         "the cascade saves nothing: 20.0 seconds per 1 000 clips, 20.0 of the heavy model alone"),
        ({"area": {"accuracy": 0.0}}, "no better than a random one: its area for accuracy is 0.00"),
        ({"calibration": {"everywhere": 0.3, "uncalibrated": 0.2}},
         "larger, 0.200 before and 0.300 after it: 10.0% of the validation clips are positive, "
         "40.0% of the test clips"),
        ({"labelled": [900, 29]}, "only 29 validation clips are positive: what is fitted on fewer"),
        ({"labelled": [0, 900]}, "only 0 validation clips are negative"),
    ],
)  # fmt: skip
def test_a_reason_is_a_sentence(rare, figures, changes, sentence):
    (found,) = remarks(policy_of(rare), figures | changes)
    assert sentence in found and not found.endswith(".")


def test_it_is_said_which_prevalence_the_figures_have(rare, figures):
    policy = policy_of(rare, serving_prevalence=0.02)
    (plain,) = remarks(policy, figures)
    assert plain.startswith("40.0% of the test clips are positive, the policy serves 2.0%: all fig")
    assert "as they are, of which one class has none" in plain
    figures["prevalence"]["weighted_to"] = [0.02]
    assert "all figures are weighted to that" in remarks(policy, figures)[0]


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        (("temperature", None), "of the light and the heavy model: calibrator temperature has"),
        (("none", "affine"), "of the light model: calibrator none has no bias to move"),
        (("none", "temperature"), "calibrator none and temperature has no bias"),
        (("affine", None), None),
    ],
)
def test_a_calibrator_that_a_serving_prevalence_does_not_move(rare, figures, kinds, words):
    first, other = kinds
    policy = policy_of(
        rare, serving_prevalence=0.02, calibrator=first, heavy_calibrator=other
    )  # fmt: skip
    found = remarks(policy, figures)[1:]
    assert [words in note for note in found] == [True] if words else found == []


def test_other_tasks_name_the_class(rare, figures):
    policy = policy_of(rare)
    several = dataclasses.replace(
        policy, task="multilabel", gate=dataclasses.replace(policy.gate, task="multilabel"),
        outputs=2,
    )  # fmt: skip
    assert "are with label 1:" in remarks(several, figures | {"labelled": [40, 3]})[0]
