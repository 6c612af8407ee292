import pytest

from coefvq.data.manifest_data import manifest_data
from coefvq.data.options import at_least_one, fractions, one_of, share_out
from coefvq.data.pairs.table_data import pair_data

FLAT = pytest.mark.parametrize("make", [manifest_data, pair_data])
"""Makers of data from flat words; both take what is said of reading clips in the same way."""


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


@FLAT
def test_one_text_field_may_be_a_word(make):
    for text in ("ocr", ["ocr"], ("ocr",)):
        data = make("a.csv", text=text)
        assert data.source.text == data.inputs.text_fields == ("ocr",)


@FLAT
def test_training_frames_are_drawn_as_the_others_unless_said(make):
    assert make("a.csv", sampling="per_second").inputs.train_sampling == "per_second"
    inputs = make("a.csv", train_sampling="random_segments").inputs
    assert (inputs.sampling, inputs.train_sampling) == ("uniform", "random_segments")


@FLAT
@pytest.mark.parametrize(("word", "checked"), [("error", True), ("skip", False)])
def test_files_that_are_missing_are_left_out_where_bad_clips_are(make, word, checked):
    data = make("a.csv", on_bad_clip=word)
    assert data.on_bad_clip == word and data.source.check_files is checked
