"""The embedded data set: real encoded clips, made on the spot. See its README for what is real."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coefvq.data.shortform.data import Shortform, shortform_data

__all__ = ["Shortform", "shortform_data"]


def __getattr__(name: str) -> Any:
    # The processes that make clips import this package, and can do without torch and Lightning.
    if name in __all__:
        from coefvq.data.shortform import data

        return getattr(data, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
