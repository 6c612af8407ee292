"""Text to token ids: a Hugging Face tokenizer by name or folder, or a small one trained here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from coefvq.types import Clip

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""The first five entries of a trained vocabulary, in this order (BERT's words for them)."""


class Tokens(NamedTuple):
    """Texts of N clips as token ids; what is not read is None.

    Args:
        input_ids: (N, T) int64, all fields in one text.
        text_mask: (N, T) bool.
        field_ids: (N, K, T) int64, the fields one by one.
        field_mask: (N, K, T) bool.
    """

    input_ids: Tensor | None = None
    text_mask: Tensor | None = None
    field_ids: Tensor | None = None
    field_mask: Tensor | None = None


def load_tokenizer(name: str | Path) -> Any:
    """Load a fast tokenizer from a folder or by its Hugging Face name; no code from there is run.

    A tokenizer without a padding token pads with its end-of-text token.

    Raises:
        ValueError: there is no such tokenizer, or it has neither a padding nor an end token.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(name), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"tokenizer {str(name)!r} could not be loaded; give a folder that holds a saved "
            "tokenizer (a model's folder holds its own) or a Hugging Face name; in training, null "
            "makes a small one from the manifest"
        ) from error
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ValueError(
                f"tokenizer {str(name)!r} has neither a padding token nor an end token; "
                "set its pad_token and save it again"
            )
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def make_tokenizer(
    clips: Sequence[Clip],
    fields: Sequence[str],
    name: str | Path | None,
    vocab_size: int,
    whole: Sequence[str] = (),
) -> Any:
    """Load the tokenizer `name`, or train one of at most `vocab_size` on the clips' `fields`.

    That one has the words of `whole` as single tokens.

    Returns:
        A Hugging Face tokenizer; None when there are no text fields to read.
    """
    if not fields:
        return None
    if name is not None:
        return load_tokenizer(name)
    texts = (clip.text.get(field, "") for clip in clips for field in fields)
    return train_tokenizer(texts, vocab_size, whole)


def tokenizer_words(name: str | Path | None, vocab_size: int, whole: Sequence[str] = ()) -> str:
    """What a fingerprint says of the tokenizer that `make_tokenizer` gives.

    >>> tokenizer_words(None, 2000, ("yes", "no")), tokenizer_words("bert", 2000)
    ('trained 2000 yes no', 'bert')
    """
    return str(name) if name else " ".join(("trained", str(vocab_size), *whole))


def train_tokenizer(texts: Iterable[str], vocab_size: int = 2000, whole: Sequence[str] = ()) -> Any:
    """Make a small lower-casing WordPiece tokenizer; the same texts always give the same one.

    Its vocabulary is the special tokens, the characters of the texts (as they begin and as they
    continue a word) and then the most frequent words that occur at least twice, ties in
    alphabetical order. Any other word is spelt from characters. (The trainer of the `tokenizers`
    library breaks ties by hash order, so two runs would read one text differently.)

    Args:
        texts: training texts; take them from the training split only.
        vocab_size: upper bound of the vocabulary, special tokens included.
        whole: words that become single tokens, seen or not: a prompt's answer words.

    Returns:
        A `transformers.PreTrainedTokenizerFast` that writes `[CLS] text [SEP]`.

    Raises:
        ValueError: `vocab_size` leaves no room beside the special tokens.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from tokenizers.decoders import WordPiece
    from transformers import PreTrainedTokenizerFast

    if vocab_size <= len(SPECIAL_TOKENS):
        raise ValueError(
            f"vocab_size must be above {len(SPECIAL_TOKENS)}, the number of special tokens, "
            f"got {vocab_size}"
        )
    normalizer = normalizers.BertNormalizer(lowercase=True)
    splitter = pre_tokenizers.BertPreTokenizer()
    words: Counter[str] = Counter()
    for text in texts:
        pieces = splitter.pre_tokenize_str(normalizer.normalize_str(text))
        words.update(word for word, _ in pieces)
    kept = [normalizer.normalize_str(word) for word in whole]
    vocabulary = {token: i for i, token in enumerate(_vocabulary(words, vocab_size, kept))}

    inner = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    inner.normalizer = normalizer
    inner.pre_tokenizer = splitter
    inner.decoder = WordPiece()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    pad, unknown, cls, sep, mask = SPECIAL_TOKENS
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=pad,
        unk_token=unknown,
        cls_token=cls,
        sep_token=sep,
        mask_token=mask,
    )


