import json

import numpy as np
import pytest

from coefvq.cascade.gates import entropy
from coefvq.cascade.learned_gate import fit_learned_gate
from coefvq.cascade.routing import Decision, Gate
from coefvq.cascade.thresholds import by_budget


def gates_of(task, shaped):
    light, labels = shaped(task)
    learned = fit_learned_gate(light, 2 * light, labels, task=task)
    made = [Gate("entropy", task), Gate("learned", task, learned=learned)]
    if task == "multiclass":
        made += [Gate("margin", task), Gate("top_p_risk", task, {"p": 2})]
    else:
        made += [Gate("band", task, {"low": 0.1, "high": 0.9})]
    return made


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_plain_values_are_the_way_back(task, shaped):
    light, _ = shaped(task, seed=1)
    for gate in gates_of(task, shaped):
        again = Gate.from_dict(json.loads(json.dumps(gate.to_dict())))
        assert again == gate
        np.testing.assert_array_equal(again(light), gate(light))


def test_several_models():
    gate = Gate("disagreement", "binary", {"measure": "vote"})
    assert gate.several_models and gate([[1.0, 1.0], [1.0, -1.0]]).tolist() == [0.0, 0.5]


@pytest.mark.parametrize("budget", [0.0, 0.01, 0.1, 0.5, 0.9, 1.0])
def test_binary_gates_give_identical_routes_at_equal_budget(budget, shaped):
    z, _ = shaped("binary", n=999)
    p = 1 / (1 + np.exp(-z))
    symmetric = Gate("band", "binary", {"low": 0.3, "high": 0.7})
    every = [
        entropy(z, "binary"),
        1 - np.maximum(p, 1 - p),
        1 - np.abs(2 * p - 1),
        symmetric(z),
        entropy(np.stack([0 * z, z], 1), "multiclass"),
    ]
    routes = [u >= by_budget(u, budget) for u in every]
    for other in routes[1:]:
        np.testing.assert_array_equal(other, routes[0])
    assert routes[0].sum() == np.floor(budget * 999)


def test_reasons_are_one_per_clip():
    decision = Decision(np.array([True, False]), np.array([0.7, 0.1]), 0.25, "entropy")
    assert decision.reasons == ("deferred: entropy 0.7 >= 0.25", "kept: entropy 0.1 < 0.25")
    assert len(decision) == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Gate("margin", "binary"), "one and the same order, so use entropy"),
        (lambda: Gate("max_probability", "binary"), "max_probability is entropy"),
        (lambda: Gate("max_probability", "multiclass"), "top_p_risk with p=1"),
        (lambda: Gate("luck", "binary"), "gate must be one of entropy, .* got 'luck'"),
        (lambda: Gate("entropy", "binary", {"p": 2}), "no option 'p'; it has over"),
        (lambda: Gate("margin", "multiclass", {"p": 2}), "it has none"),
        (lambda: Gate("learned", "binary"), "carries a fitted LearnedGate"),
        (lambda: Gate("entropy", "regression"), "a regression has no probability"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
