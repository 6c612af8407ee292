import pytest

from coefvq.data.options import share_out


def test_an_option_known_to_two_owners_goes_to_both():
    def first(seed, size): ...

    def second(seed, colour): ...

    assert share_out({"seed": 1, "colour": "red"}, first, second) == [
        {"seed": 1},
        {"seed": 1, "colour": "red"},
    ]


def test_an_unknown_option_is_refused_with_the_known_ones():
    def owner(seed): ...

    with pytest.raises(ValueError, match=r"data options sede are unknown; there are seed"):
        share_out({"sede": 1}, owner)
