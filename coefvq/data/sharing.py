"""Which process reads which clips or pairs, where several train one model."""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import Sampler
from torch.utils.data.distributed import DistributedSampler


class Repeated(int):
    """A place that another process answers for; it only makes the shares equally long.

    Data sets hide the labels there, so that no metric counts a clip or a pair twice.
    """


class SharedOrder(Sampler[int]):
    """One process's share of an order of clips or pairs.

    In training a step of all processes together takes the next `batch_size` · `processes` places of
    the order, as one process with a batch that large would: nothing comes twice in an epoch, and
    what does not fill a step is left out of it. At evaluation every place has one process, and
    shares that would be shorter begin with a `Repeated` one.

    Args:
        order: places in the data set. It follows `set_epoch` if it has that.
        rank: of this process, from 0.
        processes: how many there are.
        batch_size: of one process in a step of training; None: evaluation.

    Raises:
        ValueError: there are fewer to train on than processes.

    Example:
        >>> [list(SharedOrder(range(9), rank, 2, batch_size=2)) for rank in (0, 1)]
        [[0, 1, 4, 5], [2, 3, 6, 7]]
        >>> [list(SharedOrder(range(3), rank, 2)) for rank in (0, 1)]
        [[0, 2], [0, 1]]
    """

    def __init__(
        self,
        order: Sampler[int] | range,
        rank: int,
        processes: int,
        *,
        batch_size: int | None = None,
    ) -> None:
        self.order, self.rank, self.processes = order, rank, processes
        self.size = len(order)  # type: ignore[arg-type]
        self.training = batch_size is not None
        if batch_size is None:
            self.share, self.steps = 1, -(-self.size // processes)
            return
        # A small data set gives one step of equal shares, as it gives one batch to one process.
        self.share = min(batch_size, self.size // processes)
        if self.share == 0:
            raise ValueError(
                f"{self.size} training clips or pairs are fewer than the {processes} processes "
                "that train on them; give more, or lower trainer.devices"
            )
        self.steps = self.size // (self.share * processes)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order is shared out; Lightning calls this."""
        if hasattr(self.order, "set_epoch"):
            self.order.set_epoch(epoch)

    @property
    def epoch(self) -> int:
        """The epoch of the order."""
        return getattr(self.order, "epoch", 0)

    def __len__(self) -> int:
        return self.steps * self.share

    def __iter__(self) -> Iterator[int]:
        if not self.training:
            own = list(self.order)[self.rank :: self.processes]
            # In front: then the last batch, which may be short, has a place of its own.
            yield from [Repeated(0)] * (len(self) - len(own)) if self.size else []
            yield from own
            return
        step = self.share * self.processes
        for place, pair in enumerate(self.order):
            if place >= self.steps * step:
                return
            if place % step // self.share == self.rank:
                yield pair


def shared_out(
    given: DistributedSampler[int],
    order: Sampler[int] | None,
    size: int,
    batch_size: int | None,
) -> SharedOrder:
    """Take rank and number of processes from the sampler that Lightning puts in place of ours.

    Lightning's own would show some of validation twice, shuffle an order that was already
    chosen (`labelled_per_batch`), and keep to its first epoch.

    Args:
        given: Lightning's.
        order: of training; None: in the data set's order, for evaluation.
        size: of the data set.
        batch_size: of one process.
    """
    if order is None:
        return SharedOrder(range(size), given.rank, given.num_replicas)
    return SharedOrder(order, given.rank, given.num_replicas, batch_size=batch_size)


__all__ = ["Repeated", "SharedOrder", "shared_out"]
