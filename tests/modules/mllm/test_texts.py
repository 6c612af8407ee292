"""Texts in a sequence: joined or field by field; what is empty leaves no token."""

import dataclasses

import pytest
import torch
from small_mllm import random_clips

from coefvq.modules.mllm.prompt import Slot
from coefvq.modules.mllm.texts import text_pieces


def embed(ids):
    return ids[:, None].float()


def tokens(slot, clip, fields=()):
    return [piece.tokens[:, 0].tolist() for piece in text_pieces(slot, clip, fields, embed)]


@pytest.fixture
def clip():
    ids = torch.tensor([[[1, 2, 9], [3, 9, 9]], [[9, 9, 9], [4, 5, 6]], [[9, 9, 9], [9, 9, 9]]])
    return dataclasses.replace(random_clips(3), field_ids=ids, field_mask=ids < 9)


def test_a_field_gives_its_tokens_that_count(clip):
    assert tokens(Slot("text", 0, "title"), clip, ("title", "ocr")) == [[1, 2], [], []]
    assert tokens(Slot("text", 0, "ocr"), clip, ("title", "ocr")) == [[3], [4, 5, 6], []]


def test_joined_texts_come_from_the_other_tensor(clip):
    want = [row[mask].tolist() for row, mask in zip(clip.input_ids, clip.text_mask, strict=True)]
    assert tokens(Slot("text", 0), clip, ("title", "ocr")) == want
    bare = dataclasses.replace(clip, input_ids=None, text_mask=None)
    assert tokens(Slot("text", 0), bare) == [[], [], []]


def test_without_a_mask_all_counts(clip):
    whole = dataclasses.replace(clip, field_mask=None)
    assert tokens(Slot("text", 0, "ocr"), whole, ("title", "ocr"))[0] == [3, 9, 9]


def test_fields_that_are_not_there_are_said(clip):
    slot = Slot("text", 0, "ocr")
    with pytest.raises(ValueError, match=r"slot {text:ocr}, but the batch has its texts only as"):
        tokens(slot, random_clips(3), ("title", "ocr"))
    with pytest.raises(ValueError, match=r"has 2 text fields, the model was made for \['ocr'\]"):
        tokens(slot, clip, ("ocr",))
