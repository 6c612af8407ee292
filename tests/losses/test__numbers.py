import pytest

from coefvq.losses._numbers import check_not_negative


def test_a_finite_number_from_zero():
    for value in (0, 0.0, 3, 1e9):
        check_not_negative("exponent", value)
    for value in (-1e-9, float("inf"), float("nan")):
        with pytest.raises(
            ValueError, match=f"exponent must be a finite number from 0, got {value}"
        ):
            check_not_negative("exponent", value)
