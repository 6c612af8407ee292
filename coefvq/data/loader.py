"""The loader of every split, which keeps to its order also where several processes train."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.data.distributed import DistributedSampler

from coefvq.data.loading import EpochShuffle
from coefvq.data.sharing import shared_out


class EpochLoader(DataLoader[Any]):
    """A `DataLoader` that tells its data set the epoch of its sampler.

    Where several processes train, Lightning makes it again with a sampler of its own; that one
    says which process this is, and a `coefvq.data.sharing.SharedOrder` takes its place.

    Args:
        dataset: clips or pairs; if it has `set_epoch`, that is called before each epoch.
        order: of training; None: the data set's.
        sampler: Lightning's; None: `order`.
        batch_size: clips or pairs of one process per batch.
        drop_last: leave a short last batch out; shares of training never have one.
        **options: of `torch.utils.data.DataLoader`.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        *,
        order: EpochShuffle | None = None,
        sampler: Sampler[int] | None = None,
        batch_size: int | None = 1,
        drop_last: bool = False,
        **options: Any,
    ) -> None:
        chosen: Sampler[int] | None = order
        if isinstance(sampler, DistributedSampler):
            size = len(dataset)  # type: ignore[arg-type]
            chosen, drop_last = shared_out(sampler, order, size, batch_size), False
        self.order = order
        super().__init__(
            dataset, sampler=chosen, batch_size=batch_size, drop_last=drop_last, **options
        )

    def __iter__(self) -> Any:
        # Lazily: where a run is resumed, Lightning asks for the iterator before it sets the epoch.
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(getattr(self.sampler, "epoch", 0))
        yield from super().__iter__()


def as_is(batch: Any) -> Any:
    """The `collate_fn` of a data set that answers with batches."""
    return batch


def make_loader(
    dataset: Dataset[Any], batch_size: int, num_workers: int, sampler: EpochShuffle | None = None
) -> EpochLoader:
    """Put a data set behind a loader; with a `sampler` for training, else in order."""
    return EpochLoader(
        dataset,
        batch_size=batch_size,
        order=sampler,
        # A short last batch has a noisy loss; but a small data set must give one batch.
        drop_last=sampler is not None and len(dataset) > batch_size,  # type: ignore[arg-type]
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        collate_fn=as_is,
    )


__all__ = ["EpochLoader", "as_is", "make_loader"]
