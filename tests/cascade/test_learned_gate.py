import json

import numpy as np
import pytest

from coefvq.cascade.gates import entropy
from coefvq.cascade.learned_gate import (
    LearnedGate,
    fit_learned_gate,
    gate_features,
    probability_of_truth,
)


def test_probability_of_truth():
    # σ(log 3) = 3/4
    assert probability_of_truth([np.log(3), np.log(3)], [1, 0], "binary") == pytest.approx(
        [0.75, 0.25]
    )
    assert probability_of_truth(np.log([[0.2, 0.8]]), [1], "multiclass") == pytest.approx([0.8])
    found = probability_of_truth([[np.log(3), np.log(3)]], [[1, 0]], "multilabel")
    assert found == pytest.approx([0.5])


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_ridge_equals_scikit_learn(task, shaped):
    from sklearn.linear_model import Ridge

    light, labels = shaped(task)
    heavy = 2 * light
    gate = fit_learned_gate(light, heavy, labels, task=task, ridge=0.01)
    x = np.stack(gate_features(light, task), 1)
    x = (x - x.mean(0)) / x.std(0)
    gain = probability_of_truth(heavy, labels, task) - probability_of_truth(light, labels, task)
    slow = Ridge(alpha=0.01 * len(x)).fit(x, gain)
    np.testing.assert_allclose(gate(light), slow.predict(x), atol=1e-9)


def test_it_learns_not_to_ask_where_the_heavy_model_knows_no_better():
    draw = np.random.default_rng(0)
    kind = draw.random(4000) < 0.5  # noisy labels where True: nobody can know
    y = (draw.random(4000) < 0.5).astype(int)
    sign = 2 * y - 1
    light = np.where(kind, 0.2 * draw.standard_normal(4000), 0.9 * sign)
    light = light + np.where(kind, 0, 0.5 * draw.standard_normal(4000))
    heavy = np.where(kind, 0.0, 4.0 * sign)
    gate = fit_learned_gate(light, heavy, y, task="binary")
    half = 2000
    asked = np.argsort(-gate(light))[:half], np.argsort(-entropy(light, "binary"))[:half]
    learned, unsure = ((~kind[rows]).mean() for rows in asked)  # share that can be helped
    assert learned > 0.6 > 0.4 > unsure


def test_plain_values_are_the_way_back(shaped):
    light, labels = shaped("multiclass")
    gate = fit_learned_gate(light, light * 1.5, labels, task="multiclass")
    again = LearnedGate.from_dict(json.loads(json.dumps(gate.to_dict())))
    assert again == gate
    np.testing.assert_array_equal(again(light), gate(light))


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_a_clip_alone_has_what_it_has_in_a_batch(task, shaped):
    light, labels = shaped(task)
    gate = fit_learned_gate(light, 2 * light, labels, task=task)
    together = gate(light)
    alone = np.concatenate([gate(light[i : i + 1]) for i in range(len(light))])
    np.testing.assert_array_equal(alone, together)


def test_a_weight_of_two_is_the_clip_twice(shaped):
    light, labels = shaped("binary", n=60)
    weight = np.where(np.arange(60) < 20, 2.0, 1.0)
    rows = np.concatenate([np.arange(60), np.arange(20)])
    one = fit_learned_gate(light, 2 * light, labels, task="binary", sample_weight=weight)
    two = fit_learned_gate(light[rows], 2 * light[rows], labels[rows], task="binary")
    np.testing.assert_allclose(one(light), two(light), atol=1e-12)


def test_errors(shaped):
    light, labels = shaped("binary", n=20)
    with pytest.raises(ValueError, match="must be of the same clips"):
        fit_learned_gate(light, light[:5], labels, task="binary")
    with pytest.raises(ValueError, match="ridge must be above 0"):
        fit_learned_gate(light, light, labels, task="binary", ridge=0)
    with pytest.raises(ValueError, match="needs more than that many"):
        fit_learned_gate(light[:3], light[:3], labels[:3], task="binary")
    with pytest.raises(ValueError, match="as many centres"):
        LearnedGate("binary", 1, (0.0,), (1.0,), (), 0.0)
    wide, y = shaped("multiclass")
    with pytest.raises(ValueError, match=r"expects \(N, 4\)"):
        fit_learned_gate(wide, wide, y, task="multiclass")(np.zeros((2, 3)))
