import numpy as np
import pytest

from coefvq.cascade.fit_stack import fit_stack


def test_equals_scikit_learn(rare):
    from sklearn.linear_model import LogisticRegression

    columns = rare(4000, prevalence=0.3)
    found = fit_stack(columns.light, columns.heavy, columns.labels, task="binary", penalty=1e-9)
    slow = LogisticRegression(C=1e8, tol=1e-9).fit(
        np.stack([columns.light, columns.heavy], 1), columns.labels
    )
    np.testing.assert_allclose(
        found.light + found.heavy + found.bias, [*slow.coef_[0], *slow.intercept_], atol=2e-3
    )


def test_without_data_it_is_the_heavy_model(rare):
    columns = rare(500, prevalence=0.3)
    found = fit_stack(columns.light, columns.heavy, columns.labels, task="binary", penalty=1e6)
    np.testing.assert_allclose(
        found(columns.light, columns.heavy), columns.heavy, atol=1e-3, rtol=1e-4
    )


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_two_views_of_the_truth_are_better_than_one(task, shaped):
    z, y = shaped(task, n=3000)
    draw = np.random.default_rng(5)
    noisy = [z + 2 * draw.standard_normal(z.shape) for _ in range(2)]
    made = fit_stack(*noisy, y, task=task)(*noisy)

    def right(logits):
        return ((logits.argmax(1) if task == "multiclass" else logits > 0) == y).mean()

    assert right(made) > right(noisy[1]) + 0.01


def test_errors():
    with pytest.raises(ValueError, match="clips that both models scored"):
        fit_stack([0.0, 1.0], [0.0], [0, 1], task="binary")
    with pytest.raises(ValueError, match="finite logits"):
        fit_stack([0.0, np.inf], [0.0, 1.0], [0, 1], task="binary")
    with pytest.raises(ValueError, match="penalty must be above 0"):
        fit_stack([0.0, 1.0], [0.0, 1.0], [0, 1], task="binary", penalty=0)
