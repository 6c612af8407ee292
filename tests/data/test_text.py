import subprocess
import sys

import pytest
import torch

from coefvq.data.text import (
    encode,
    encode_fields,
    join_fields,
    load_tokenizer,
    make_tokenizer,
    tokenizer_words,
    train_tokenizer,
)
from coefvq.types import Clip

TEXTS = ["A cat plays with yarn", "the CAT sleeps", "dogs run", "Dogs run home"]


def test_the_same_texts_give_the_same_tokenizer_in_every_process():
    script = (
        "from coefvq.data.text import train_tokenizer\n"
        f"print(sorted(train_tokenizer({TEXTS!r}, 60).get_vocab().items()))"
    )
    there = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout
    here = sorted(train_tokenizer(reversed(TEXTS), 60).get_vocab().items())
    assert there.decode().strip() == str(here)


def test_words_that_come_twice_get_a_token_and_others_are_spelt():
    tokenizer = train_tokenizer(TEXTS, 100)
    assert tokenizer.tokenize("CAT") == ["cat"]
    assert tokenizer.tokenize("yarn") == ["y", "##a", "##r", "##n"]
    assert tokenizer.tokenize("☃") == ["[UNK]"]
    assert tokenizer.decode(encode(["dogs run"], tokenizer, 8)[0][0]).startswith("[CLS] dogs run")


def test_the_vocabulary_keeps_its_bound():
    assert len(train_tokenizer(TEXTS * 2, 12)) == 12
    assert len(train_tokenizer([], 12)) == 5
    with pytest.raises(ValueError, match="vocab_size must be above 5"):
        train_tokenizer(TEXTS, 5)


def test_encode_pads_cuts_and_marks():
    tokenizer = train_tokenizer(TEXTS, 100)
    ids, mask = encode(["cat", "", "cat " * 20], tokenizer, 6)
    cat = tokenizer.convert_tokens_to_ids("cat")
    assert ids.dtype == torch.int64 and mask.dtype == torch.bool
    assert ids.tolist() == [[2, cat, 3, 0, 0, 0], [2, 3, 0, 0, 0, 0], [2, cat, cat, cat, cat, 3]]
    assert mask.sum(1).tolist() == [3, 2, 6]
    assert encode([], tokenizer, 6)[0].shape == (0, 6)


def test_fields_are_joined_by_the_separator_token():
    tokenizer = train_tokenizer(TEXTS, 100)
    joined = join_fields({"title": "cat", "overlay": "run"}, ("title", "overlay"))
    cat, run = tokenizer.convert_tokens_to_ids(["cat", "run"])
    assert encode([joined], tokenizer, 6)[0][0].tolist() == [2, cat, 3, run, 3, 0]
    # Which field a text comes from must not depend on whether the other one is there.
    assert join_fields({"overlay": "run"}, ("title", "overlay")) == "[SEP] run"


def test_a_saved_tokenizer_comes_back(tmp_path):
    tokenizer = train_tokenizer(TEXTS, 100)
    tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.get_vocab() == tokenizer.get_vocab()
    texts = ["A cat [SEP] runs", "", "unseen"]
    for first, second in zip(encode(texts, tokenizer, 9), encode(texts, again, 9), strict=True):
        assert torch.equal(first, second)


def test_a_tokenizer_without_special_tokens_still_gives_a_first_position(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({"<end>": 0, "cat": 1, "<unk>": 2}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    plain = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>", unk_token="<unk>")
    plain.save_pretrained(tmp_path)
    ids, mask = encode(["", "cat"], load_tokenizer(tmp_path), 3)
    assert ids.tolist() == [[0, 0, 0], [1, 0, 0]]
    assert mask.tolist() == [[True, False, False]] * 2


def test_an_unknown_tokenizer_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"tokenizer .* could not be loaded; give a folder"):
        load_tokenizer(tmp_path / "nothing")


def test_no_text_fields_no_tokenizer(tmp_path):
    clips = [Clip("a", tmp_path, {"title": "cat cat"})]
    assert make_tokenizer(clips, (), None, 50) is None
    assert "cat" in make_tokenizer(clips, ("title",), None, 50).get_vocab()


def test_fields_are_encoded_one_by_one_without_special_tokens():
    tokenizer = train_tokenizer(["a cat", "a cat", "a dog", "a dog"])
    texts = [{"title": "a cat a dog", "ocr": " "}, {"ocr": "dog"}]
    ids, mask = encode_fields(texts, ("title", "ocr"), tokenizer, 3)
    assert ids.shape == mask.shape == (2, 2, 3)
    assert mask.tolist() == [[[1, 1, 1], [0, 0, 0]], [[0, 0, 0], [1, 0, 0]]]
    assert tokenizer.convert_ids_to_tokens(ids[0, 0]) == ["a", "cat", "a"]
    assert tokenizer.convert_ids_to_tokens(ids[1, 1][:1]) == ["dog"]
    assert encode_fields([], ("title",), tokenizer, 3)[0].shape == (0, 1, 3)


def test_words_can_be_kept_whole():
    plain, whole = train_tokenizer(TEXTS, 60), train_tokenizer(TEXTS, 60, ("Yes", "no", "cat"))
    assert len(plain.tokenize("yes")) == 3 and whole.tokenize("yes NO cat") == ["yes", "no", "cat"]
    # What both have stands first and in the same order, and the bound is kept.
    assert set(whole.get_vocab()) - set(plain.get_vocab()) == {"yes", "no"}
    assert len(train_tokenizer(TEXTS, 40, ("yes", "no"))) <= 40


def test_a_fingerprint_tells_tokenizers_apart(tmp_path):
    told = [
        tokenizer_words(None, 2000),
        tokenizer_words(None, 100),
        tokenizer_words(None, 2000, ("yes", "no")),
        tokenizer_words("some/name", 2000),
    ]
    assert len(set(told)) == len(told)
    assert tokenizer_words(tmp_path, 1) == tokenizer_words(str(tmp_path), 2, ("yes",))
