import pytest
import torch

from coefvq.modules.dense import DenseFeatureEncoder


def test_missing_values_are_not_read_but_known_to_be_missing():
    encoder = DenseFeatureEncoder(3, 4).eval()
    mask = torch.tensor([[True, False, True]])
    seen = encoder(torch.tensor([[1.0, torch.nan, 2.0]]), mask)
    assert torch.equal(seen, encoder(torch.tensor([[1.0, 50.0, 2.0]]), mask))
    assert not torch.equal(seen, encoder(torch.tensor([[1.0, 0.0, 2.0]])))


def test_dropped_features_look_missing():
    torch.manual_seed(0)
    encoder = DenseFeatureEncoder(2, 4, feature_dropout=0.5, dropout=0.0)
    values = torch.ones(400, 2)
    masks = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]).bool()
    looks = encoder.eval()(values[:4], masks)
    distances = torch.cdist(encoder.train()(values), looks)
    assert distances.min(1).values.max() < 1e-3
    assert (distances.argmin(1).bincount(minlength=4) > 60).all()


def test_sentences():
    with pytest.raises(ValueError, match=r"feature_dropout must be in \[0, 1\), got 1.0"):
        DenseFeatureEncoder(3, 4, feature_dropout=1.0)
    with pytest.raises(ValueError, match="clips have 2 privileged features, the model reads 3"):
        DenseFeatureEncoder(3, 4)(torch.zeros(1, 2))
