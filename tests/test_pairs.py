import pytest
import torch
from toys import toy_batches

from coefvq.pairs import PairBatch, need_pairs


def test_a_pair_batch_moves_and_hides_with_its_clips():
    query, candidate = toy_batches(n=4, batch_size=2)
    pairs = PairBatch(("a", "b"), query, candidate, labels=torch.ones(2))
    moved = pairs.to("meta")
    assert moved.query.frames.device.type == moved.candidate.labels.device.type == "meta"
    assert moved.device.type == "meta" and pairs.device.type == "cpu" and len(pairs) == 2
    public = pairs.public()
    assert public.labels is None and public.query.privileged is None
    assert public.candidate.frames is candidate.frames
    assert pairs.whole() is pairs


def test_models_of_pairs_refuse_single_clips():
    batch = PairBatch(("a", "b"), *toy_batches(n=4, batch_size=2))
    with pytest.raises(ValueError, match="Judge judges pairs and got a batch of single clips; use"):
        need_pairs(batch.query, "Judge", "another")
    need_pairs(batch, "Judge", "another")