def _vocabulary(words: Counter[str], vocab_size: int, whole: Sequence[str]) -> list[str]:
    """Special tokens, characters (at most half of the room), frequent words, the `whole` ones."""
    room = vocab_size - len(SPECIAL_TOKENS)
    pieces: Counter[str] = Counter()
    for word, count in words.items():
        for place, character in enumerate(word):
            pieces["##" * (place > 0) + character] += count
    characters = sorted(pieces, key=lambda piece: (-pieces[piece], piece))[: max(1, room // 2)]
    last = [word for word in dict.fromkeys(whole) if word not in characters]
    frequent = sorted(
        (w for w, count in words.items() if count > 1 and w not in pieces and w not in last),
        key=lambda word: (-words[word], word),
    )
    left = max(0, room - len(characters) - len(last))
    return [*SPECIAL_TOKENS, *characters, *frequent[:left], *last]


def join_fields(text: Mapping[str, str], fields: Sequence[str], separator: str = "[SEP]") -> str:
    """Join a clip's text fields into one text.

    A field that is missing in the middle leaves its place empty, so that the model can tell
    a title from an overlay; missing fields at the end, and texts of blanks, leave nothing.

    >>> join_fields({"title": "a cat", "overlay": "meow"}, ("title", "overlay"))
    'a cat [SEP] meow'
    >>> join_fields({"title": " "}, ("title", "overlay"))
    ''
    """
    parts = [text.get(field, "").strip() for field in fields]
    while parts and not parts[-1]:
        parts.pop()
    return f" {separator} ".join(parts).strip()


def separator_of(tokenizer: Any) -> str:
    """The token that stands between two text fields."""
    return tokenizer.sep_token or tokenizer.eos_token or "|"


def encode(texts: Sequence[str], tokenizer: Any, max_length: int) -> tuple[Tensor, Tensor]:
    """Turn texts into token ids of one length.

    Args:
        texts: B texts.
        tokenizer: a Hugging Face tokenizer with a padding token.
        max_length: T; longer texts are cut, shorter ones padded on the right.

    Returns:
        input_ids (B, T) int64.
        text_mask (B, T) bool, True where a token counts; position 0 always does.
    """
    if not texts:
        empty = torch.zeros(0, max_length, dtype=torch.int64)
        return empty, empty.bool()
    encoded = tokenizer(
        list(texts),
        padding="max_length",
        padding_side="right",
        truncation=True,
        max_length=max_length,
        return_attention_mask=True,
    )
    input_ids = torch.tensor(encoded["input_ids"], dtype=torch.int64)
    mask = torch.tensor(encoded["attention_mask"], dtype=torch.bool)
    mask[:, 0] = True
    return input_ids, mask


def encode_fields(
    texts: Sequence[Mapping[str, str]], fields: Sequence[str], tokenizer: Any, max_length: int
) -> tuple[Tensor, Tensor]:
    """Turn each text field of clips into token ids by itself, without special tokens.

    Args:
        texts: text by field, of B clips.
        fields: K names; a field that a clip doesn't have is empty.
        tokenizer: a Hugging Face tokenizer with a padding token.
        max_length: T; longer fields are cut, shorter ones padded on the right.

    Returns:
        field_ids (B, K, T) int64.
        field_mask (B, K, T) bool, True where a token counts; nowhere in an empty field.
    """
    shape = (len(texts), len(fields), max_length)
    rows = [text.get(field, "").strip() for text in texts for field in fields]
    if not rows:
        return torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.bool)
    encoded = tokenizer(
        rows,
        padding="max_length",
        padding_side="right",
        truncation=True,
        max_length=max_length,
        add_special_tokens=False,
        return_attention_mask=True,
    )
    field_ids = torch.tensor(encoded["input_ids"], dtype=torch.int64)
    field_mask = torch.tensor(encoded["attention_mask"], dtype=torch.bool)
    return field_ids.view(shape), field_mask.view(shape)


__all__ = [
    "SPECIAL_TOKENS",
    "Tokens",
    "encode",
    "encode_fields",
    "join_fields",
    "load_tokenizer",
    "make_tokenizer",
    "separator_of",
    "train_tokenizer",
]
