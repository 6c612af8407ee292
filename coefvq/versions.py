"""Versions of the packages that numbers depend on, also where coefvq itself was never installed."""

from __future__ import annotations

import platform
from importlib import metadata

from coefvq import __version__

PACKAGES = (
    "coefvq",
    "torch",
    "lightning",
    "torchmetrics",
    "transformers",
    "tokenizers",
    "datasets",
    "av",
    "numpy",
    "hydra-core",
)


def version_of(package: str) -> str | None:
    """The version of a package, None if it is not installed.

    A bare checkout of coefvq has no metadata, and those of another copy would be wrong.
    """
    if package == "coefvq":
        return __version__
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    """The version of Python, of the platform, and of each installed package that matters."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    return found | {name: its for name in PACKAGES if (its := version_of(name)) is not None}


__all__ = ["PACKAGES", "version_of", "versions"]
