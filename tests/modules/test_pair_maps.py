import torch
import torch.nn.functional as F

from coefvq.modules.pair_maps import LearnedMaps, cosine_maps, pool_tokens, unit_tokens


def test_short_sequences_keep_their_tokens():
    tokens = torch.arange(5.0).view(1, 5, 1)
    mask = torch.tensor([[0, 1, 0, 1, 0]]).bool()
    pooled, pooled_mask = pool_tokens(tokens, mask, 4)
    assert pooled.flatten().tolist() == [1, 3, 0, 0]
    assert pooled_mask.tolist() == [[True, True, False, False]]


def test_long_sequences_are_averaged_in_runs():
    # 7 tokens on 3 slots: floor(r · 3 / 7) = 0 0 0 1 1 2 2
    tokens = torch.arange(7.0).view(1, 7, 1)
    pooled, mask = pool_tokens(tokens, torch.ones(1, 7).bool(), 3)
    assert pooled.flatten().tolist() == [1, 3.5, 5.5] and mask.all()


def test_pooling_does_not_see_padding():
    torch.manual_seed(0)
    tokens, mask = torch.randn(2, 9, 3), torch.rand(2, 9) < 0.6
    first = pool_tokens(tokens, mask, 4)
    longer = torch.cat([tokens, torch.full((2, 5, 3), torch.nan)], 1)
    dirty = longer.masked_fill(~F.pad(mask, (0, 5))[..., None], torch.nan)
    again = pool_tokens(dirty, F.pad(mask, (0, 5)), 4)
    torch.testing.assert_close(again, first)
    nothing, none = pool_tokens(tokens, mask & False, 4)
    assert not nothing.any() and not none.any()


def test_cosine_maps_against_torch():
    torch.manual_seed(0)
    q, c = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    q_mask, c_mask = torch.rand(2, 3, 4) < 0.7, torch.rand(2, 3, 4) < 0.7
    got = cosine_maps(unit_tokens(q, q_mask), unit_tokens(c, c_mask))
    expected = F.cosine_similarity(q[..., :, None, :], c[..., None, :, :], dim=-1)
    real = q_mask[..., :, None] & c_mask[..., None, :]
    torch.testing.assert_close(got, expected.masked_fill(~real, 0.0))
    same = cosine_maps(unit_tokens(q, q_mask), unit_tokens(q, q_mask))
    torch.testing.assert_close(same.diagonal(dim1=-2, dim2=-1), q_mask.float())


def test_learned_maps_equal_convolutions_on_concatenated_tokens():
    """D = concat(f_q,i , f_c,j) made in full, a 1x1 convolution with the same weights on it."""
    torch.manual_seed(0)
    maps = LearnedMaps(2, width=5, channels=4, blocks=1).eval()
    q, c = torch.randn(3, 2, 6, 5), torch.randn(3, 2, 6, 5)
    q_mask, c_mask = torch.rand(3, 2, 6) < 0.7, torch.rand(3, 2, 6) < 0.7
    got = maps(maps.project(q)[0], maps.project(c)[1], q_mask, c_mask)
    expected = []
    for i in range(2):
        left = q[:, i].transpose(1, 2)[..., :, None].expand(-1, -1, -1, 6)
        right = c[:, i].transpose(1, 2)[..., None, :].expand(-1, -1, 6, -1)
        concatenated = torch.cat([left, right], dim=1)
        weight = torch.cat([maps.query[i].weight, maps.candidate[i].weight], 1)[..., None, None]
        x = F.relu(F.conv2d(concatenated, weight, maps.query[i].bias))
        real = (q_mask[:, i, :, None] & c_mask[:, i, None, :])[:, None]
        x = x * real
        expected.append(maps.blocks[i][0](x) * real)
    assert got.shape == (3, 8, 6, 6)
    torch.testing.assert_close(got, torch.cat(expected, 1))
