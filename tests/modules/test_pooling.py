import torch

from coefvq.modules.pooling import masked_mean, masked_statistics


def test_mean_of_what_counts_in_any_shape():
    tokens = torch.arange(24.0).view(2, 3, 2, 2)
    mask = torch.tensor([[True, False, True], [False, False, False]])
    assert masked_mean(tokens, mask).tolist() == [[[4, 5], [6, 7]], [[0, 0], [0, 0]]]
    assert torch.equal(masked_mean(tokens, None), tokens.mean(1))
    tokens[0, 1] = torch.nan
    assert masked_mean(tokens, mask).isfinite().all()


def test_statistics_of_what_counts():
    tokens = torch.tensor([[[1.0, 0.0], [5.0, 0.0], [99.0, 9.0]], [[7.0, 7.0]] * 3])
    mask = torch.tensor([[True, True, False], [False] * 3])
    # mean 3, deviation 2; a clip without a token that counts gives zeros
    assert masked_statistics(tokens, mask).tolist() == [[3, 0, 2, 0], [0, 0, 0, 0]]


def test_statistics_have_a_slope_where_the_deviation_is_zero():
    tokens = torch.ones(2, 3, 4, requires_grad=True)
    masked_statistics(tokens, torch.tensor([[True, False, False], [False] * 3])).sum().backward()
    assert tokens.grad.isfinite().all()
    assert tokens.grad[0, 0].tolist() == [1.0] * 4
