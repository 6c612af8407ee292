"""Where things are kept between runs: made clips, decoded frames, trained teachers."""

from __future__ import annotations

import os
from pathlib import Path


def cache_home(cache_dir: str | Path | None = None) -> Path:
    """Return the folder for everything that can be made again.

    Args:
        cache_dir: a folder named by the user; wins over everything else.

    Returns:
        `cache_dir`, else the environment variable `COEFVQ_HOME`, else `~/.cache/coefvq`. The
        folder is not made here.

    >>> cache_home("/tmp/here").name
    'here'
    """
    chosen = cache_dir if cache_dir is not None else os.environ.get("COEFVQ_HOME")
    return Path(chosen or Path("~/.cache/coefvq")).expanduser().absolute()


__all__ = ["cache_home"]
