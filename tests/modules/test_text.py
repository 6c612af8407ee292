import pytest
import torch

from coefvq.modules.text import TextEncoder


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return TextEncoder(
        vocab_size=20, width=8, heads=2, layers=2, feedforward=16, dropout=0.1, max_length=6
    ).eval()


def test_padding_is_not_read(encoder):
    ids = torch.randint(5, 20, (2, 6))
    mask = torch.tensor([[True] * 4 + [False] * 2, [True] * 6])
    other = ids.clone()
    other[0, 4:] = 7
    torch.testing.assert_close(encoder(ids, mask)[0, :4], encoder(other, mask)[0, :4])
    torch.testing.assert_close(encoder(ids, mask)[:1, :4], encoder(ids[:1, :4]))


def test_attention_looks_both_ways(encoder):
    ids = torch.randint(5, 20, (1, 6))
    other = ids.clone()
    other[0, -1] = (ids[0, -1] - 4) % 15 + 5
    assert not torch.allclose(encoder(ids)[0, 0], encoder(other)[0, 0])


def test_too_long_a_text_is_refused(encoder):
    with pytest.raises(ValueError, match=r"text of 7 tokens is longer than the model's 6"):
        encoder(torch.zeros(1, 7, dtype=torch.int64))
