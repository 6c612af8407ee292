"""Layouts of a causal sequence: words, slots, token ids."""

import dataclasses
import json

import pytest
from small_mllm import LetterTokenizer

from coefvq.modules.mllm.prompt import Prompt, Slot, Words, make_prompt, parse_layout


def test_a_layout_is_words_and_slots_in_order():
    parts = parse_layout(" Same? {text_1}{video_1} then  {video_2} ")
    assert parts == ("Same?", Slot("text", 0), Slot("video", 0), "then", Slot("video", 1))


def test_words_are_encoded_once_and_stand_in_their_places():
    prompt = make_prompt("ab {video} c", LetterTokenizer(), vocab_size=40)
    assert prompt.parts() == (Words((8, 9)), Slot("video", 0), Words((10,)))


def test_a_layout_of_slots_needs_no_tokenizer():
    assert make_prompt("{video} {audio}", None, vocab_size=1).ids == ()


def test_a_prompt_comes_back_from_json():
    tokenizer = LetterTokenizer("yes", "no")
    prompt = make_prompt("ab {video}", tokenizer, vocab_size=60, answer_words=("yes", "no"))
    assert prompt.answer_ids == (40, 41)
    assert Prompt.from_dict(json.loads(json.dumps(dataclasses.asdict(prompt)))) == prompt


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ("{film}", "unknown slot {film}"),
        ("{video_3}", "unknown slot {video_3}"),
        ("{video} {video_1}", "slot {video_1} twice"),
        ("only words", "has no slot"),
    ],
)
def test_layouts_that_make_no_sense_are_refused(layout, words):
    with pytest.raises(ValueError, match=words):
        parse_layout(layout)


def test_words_without_a_tokenizer_are_refused():
    with pytest.raises(ValueError, match=r"words \['Same\?'\] need a tokenizer"):
        make_prompt("Same? {video}", None, vocab_size=10)
    with pytest.raises(ValueError, match="need a tokenizer"):
        make_prompt("{video}", None, vocab_size=10, answer_words=("yes", "no"))


def test_an_answer_of_several_tokens_is_refused():
    with pytest.raises(ValueError, match="'no' is 2 tokens"):
        make_prompt("{video}", LetterTokenizer("yes"), vocab_size=60, answer_words=("yes", "no"))


def test_answers_that_are_one_token_are_refused():
    with pytest.raises(ValueError, match="one and the same token"):
        make_prompt("{video}", LetterTokenizer("yes"), vocab_size=60, answer_words=("yes", "yes"))


def test_a_tokenizer_of_another_model_is_refused():
    with pytest.raises(ValueError, match="gives token 9, the language model knows 9"):
        make_prompt("ab {video}", LetterTokenizer(), vocab_size=9)
