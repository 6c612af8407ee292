"""Shapes of multimodal language models: defaults, round trips, refusals."""

import json

import pytest

from coefvq.modules.mllm.config import AudioConfig, BackboneConfig, LoraSettings, MLLMConfig


def test_plain_values_come_back():
    config = MLLMConfig(audio=AudioConfig(mode="late"), lora=LoraSettings(targets=["q_proj"]))
    assert MLLMConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    bare = MLLMConfig(audio=None, lora=None)
    assert MLLMConfig.from_dict(json.loads(json.dumps(bare.to_dict()))) == bare


def test_the_spread_of_random_weights_is_saved_only_where_it_was_chosen():
    """Else models of before would count as another architecture."""
    assert "init_std" not in MLLMConfig().to_dict()["audio"]
    chosen = MLLMConfig(audio=AudioConfig(init_std=0.1))
    assert chosen.to_dict()["audio"]["init_std"] == 0.1
    assert MLLMConfig.from_dict(chosen.to_dict()) == chosen


def test_plain_mappings_do_as_well():
    plain = {"rank": 4, "targets": ["q_proj"]}
    given = MLLMConfig({"width": 28}, {"mode": "late"}, plain)
    assert given == MLLMConfig(
        BackboneConfig(width=28), AudioConfig(mode="late"), LoraSettings(4, targets=("q_proj",))
    )
    assert MLLMConfig(audio=None, lora=None).lora is None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: BackboneConfig(family="llama"), "family 'llama' is unknown"),
        (lambda: BackboneConfig(dtype="float16"), "dtype 'float16' is unknown"),
        (lambda: BackboneConfig(width=10, heads=4), "heads=4 must divide width=10"),
        (lambda: BackboneConfig(vision_width=9, vision_heads=2), "vision_heads=2 must divide"),
        (lambda: BackboneConfig(heads=14, key_value_heads=4), "key_value_heads=4 must divide"),
        (lambda: AudioConfig(mode="early"), "audio mode 'early' is unknown"),
        (lambda: AudioConfig(init_std=0), "init_std must be above 0, got 0"),
        (lambda: MLLMConfig(answer_words=(True, False)), "put them into quotes"),
        (lambda: AudioConfig(stack=0), "stack is a number of tokens from 1"),
        (lambda: LoraSettings(rank=0), "rank of the adapters must be 1 or more"),
        (lambda: LoraSettings(rank="4"), "rank of the adapters must be 1 or more, got '4'"),
        (lambda: MLLMConfig(lora={"r": 4}), "lora has no word r; give a mapping with some of rank"),
        (lambda: MLLMConfig(lora=4), "lora has no word 4; give a mapping"),
        (lambda: MLLMConfig(audio={"mood": 1}), "audio has no word mood"),
        (lambda: MLLMConfig(read_out="word"), "read_out 'word' is unknown"),
        (lambda: MLLMConfig(answer_words=("yes",)), "answer_words are the word for 1 and"),
        (lambda: MLLMConfig(train_language=True), "lora and train_language were both given"),
        (
            lambda: MLLMConfig(read_out="yes_no", audio=AudioConfig(mode="late")),
            "audio mode 'late' joins sound to the head's input",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make()
