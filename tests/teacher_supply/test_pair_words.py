import pytest

from coefvq.teacher_supply.words import check_teacher_words


def made(**words):
    """`teacher.pretraining` with some words of its own."""
    every = {"max_steps": 2, "lr": 0.001, "clips": 4} | words
    return f"teacher.pretraining={{{', '.join(f'{key}: {value}' for key, value in every.items())}}}"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["teacher.pretraining=true"], "is null or max_steps, lr and clips, got True"),
        (["+teacher.pretraining.step=3"], r"got \['clips', 'lr', 'max_steps', 'step'\]"),
        ([made(max_steps=0)], r"pretraining\.max_steps is a whole number from 1, got 0"),
        ([made(max_steps="many")], r"pretraining\.max_steps is a whole number from 1, got 'many'"),
        ([made(clips=1)], r"pretraining\.clips is a whole number from 2, got 1"),
        ([made(lr=0)], r"pretraining\.lr is a number above 0, got 0"),
        ([made(lr=-1)], r"pretraining\.lr is a number above 0, got -1"),
        ([made(lr="nan")], r"pretraining\.lr is a number above 0, got nan"),
        ([made(lr="inf")], r"pretraining\.lr is a number above 0, got inf"),
        (["teacher.model.frame_split=static"], r"static changes nothing: twice .*below 16"),
    ],
)
def test_what_makes_no_teacher_of_pairs_is_a_sentence(words, sentence, small, tmp_path):
    cfg = small("+recipe=matchlm2lite", *words, folder=tmp_path)
    with pytest.raises(ValueError, match=sentence):
        check_teacher_words(cfg)


def test_what_does_something_is_taken(small, tmp_path):
    for words in (
        ["teacher.model.frame_split=static", "teacher.model.frame_budget=8"],
        [made(max_steps=1, clips=2)],
        ["teacher.pretraining=null"],
    ):
        check_teacher_words(small("+recipe=matchlm2lite", *words, folder=tmp_path))
