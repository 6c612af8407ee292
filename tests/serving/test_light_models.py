import copy
import dataclasses
from pathlib import Path

import pytest
import torch

from coefvq.data.reader import collate
from coefvq.serving.light_models import LightModels, light_folders, load_light
from coefvq.serving.served_model import load_served


@pytest.fixture(scope="module")
def model(finished_cascade):
    return load_served(finished_cascade / "student")


def test_all_answer_in_one_stack(model, cascade_clips):
    both = LightModels((model, model))
    batch = collate([both.reader().read(clip) for clip in cascade_clips[:3]])
    found = both.logits(batch, cascade_clips[:3])
    assert found.shape == (2, 3)
    torch.testing.assert_close(found[1], model.logits(batch))
    assert both.fingerprint == f"{model.fingerprint}+{model.fingerprint}"
    assert both.to("cpu") is both and both.task == model.task and both.inputs == model.inputs


def test_each_model_gets_texts_in_its_own_words(model, cascade_clips):
    """One of two has another vocabulary: it is decoded once, and asked as if it were alone."""
    words = copy.deepcopy(model.tokenizer)
    words.add_tokens(sorted({w for c in cascade_clips for w in c.text["title"].split()}))
    assert words.get_vocab() != model.tokenizer.get_vocab()
    unknown = words.unk_token_id

    class Folded(torch.nn.Module):
        """The same model, which takes every new word for an unknown one."""

        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, batch):
            ids = torch.where(batch.input_ids < len(model.tokenizer), batch.input_ids, unknown)
            return self.module(dataclasses.replace(batch, input_ids=ids))

    other = dataclasses.replace(model, tokenizer=words, module=Folded(model.module))
    clips = cascade_clips[:3]
    both = LightModels((model, other))
    found = both.logits(collate([both.reader().read(clip) for clip in clips]), clips)
    for row, member in zip(found, both.members, strict=True):
        own = member.logits(collate([member.reader().read(clip) for clip in clips]))
        torch.testing.assert_close(row, own)
    assert not torch.equal(found[0], found[1])


def test_one_folder_is_one_model(finished_cascade, model):
    folder = finished_cascade / "student"
    assert light_folders(str(folder)) == light_folders([folder]) == (folder,)
    assert load_light((folder,)).fingerprint == model.fingerprint


def test_what_cannot_be_one_is_said(model):
    task = dataclasses.replace(model.task, classes=("quiet", "loud"))
    inputs = dataclasses.replace(model.inputs, num_frames=1)
    for members, sentence in (
        ((model,), "two or more, got 1"),
        ((model, dataclasses.replace(model, task=task)), "must be of one task"),
        ((model, dataclasses.replace(model, inputs=inputs)), "read a clip in different ways"),
    ):
        with pytest.raises(ValueError, match=sentence):
            LightModels(members)
    with pytest.raises(ValueError, match="names no model"):
        light_folders([])
    with pytest.raises(ValueError, match="names a model twice"):
        light_folders([Path("a"), "b", "./a"])
