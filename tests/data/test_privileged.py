import json
import math

import numpy as np
import pytest
import torch

from coefvq.data.privileged import PrivilegedNormalizer

NAN = math.nan
ROWS = [
    {"a": 1.0, "n": 0.0, "c": 7.0},
    {"a": 3.0, "n": NAN, "c": 7.0},
    {"a": NAN, "n": 8.0, "c": 7.0},
]


def test_values_by_hand():
    normalizer = PrivilegedNormalizer.fit(ROWS, ["a", "n", "c"], ["n"])
    values, mask = normalizer.transform(ROWS)
    # a: mean 2, deviation 1. n: log1p gives 0 and log 9, mean and deviation log 9 / 2.
    # c is constant: only centred.
    assert values.dtype == torch.float32
    assert values.tolist() == [[-1, pytest.approx(-1), 0], [1, 0, 0], [0, pytest.approx(1), 0]]
    assert mask.tolist() == [[True, True, True], [True, False, True], [False, True, True]]


def test_against_numpy_with_missing_values():
    rng = np.random.default_rng(0)
    matrix = rng.normal(5, 3, (200, 4))
    matrix[rng.random(matrix.shape) < 0.2] = np.nan
    rows = [dict(zip("wxyz", row, strict=True)) for row in matrix.tolist()]
    values, mask = PrivilegedNormalizer.fit(rows, list("wxyz")).transform(rows)
    expected = (matrix - np.nanmean(matrix, 0)) / np.nanstd(matrix, 0)
    assert np.allclose(values.numpy()[mask.numpy()], expected[~np.isnan(matrix)], atol=1e-5)
    assert not values[~mask].any()


def test_other_splits_use_the_training_statistics_and_may_lack_everything():
    normalizer = PrivilegedNormalizer.fit(ROWS, ["a", "n", "c"])
    values, mask = normalizer.transform([{"a": 4.0}, {}])
    assert values[0].tolist() == [2, 0, 0]
    assert mask.tolist() == [[True, False, False], [False] * 3]


def test_a_constant_that_rounding_disturbs_counts_as_constant():
    rows = [{"a": 0.1 + 0.2}, {"a": 0.3}] * 3
    assert PrivilegedNormalizer.fit(rows, ["a"]).std == (1.0,)


def test_it_survives_json():
    normalizer = PrivilegedNormalizer.fit(ROWS, ["a", "n", "c"], ["n"])
    again = PrivilegedNormalizer.from_dict(json.loads(json.dumps(normalizer.to_dict())))
    assert again == normalizer


def test_no_features_at_all():
    values, mask = PrivilegedNormalizer.fit([{}, {}], []).transform([{}, {}])
    assert values.shape == mask.shape == (2, 0)


def test_refusals():
    with pytest.raises(ValueError, match=r"features \['a'\] are missing in every training clip"):
        PrivilegedNormalizer.fit([{"a": NAN, "b": 1.0}, {"b": 2.0}], ["a", "b"])
    with pytest.raises(ValueError, match=r"'b' is to be put through log1p but goes down to -2"):
        PrivilegedNormalizer.fit([{"b": -2.0}], ["b"], ["b"])
    with pytest.raises(ValueError, match=r"log1p names \['x'\]"):
        PrivilegedNormalizer.fit([{"b": 2.0}], ["b"], ["x"])
    later = PrivilegedNormalizer.fit([{"b": 2.0}, {"b": 1.0}], ["b"], ["b"])
    with pytest.raises(ValueError, match="goes down to -3"):
        later.transform([{"b": -3.0}])
