"""Start a program of this library from a command line, and end it with one sentence."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from coefvq import config
from coefvq.files import refusal


def start(program: Callable[[], None], *, recipes: bool = False) -> None:
    """Run a function that `hydra.main` has wrapped, on the words of this process.

    Args:
        program: composes its config from `sys.argv`.
        recipes: whether `+recipe=` is one of its words.

    Raises:
        SystemExit: with status 2 and one sentence for whatever a user can mend, also where it is
            Hydra that has something to say.
    """
    with one_sentence():
        sys.argv[1:] = words_for_hydra(sys.argv[1:])
        if recipes:
            config.check_command_line(sys.argv[1:])
            config.register_recipes()
        # Hydra then raises its errors instead of printing them over several lines.
        os.environ["HYDRA_FULL_ERROR"] = "1"
        program()


def words_for_hydra(arguments: Sequence[str]) -> list[str]:
    """Turn what follows `--` into the key `overrides`, and check that Hydra can read each word.

    A file or folder that is there may have `=`, commas, brackets or spaces in its name, as the
    folders of `coefvq.compare` do: the word is put into quotes.

    Raises:
        ValueError: naming the word that is not `key=value`.

    >>> words_for_hydra(["seeds=2", "--", "student=xvlm_micro"])
    ['seeds=2', 'overrides=["student=xvlm_micro"]']
    """
    words = list(arguments)
    if "--" in words:
        place = words.index("--")
        listed = ",".join(map(quoted, words[place + 1 :]))
        words = [*words[:place], f"overrides=[{listed}]"]
    parser = OverridesParser.create()
    for place, word in enumerate(words):
        # Behind an option such as --cfg comes its own word.
        if "=" not in word or word.startswith("-"):
            continue
        key, _, value = word.partition("=")
        if _needs_quotes(value) and _is_there(value):
            words[place] = f"{key}={quoted(value)}"
            continue
        try:
            parser.parse_override(word)
        except HydraException:
            raise ValueError(
                f"{word!r} cannot be read as key=value; put a value with =, commas, brackets or "
                "spaces in it into quotes, for instance 'key=\"a=b\"'"
            ) from None
    return words


def quoted(text: str) -> str:
    r"""Text in double quotes, as Hydra reads it: backslashes count only where a quote follows.

    >>> print(quoted('say "x"'))
    "say \"x\""
    """
    text = re.sub(r'(\\*)"', r'\1\1\\"', text)
    return '"' + re.sub(r"(\\+)$", r"\1\1", text) + '"'


def _needs_quotes(value: str) -> bool:
    return '"' not in value and any(sign in value for sign in "=,[]{}() ")


def _is_there(value: str) -> bool:
    try:
        return Path(value).exists()
    except OSError:  # a list of words is too long for a name
        return False


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turn what a user can mend into one sentence and exit status 2.

    `COEFVQ_DEBUG=1` shows the traceback instead.
    """
    try:
        yield
    except KeyboardInterrupt:
        print(
            "\ncoefvq: stopped; add resume=true and the same run_dir to go on from the last epoch",
            file=sys.stderr,
        )
        raise SystemExit(130) from None
    except (ValueError, HydraException, OmegaConfBaseException, OSError) as error:
        sentence = sentence_of(error)
        if os.environ.get("COEFVQ_DEBUG") or not sentence:
            raise
        print(f"\ncoefvq: {sentence}", file=sys.stderr)
        raise SystemExit(2) from None


def sentence_of(error: Exception) -> str:
    """What to tell a user about an error; empty where it is none that a user can mend."""
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} is not set; add {error.full_key}=… to the command"
    if isinstance(error, MissingConfigException) and error.options:  # an OSError, too
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        near = difflib.get_close_matches(name, error.options, 1)
        guess = f" (did you mean {near[0]}?)" if near else ""
        return f"{group}={name} is unknown{guess}; choose one of {', '.join(error.options)}"
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
        return refusal(error)
    text = str(error).strip()
    if not isinstance(error, (HydraException, OmegaConfBaseException)):
        return text
    if found := re.match(r"Could not override '(.+?)'", text):
        word = found[1]
        return (
            f"{word} is no word of this config; add --cfg job to see all of them, or write "
            f"+{word}=… to add it"
        )
    return " ".join(text.split())


__all__ = ["one_sentence", "quoted", "sentence_of", "start", "words_for_hydra"]
