from pathlib import Path

import pytest

from coefvq.serving.options import check_installed, log_folder, read_options

DEFAULTS = {"cascade": "", "port": 8000, "seconds": 1.5}


def test_words_become_values_of_the_defaults_type():
    found = read_options(["cascade=a=b", "port=9", "seconds=3"], DEFAULTS)
    assert found == {"cascade": "a=b", "port": 9, "seconds": 3.0}
    assert isinstance(found["seconds"], float)
    assert read_options(["cascade=x"], DEFAULTS) == DEFAULTS | {"cascade": "x"}
    assert DEFAULTS["cascade"] == ""


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["cascade=x", "prot=1"], "'prot=1' is none of cascade=…, port=…, seconds=…"),
        (["cascade"], "'cascade' is none of"),
        (["cascade=x", "port=many"], "port=many must be a number, like 8000"),
        (["port=1"], "cascade=… is not given"),
    ],
)
def test_what_cannot_be_read_is_said(words, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_options(words, DEFAULTS)


def test_answers_are_written_down_only_where_a_folder_is_given():
    assert log_folder({"log": "none"}) is None
    assert log_folder({"log": "answers"}) == Path("answers")


def test_packages_that_are_not_there_are_named_with_their_extra():
    check_installed("ray", "json", "pathlib")
    sentence = r'^no_such_thing is not installed; run pip install -e "\.\[ray\]" in the checkout'
    with pytest.raises(ValueError, match=sentence):
        check_installed("ray", "json", "no_such_thing")
