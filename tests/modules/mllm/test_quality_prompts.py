"""Prompts as data: the package's own, a user's file, token ids, refusals."""

import copy
import json

import pytest

from coefvq.modules.mllm.answers import AnswerTree
from coefvq.modules.mllm.quality_prompts import (
    NUMBERS,
    Question,
    check_prompts,
    make_question,
    read_prompts,
    small_tokenizer,
)

OWN = read_prompts()
TOKENIZER = small_tokenizer(OWN)


def test_the_packages_own_have_several_wordings_of_both_questions():
    check_prompts(OWN, "own")
    assert OWN["level"]["words"] == ["excellent", "good", "fair", "poor", "bad"]
    for kind in ("score", "level"):
        questions = OWN[kind]["questions"]
        assert len(set(questions)) == len(questions) >= 10
    assert all("100" in question for question in OWN["score"]["questions"])
    assert all(all(w in q for w in OWN["level"]["words"]) for q in OWN["level"]["questions"])


def test_the_small_tokenizer_knows_every_word_and_is_always_the_same():
    assert TOKENIZER.get_vocab() == small_tokenizer(OWN).get_vocab()
    for kind in ("score", "level"):
        for question in OWN[kind]["questions"]:
            assert TOKENIZER.unk_token_id not in TOKENIZER.encode(question)
    assert len(TOKENIZER.encode("100")) == 3


@pytest.mark.parametrize("kind", ["score", "level"])
def test_words_become_ids(kind):
    question = make_question(kind, OWN, TOKENIZER, len(TOKENIZER))
    words = NUMBERS if kind == "score" else OWN["level"]["words"]
    assert [TOKENIZER.decode(a).replace(" ", "") for a in question.answers] == list(words)
    text = OWN[kind]["questions"][3] + " " + OWN[kind]["stem"]
    assert list(question.after[3]) == TOKENIZER.encode(text)
    assert question.before == () and question.end == TOKENIZER.eos_token_id
    AnswerTree(question.answers, question.end)
    again = Question(**json.loads(json.dumps(vars(question))))
    assert again == question


def test_a_begin_token_stands_in_front():
    tokenizer = small_tokenizer(OWN)
    tokenizer.bos_token = "[PAD]"
    prompts = {**OWN, "template": "good {video} {question} {stem}"}
    question = make_question("level", prompts, tokenizer, len(tokenizer))
    assert question.before == (0, *TOKENIZER.encode("good"))


def test_a_users_own_file(tmp_path):
    own = {
        "template": "{video} {question} {stem}",
        "score": {"questions": ["good?"]},
        "level": {"questions": ["bad?"], "words": ["good", "bad"]},
    }
    (tmp_path / "p.json").write_text(json.dumps(own))
    prompts = read_prompts(tmp_path / "p.json")
    assert len(make_question("level", prompts, small_tokenizer(prompts), 99).answers) == 2


def change(path, value):
    prompts = copy.deepcopy(OWN)
    here = prompts
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = value
    return prompts


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        ({}, "the keys template, score and level are expected"),
        (change(["template"], "{question} {stem}"), r"has to have \{video\} once"),
        (change(["template"], "{question} {video} {stem}"), "the video stands in front"),
        (change(["score", "questions"], []), "score has no questions"),
        (change(["level", "words"], ["good"]), "level has words, two or more"),
    ],
)
def test_prompts_of_another_form_are_refused(prompts, words):
    with pytest.raises(ValueError, match=words):
        check_prompts(prompts, "p.json")


def test_tokenizers_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"the language model knows 7; give the tokenizer"):
        make_question("score", OWN, TOKENIZER, 7)
    with pytest.raises(ValueError, match="cannot write the answer 'superb'"):
        make_question("level", change(["level", "words"], ["superb", "bad"]), TOKENIZER, 200)
    endless = small_tokenizer(OWN)
    endless.eos_token = None
    with pytest.raises(ValueError, match="the tokenizer has no end token"):
        make_question("level", OWN, endless, 200)
    with pytest.raises(ValueError, match="cannot be read"):
        read_prompts(tmp_path / "gone.json")
