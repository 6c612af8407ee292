import math

import pytest

from coefvq.teacher_supply.numbers import is_number


@pytest.mark.parametrize("value", [True, "1", None, math.nan, -0.1, 2.1])
def test_what_is_none(value):
    assert not is_number(value, 0.0, 2.0)


@pytest.mark.parametrize("value", [0, 1, 2.0])
def test_the_ends_belong_to_it(value):
    assert is_number(value, 0.0, 2.0)
