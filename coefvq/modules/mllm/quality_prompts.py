"""Questions about quality, as data: several wordings of each, and the answers that count.

The package's own are in quality_prompts.json; a file of the same form takes their place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

QuestionKind = Literal["score", "level"]
"""For a number from 0 to 100, or for one of the level words, the best first."""

NUMBERS = tuple(str(number) for number in range(101))
"""Answers to a question for a score."""

VIDEO = "{video}"


@dataclass(frozen=True)
class Question:
    """One question whose words have been turned into token ids; saved with the model.

    Args:
        kind: what is asked for.
        before: what stands in front of the video.
        after: what stands behind it, wording by wording; the answer follows.
        answers: token ids of each answer.
        end: the token that closes an answer.
    """

    kind: QuestionKind
    before: tuple[int, ...]
    after: tuple[tuple[int, ...], ...]
    answers: tuple[tuple[int, ...], ...]
    end: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "before", tuple(self.before))
        for name in ("after", "answers"):
            object.__setattr__(self, name, tuple(tuple(part) for part in getattr(self, name)))


def read_prompts(path: str | Path | None = None) -> dict[str, Any]:
    """Read prompts from a JSON file; None: the package's own.

    Raises:
        ValueError: no such file, or one of another form.
    """
    if path is None:
        source = files("coefvq.modules.mllm") / "quality_prompts.json"
        values: dict[str, Any] = json.loads(source.read_text(encoding="utf-8"))
        return values
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"prompts {path} cannot be read: {error}; give a JSON file") from None
    check_prompts(values, str(path))
    return values


def check_prompts(values: Any, source: str) -> None:
    """Refuse prompts of another form than the package's own.

    Raises:
        ValueError: something is missing; the sentence says what.
    """

    def wrong(what: str) -> ValueError:
        return ValueError(f"prompts {source}: {what}; see the package's quality_prompts.json")

    if not isinstance(values, Mapping) or not {"template", "score", "level"} <= values.keys():
        raise wrong("the keys template, score and level are expected")
    for slot in (VIDEO, "{question}", "{stem}"):
        if values["template"].count(slot) != 1:
            raise wrong(f"the template has to have {slot} once")
    if values["template"].index(VIDEO) > values["template"].index("{question}"):
        raise wrong("the video stands in front of the question")
    for kind in ("score", "level"):
        questions = values[kind].get("questions")
        if not questions or not all(isinstance(question, str) for question in questions):
            raise wrong(f"{kind} has no questions")
    words = values["level"].get("words", ())
    if len(set(words)) != len(words) or len(words) < 2:
        raise wrong("level has words, two or more, the best first")


def make_question(
    kind: QuestionKind, prompts: Mapping[str, Any], tokenizer: Any, vocab_size: int
) -> Question:
    """Turn the words of a question into token ids, once, when a model is made.

    Args:
        kind: which one.
        prompts: what `read_prompts` gave.
        tokenizer: the language model's, of transformers.
        vocab_size: V of the language model.

    Raises:
        ValueError: the tokenizer has no end token, cannot write an answer, or gives tokens that
            the model doesn't know.
    """
    if tokenizer.eos_token_id is None:
        raise ValueError(
            "the tokenizer has no end token, by which the model could close its answer; set its "
            "eos_token"
        )

    def ids(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False))

    first, second = prompts["template"].split(VIDEO)
    before = ids(first)
    begin = tokenizer.bos_token_id
    if begin is not None and before[:1] != [begin]:
        before = [begin, *before]
    stem = prompts[kind].get("stem", "")
    after = [
        ids(second.replace("{question}", question).replace("{stem}", stem).rstrip())
        for question in prompts[kind]["questions"]
    ]
    words: Sequence[str] = NUMBERS if kind == "score" else prompts["level"]["words"]
    # With the space in front of it, as a word in the middle of a text.
    answers = [ids(f" {word}") for word in words]
    for word, answer in zip(words, answers, strict=True):
        if not answer or tokenizer.unk_token_id in answer:
            raise ValueError(
                f"the tokenizer cannot write the answer {word!r} (it gives {answer}); give the "
                "tokenizer that belongs to the language model, or other words"
            )
    largest = max(token for part in [before, *after, *answers] for token in part)
    if max(largest, tokenizer.eos_token_id) >= vocab_size:
        raise ValueError(
            f"the tokenizer gives token {max(largest, tokenizer.eos_token_id)}, the language model "
            f"knows {vocab_size}; give the tokenizer that belongs to the language model or raise "
            "vocab_size"
        )
    return Question(
        kind,
        tuple(before),
        tuple(map(tuple, after)),
        tuple(map(tuple, answers)),
        tokenizer.eos_token_id,
    )


def small_tokenizer(prompts: Mapping[str, Any]) -> Any:
    """Make a tokenizer that knows the words of the prompts, and every digit; for random models.

    Returns:
        A `transformers.PreTrainedTokenizerFast`; the same prompts give the same one.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    normalizer = normalizers.Lowercase()
    splitter = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True)]
    )
    texts = [prompts["template"].replace("{", " ").replace("}", " "), *map(str, range(10))]
    for kind in ("score", "level"):
        texts += [prompts[kind].get("stem", ""), *prompts[kind]["questions"]]
    texts += prompts["level"]["words"]
    words = {
        word
        for text in texts
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
    }
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[END]", *sorted(words)])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.normalizer, inner.pre_tokenizer = normalizer, splitter
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", eos_token="[END]"
    )


__all__ = [
    "NUMBERS",
    "Question",
    "QuestionKind",
    "check_prompts",
    "make_question",
    "read_prompts",
    "small_tokenizer",
]
