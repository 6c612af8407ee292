"""Layouts of a causal sequence: words, slots, token ids."""

import dataclasses
import json

import pytest
from small_mllm import LetterTokenizer

from coefvq.data.text import load_tokenizer, train_tokenizer
from coefvq.modules.mllm.prompt import (
    Prompt,
    Slot,
    Words,
    check_tokenizer,
    make_prompt,
    parse_layout,
)


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


def test_a_field_of_its_own_may_have_a_label():
    prompt = make_prompt(
        "ab {text:title|c} {text:ocr} {audio | ab}",
        LetterTokenizer(),
        vocab_size=40,
        fields=("title", "ocr"),
    )
    title, ocr, audio = Slot("text", 0, "title"), Slot("text", 0, "ocr"), Slot("audio", 0)
    assert prompt.ids == ((8, 9), (10,), (8, 9))
    assert prompt.parts() == (
        Words((8, 9)), Words((10,), title), title, ocr, Words((8, 9), audio), audio
    )  # fmt: skip
    assert prompt.fields == ("title", "ocr")
    assert Prompt.from_dict(json.loads(json.dumps(prompt.to_dict()))) == prompt


def test_a_field_of_a_pairs_second_clip():
    assert parse_layout("{text_2:title}{video_2}")[0] == Slot("text", 1, "title")


def test_a_prompt_without_fields_is_saved_as_it_always_was():
    prompt = make_prompt("{text} {video}", None, vocab_size=40, fields=("title",))
    assert prompt.to_dict() == {"layout": "{text} {video}", "ids": (), "answer_ids": None}
    assert Prompt.from_dict(prompt.to_dict()) == prompt


@pytest.mark.parametrize("layout", ["{video:title}", "{text:}", "{text_3:title}", "{:title}"])
def test_slots_for_fields_that_make_no_sense_are_refused(layout):
    with pytest.raises(ValueError, match="unknown slot"):
        parse_layout(layout)


def test_a_field_twice_is_refused_whatever_its_label():
    with pytest.raises(ValueError, match="twice"):
        parse_layout("{text:title|a} {text:title|b}")


def test_a_field_that_the_data_lack_is_refused():
    with pytest.raises(ValueError, match=r"slots for the text fields \['ocr'\], the data have"):
        make_prompt("{text:ocr} {video}", None, vocab_size=9, fields=("title",))


def test_a_label_needs_a_tokenizer_too():
    with pytest.raises(ValueError, match=r"words \['Sound:'\] need a tokenizer"):
        make_prompt("{audio|Sound:}", None, vocab_size=10)


def test_a_checkpoint_is_not_fed_with_the_words_of_a_tokenizer_made_here():
    made = train_tokenizer(["a cat", "a dog"])
    check_tokenizer(made, None)
    check_tokenizer(LetterTokenizer(), "some/model")
    with pytest.raises(ValueError, match=r"set data\.tokenizer=some/model"):
        check_tokenizer(made, "some/model")


def test_the_remedy_for_a_foreign_tokenizer_can_be_followed(tmp_path):
    made = train_tokenizer(["a cat", "a cat"])
    with pytest.raises(ValueError, match=r"set data.tokenizer=hf/llava$") as caught:
        check_tokenizer(made, "hf/llava")
    assert "holds none" not in str(caught.value)
    with pytest.raises(ValueError, match="the folder holds none: save the model's tokenizer into"):
        check_tokenizer(made, str(tmp_path))
    made.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"on the data; set data\.tokenizer=") as caught:
        check_tokenizer(made, str(tmp_path))
    check_tokenizer(load_tokenizer(tmp_path), str(tmp_path))
