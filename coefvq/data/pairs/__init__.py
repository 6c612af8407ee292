"""Pairs of clips as data: made, read from a table, or embedded. See its README."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coefvq.data.pairs.datamodule import PairDataModule
    from coefvq.data.pairs.embedded import ShortformPairs, shortform_pairs
    from coefvq.data.pairs.table import PairTable
    from coefvq.data.pairs.table_data import pair_data

_PLACES = {
    "PairDataModule": "datamodule",
    "PairTable": "table",
    "ShortformPairs": "embedded",
    "pair_data": "table_data",
    "shortform_pairs": "embedded",
}

__all__ = ["PairDataModule", "PairTable", "ShortformPairs", "pair_data", "shortform_pairs"]


def __getattr__(name: str) -> Any:
    # The processes that make clips import this package, and can do without torch and Lightning.
    if name in _PLACES:
        from importlib import import_module

        return getattr(import_module(f"coefvq.data.pairs.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
