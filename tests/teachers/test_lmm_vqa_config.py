"""The shape of LMM-VQA: which words go together, and back from plain values."""

import json

import pytest
from small_lmm_vqa import LORA, VIDEOMAE, small_config

from coefvq.teachers.lmm_vqa_config import LMMVQAConfig


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"read_out": "words"}, "read_out 'words' is unknown; choose one of number, level, head"),
        ({"decoding": "beam"}, "decoding 'beam' is unknown; choose one of expectation, greedy"),
        ({"uncertainty": "none"}, "uncertainty 'none' is unknown; choose one of spread, wordings"),
        ({"questions": ()}, "questions are one or more of score, level, each once"),
        ({"questions": ("score", "score")}, "questions are one or more of score, level, each once"),
        ({"questions": ("score", "why")}, "question 'why' is unknown; choose from score, level"),
        (
            {"questions": ("level",)},
            r"read_out 'number' reads .* 'score', which is not asked; add it to .*\['level'\]",
        ),
        (
            {"questions": ("score",), "read_out": "level"},
            "reads the answer to the question 'level'",
        ),
        ({"test_wordings": 0}, "test_wordings=0 is too few: one is asked"),
        ({"uncertainty": "wordings"}, "test_wordings=1 is too few: one is asked, and two or more"),
        ({"lora": LORA, "train_language": True}, "lora and train_language were both given; adapt"),
    ],
)
def test_what_cannot_be_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        small_config(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"questions": ["level"], "read_out": "level"},
        {"questions": ["level"], "read_out": "head"},  # it reads no answer
        {"uncertainty": "wordings", "test_wordings": 2},
        {"train_language": True},
        {"lora": LORA},
    ],
)
def test_what_can_be_passes(options):
    config = small_config(**options)
    assert isinstance(config.questions, tuple)
    for name, value in options.items():
        assert getattr(config, name) == (tuple(value) if name == "questions" else value)


@pytest.mark.parametrize(("kind", "tokens"), [("mean", "mean"), ("interleaved", "frames")])
def test_the_encoders_tokens_follow_from_the_projector(kind, tokens):
    assert small_config(kind).encoder.tokens == tokens


@pytest.mark.parametrize("lora", [None, LORA], ids=["plain", "lora"])
@pytest.mark.parametrize("motion", [None, VIDEOMAE], ids=["pictures", "motion"])
def test_it_comes_back_from_a_file_of_json(motion, lora):
    config = small_config("interleaved", motion, lora=lora, read_out="head", test_wordings=3)
    values = json.loads(json.dumps(config.to_dict()))
    assert LMMVQAConfig.from_dict(values) == config
    values["test_wordings"] = 2
    assert LMMVQAConfig.from_dict(values) != config
