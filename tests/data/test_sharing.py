"""Several processes: every place once, nothing counted twice, the order of the sampler kept."""

from itertools import chain

import pytest

from coefvq.data.loading import EpochShuffle
from coefvq.data.sharing import Repeated, SharedOrder


def flat(lists):
    return list(chain.from_iterable(lists))


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("n", [24, 20, 11, 5])
def test_an_epoch_of_training_shows_no_pair_twice(n, processes):
    order = EpochShuffle(n, 1)
    shares = [SharedOrder(order, rank, processes, batch_size=4) for rank in range(processes)]
    epochs = []
    for epoch in (0, 1):
        for share in shares:
            share.set_epoch(epoch)
        seen = [list(share) for share in shares]
        assert len({len(some) for some in seen}) == 1 and len(seen[0]) == len(shares[0]) > 0
        together = flat(seen)
        assert len(set(together)) == len(together) > n - 4 * processes
        epochs.append(seen)
        # Step for step the processes see what one process with a batch as large sees.
        step = shares[0].share
        alone = list(order)
        for k in range(shares[0].steps):
            both = flat(some[k * step : (k + 1) * step] for some in seen)
            assert both == alone[k * step * processes : (k + 1) * step * processes]
    assert epochs[0] != epochs[1]


def test_whole_steps_show_every_pair():
    shares = [SharedOrder(EpochShuffle(24, 1), rank, 2, batch_size=4) for rank in (0, 1)]
    assert sorted(flat(shares)) == list(range(24))


def test_too_few_pairs_are_refused():
    with pytest.raises(ValueError, match="2 training clips or pairs are fewer than the 3"):
        SharedOrder(EpochShuffle(2, 1), 0, 3, batch_size=4)


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("n", [12, 13, 1])
def test_evaluation_counts_every_pair_once(n, processes):
    shares = [list(SharedOrder(range(n), rank, processes)) for rank in range(processes)]
    assert len({len(some) for some in shares}) == 1
    own = [place for some in shares for place in some if not isinstance(place, Repeated)]
    assert sorted(own) == list(range(n))
