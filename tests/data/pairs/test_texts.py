import logging
from pathlib import Path

from coefvq.data.pairs.texts import warn_of_cut_texts
from coefvq.data.text import train_tokenizer
from coefvq.types import Clip, InputSpec

FIELDS = ("title", "subtitles")


def clips(*texts):
    return [Clip(f"c{n}", Path("c.mp4"), dict(zip(FIELDS, t, strict=True)))
            for n, t in enumerate(texts)]  # fmt: skip


def said(caplog, some, length=8, fields=FIELDS):
    caplog.clear()
    tokenizer = train_tokenizer(["one two three four"] * 2)
    with caplog.at_level(logging.WARNING):
        warn_of_cut_texts(some, InputSpec(text_fields=fields, max_text_length=length), tokenizer)
    return caplog.text


def test_a_field_that_does_not_fit_is_told_of(caplog):
    # [CLS] one [SEP] two three four [SEP] are 7 tokens, a word more on each side 9.
    some = clips(("one", "two three four"), ("one two", "two three four one"))
    found = said(caplog, some)
    assert "texts of 1 of 2 training clips (title, subtitles, joined)" in found
    assert "data.max_text_length=8 tokens and are cut; the longest has 9" in found
    assert not said(caplog, some, length=9)


def test_a_few_long_texts_are_no_matter(caplog):
    some = clips(*[("one", "two")] * 30, ("one two three four", "one two three four"))
    assert not said(caplog, some)


def test_without_texts_there_is_nothing_to_cut(caplog):
    assert not said(caplog, clips(("", ""), ("", "")), length=2)
    assert not said(caplog, clips(("one", "two")), fields=())
    warn_of_cut_texts(clips(("one", "two")), InputSpec(text_fields=FIELDS), None)
