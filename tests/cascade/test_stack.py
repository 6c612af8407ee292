import json

import numpy as np
import pytest

from coefvq.cascade.stack import Stack


def test_it_weighs_both():
    assert Stack((0.5,), (2.0,), (1.0,))(np.array([2.0]), np.array([3.0])).tolist() == [8.0]
    wide = Stack((0.5, 0.0), (1.0, 1.0), (0.0, 1.0))
    assert wide(np.array([[2.0, 9.0]]), np.array([[3.0, 1.0]])).tolist() == [[4.0, 2.0]]


def test_masked_and_infinite_logits():
    stack = Stack((-0.5,), (1.0,), (0.0, 0.0))
    found = stack(np.array([[-np.inf, 1.0]]), np.array([[-np.inf, 3.0]]))
    assert found.tolist() == [[-np.inf, 2.5]]
    assert np.isfinite(Stack((-0.5,), (1.0,), (0.0,))(np.array([np.inf]), np.array([np.inf])))


def test_plain_values_are_the_way_back():
    stack = Stack((0.1, 0.2), (0.3, 1 / 3), (0.0, 1.0))
    assert Stack.from_dict(json.loads(json.dumps(stack.to_dict()))) == stack


def test_errors():
    with pytest.raises(ValueError, match="a stack's heavy holds finite numbers"):
        Stack((1.0,), (float("nan"),), (0.0,))
