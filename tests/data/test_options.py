import pytest

from coefvq.data.options import at_least_one, fractions, one_of, share_out


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


def test_what_is_allowed():
    one_of("train_on", "all", ("all", "labelled"))
    at_least_one(batch_size=1, eval_batch_size=None)
    assert fractions(val=0, test=0.5) == {"val": 0, "test": 0.5}


def test_an_unknown_word():
    with pytest.raises(ValueError, match="train_on 'some' is unknown; choose one of all, labelled"):
        one_of("train_on", "some", ("all", "labelled"))


@pytest.mark.parametrize("value", [0, -1, 1.5, "many", True])
def test_numbers_that_are_too_small(value):
    with pytest.raises(ValueError, match=r"data.frame_size must be a whole number of at least 1"):
        at_least_one(num_frames=1, frame_size=value)


@pytest.mark.parametrize("value", [1, -0.1, "high", None, float("nan"), True])
def test_fractions_that_are_none(value):
    with pytest.raises(ValueError, match=r"data.val_fraction must be a number in \[0, 1\)"):
        fractions(val=value)
