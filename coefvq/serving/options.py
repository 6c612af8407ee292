"""The words of a serving command: `cascade=runs/x/cascade port=8000`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def read_options(words: Sequence[str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a command line, `name=value` each, converted to the type of their default.

    Args:
        words: for instance `["cascade=runs/x/cascade", "port=8000"]`.
        defaults: by name; an empty text must be given.

    Raises:
        ValueError: an unknown or missing name, or a value of another type.
    """
    found = dict(defaults)
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in defaults:
            raise ValueError(f"{word!r} is none of {', '.join(f'{n}=…' for n in defaults)}")
        kind: Callable[[str], Any] = type(defaults[name])
        try:
            found[name] = kind(value)
        except ValueError:
            raise ValueError(f"{word} must be a number, like {defaults[name]}") from None
    if missing := [name for name, value in found.items() if value == ""]:
        raise ValueError(f"{missing[0]}=… is not given")
    return found


def check_installed(extra: str, *modules: str) -> None:
    """Refuse to start without the packages of an extra.

    Args:
        extra: of this library, that installs them.
        modules: that are imported next.

    Raises:
        ValueError: naming those that are not there, and what installs them.
    """
    if missing := [name for name in modules if find_spec(name) is None]:
        there = "is" if len(missing) == 1 else "are"
        raise ValueError(
            f'{", ".join(missing)} {there} not installed; run pip install -e ".[{extra}]" in the '
            f'checkout, or pip install "coefvq[{extra}]"'
        )


def log_folder(options: Mapping[str, Any]) -> Path | None:
    """Where a server writes its answers down; None where it doesn't (`log=none`).

    It is imported and not defined beside a server: Ray copies a server's class together with the
    names that it finds at that moment.
    """
    return None if options["log"] == "none" else Path(options["log"])


__all__ = ["check_installed", "log_folder", "read_options"]
