import torch
from toys import toy_batches

from coefvq.pairs import PairBatch


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
