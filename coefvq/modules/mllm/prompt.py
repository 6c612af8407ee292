"""The order of things in a causal sequence: words, and slots for what a clip brings along."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

SlotKind = Literal["video", "audio", "text"]
"""What of a clip stands in a slot."""

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")

SLOT = re.compile(r"\{([^{}]*)\}")


class PromptTokenizer(Protocol):
    """What is asked of a tokenizer here: Hugging Face's own `encode`."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of a text."""


@dataclass(frozen=True)
class Slot:
    """A place in the sequence.

    Args:
        kind: what stands there.
        clip: of which clip, from 0.
        field: name of one text field; None: all of them, joined.
        label: words in front of the content; they go where there is none.
    """

    kind: SlotKind
    clip: int
    field: str | None = None
    label: str = dataclasses.field(default="", compare=False)


@dataclass(frozen=True)
class Words:
    """A part of the prompt.

    Args:
        ids: its token ids.
        slot: the slot whose label it is; None: it stands for itself.
    """

    ids: tuple[int, ...]
    slot: Slot | None = None


@dataclass(frozen=True)
class Prompt:
    """A layout whose words have been turned into token ids; saved with the model.

    Args:
        layout: words and slots, as `parse_layout` reads them.
        ids: token ids of each part that is words or a slot's label, in order.
        answer_ids: ids of the two answer words; None for a read-out without words.
        fields: names of the text fields in the order of a batch's `field_ids`; only where the
            layout has slots for them.
    """

    layout: str
    ids: tuple[tuple[int, ...], ...] = ()
    answer_ids: tuple[int, int] | None = None
    fields: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", tuple(tuple(part) for part in self.ids))
        object.__setattr__(self, "fields", tuple(self.fields))
        if self.answer_ids is not None:
            object.__setattr__(self, "answer_ids", tuple(self.answer_ids))

    def parts(self) -> tuple[Words | Slot, ...]:
        """What the sequence is made of, in order."""
        ids = iter(self.ids)
        parts: list[Words | Slot] = []
        for part in parse_layout(self.layout):
            if isinstance(part, str):
                parts.append(Words(next(ids)))
                continue
            if part.label:
                parts.append(Words(next(ids), part))
            parts.append(part)
        return tuple(parts)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; without `fields` where there are none, as in older models."""
        values = asdict(self)
        if not self.fields:
            del values["fields"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Prompt:
        """Make a prompt from what `to_dict` gave."""
        return cls(**values)


def parse_layout(layout: str) -> tuple[str | Slot, ...]:
    """Split a layout into words and slots.

    Slots are `{video}`, `{audio}` and `{text}` for one clip, with `_1` and `_2` for two. A field of
    its own is `{text:title}`. Behind a bar stands a label, which comes before the content and is
    left out where there is none: `{text:title|Title:}`. White space beside slots does not count.

    Raises:
        ValueError: an unknown slot, a slot that stands twice, or no slot at all.

    Example:
        >>> same, first, *_ = parse_layout("Same? {text_1:title|Title:} {video_1} {video_2}")
        >>> same, first
        ('Same?', Slot(kind='text', clip=0, field='title', label='Title:'))
    """
    parts: list[str | Slot] = []
    for place, piece in enumerate(SLOT.split(layout)):
        if place % 2 == 0:
            if piece.strip():
                parts.append(piece.strip())
            continue
        written, _, label = piece.partition("|")
        name, colon, own = (word.strip() for word in written.partition(":"))
        kind, _, number = name.partition("_")
        known = kind in get_args(SlotKind) and number in ("", "1", "2")
        if not known or (colon and (kind != "text" or not own)):
            raise ValueError(
                f"layout has an unknown slot {{{piece}}}; use "
                f"{', '.join(f'{{{kind}}}' for kind in get_args(SlotKind))}, with _1 or _2 "
                "where there are two clips, or {text:name} for a text field of its own"
            )
        clip = int(number or 1) - 1
        slot = Slot(kind, clip, own or None, label.strip())  # type: ignore[arg-type]
        if slot in parts:
            raise ValueError(f"layout has the slot {{{piece}}} twice; a slot stands once")
        parts.append(slot)
    if not any(isinstance(part, Slot) for part in parts):
        raise ValueError(f"layout {layout!r} has no slot; put at least {{video}} into it")
    return tuple(parts)


def make_prompt(
    layout: str,
    tokenizer: PromptTokenizer | None,
    *,
    vocab_size: int,
    answer_words: Sequence[str] | None = None,
    fields: Sequence[str] = (),
) -> Prompt:
    """Turn the words of a layout into token ids, once, when a model is made.

    Args:
        layout: see `parse_layout`.
        tokenizer: the language model's; None: only for a layout without words.
        vocab_size: V of the language model.
        answer_words: the words for 1 and 0 whose token ids the read-out needs; None: not needed.
        fields: text fields that the data hand out one by one, in their order.

    Raises:
        ValueError: words without a tokenizer, an answer word that is not one token, a token
            that the language model does not know, or a slot for a field that is not there.
    """
    parts = parse_layout(layout)
    words = [part if isinstance(part, str) else part.label for part in parts]
    words = [word for word in words if word]
    wanted = {part.field for part in parts if isinstance(part, Slot)} - {None}
    if strange := sorted(wanted - set(fields)):
        raise ValueError(
            f"layout has slots for the text fields {strange}, the data have {list(fields)}; name "
            "them in the data's text fields, or take the slots out of the layout"
        )
    fields = tuple(fields) if wanted else ()
    if tokenizer is None:
        if words or answer_words is not None:
            raise ValueError(
                f"the prompt's words {words or list(answer_words or ())} need a tokenizer, got "
                "None; give the tokenizer of the language model, or a layout of slots alone"
            )
        return Prompt(layout, fields=fields)
    ids = [tuple(tokenizer.encode(text, add_special_tokens=False)) for text in words]
    answers = None
    if answer_words is not None:
        answers = []
        for word in answer_words:
            tokens = tokenizer.encode(word, add_special_tokens=False)
            if len(tokens) != 1:
                raise ValueError(
                    f"answer word {word!r} is {len(tokens)} tokens for this tokenizer, a yes/no "
                    "read-out needs one; choose other answer_words or read_out='head'"
                )
            answers.append(tokens[0])
        if answers[0] == answers[1]:
            raise ValueError(
                f"answer words {tuple(answer_words)} are one and the same token for this "
                "tokenizer; choose other answer_words or read_out='head'"
            )
    largest = max((i for part in [*ids, answers or ()] for i in part), default=-1)
    if largest >= vocab_size:
        raise ValueError(
            f"the tokenizer gives token {largest}, the language model knows {vocab_size}; "
            "give the tokenizer that belongs to the language model or raise vocab_size"
        )
    pair = None if answers is None else (answers[0], answers[1])
    return Prompt(layout, tuple(ids), pair, fields)


def check_tokenizer(tokenizer: PromptTokenizer | None, source: str | None) -> None:
    """Refuse words of a small tokenizer that was trained on the spot for a checkpoint.

    Its ids are within the checkpoint's vocabulary, and mean other words there.

    Args:
        tokenizer: None: nothing is known about it.
        source: where the language model's weights come from; None: they are random.

    Raises:
        ValueError: as above.
    """
    if source is not None and getattr(tokenizer, "name_or_path", None) == "":
        folder = Path(source)
        bare = folder.is_dir() and not any((folder / name).is_file() for name in _TOKENIZER_FILES)
        raise ValueError(
            f"the language model {source!r} has its own tokenizer, but texts are read with one "
            "that was trained on the data; "
            + (
                "the folder holds none: save the model's tokenizer into it with save_pretrained, "
                "and then "
                if bare
                else ""
            )
            + f"set data.tokenizer={source}"
        )


__all__ = [
    "Prompt",
    "PromptTokenizer",
    "Slot",
    "SlotKind",
    "Words",
    "check_tokenizer",
    "make_prompt",
    "parse_layout",
]
