import pytest
import torch
from small_matchlite import published_encoders, small_encoders, small_matchlite
from small_models import random_batch

from coefvq.students.pair_scorer import prepare_clips, score_pairs


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("encoders", [small_encoders(), published_encoders()])
@torch.no_grad()
def test_equals_scoring_one_by_one(encoders, symmetric):
    model = small_matchlite(encoders=encoders, symmetric=symmetric).eval()
    queries = model.encode(random_batch(4))
    candidates = model.encode(random_batch(3, frames=4))
    expected = torch.stack(
        [
            model.score(queries[i : i + 1], candidates[j : j + 1]).logits[0]
            for i in range(4)
            for j in range(3)
        ]
    ).view(4, 3)
    for chunk in (1, 5, 256):
        scores = score_pairs(model, queries, candidates, chunk)
        assert scores.shape == (4, 3) and not scores.requires_grad
        torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-5)
    assert expected.std() > 1e-4
    # Clips that meet many others are prepared once.
    prepared = prepare_clips(model, candidates, chunk=2)
    torch.testing.assert_close(score_pairs(model, queries, prepared), expected)


def test_wrong_uses_are_refused():
    model = small_matchlite().eval()
    clips = model.encode(random_batch(2))
    with pytest.raises(ValueError, match="chunk is a number of pairs from 1, got 0"):
        score_pairs(model, clips, clips, chunk=0)
    with pytest.raises(ValueError, match=r"call model\.eval\(\) first"):
        score_pairs(model.train(), clips, clips)
