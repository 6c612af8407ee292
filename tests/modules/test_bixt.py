import pytest
import torch

from coefvq.modules.bixt import BiXT, BiXTLayer, masked_softmax


def inputs(dtype=torch.float32):
    torch.manual_seed(0)
    a, b = torch.randn(2, 5, 8, dtype=dtype), torch.randn(2, 3, 8, dtype=dtype)
    a_mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()
    b_mask = torch.tensor([[1, 1, 0], [0, 0, 0]]).bool()
    return a, b, a_mask, b_mask


def layer(**changes):
    torch.manual_seed(1)
    return BiXTLayer(**{"width": 8, "heads": 2, **changes}).eval()


def test_equals_the_formula_head_by_head():
    a, b, *_ = inputs()
    bixt = layer()
    masks = torch.ones(2, 5).bool(), torch.ones(2, 3).bool()
    expected_a, expected_b = a.clone(), b.clone()
    for clip in range(2):
        ra, va = bixt.reference_value[0](bixt.norm[0](a[clip])).chunk(2, dim=-1)
        rb, vb = bixt.reference_value[1](bixt.norm[1](b[clip])).chunk(2, dim=-1)
        from_b, from_a = [], []
        for head in (slice(0, 4), slice(4, 8)):
            scores = ra[:, head] @ rb[:, head].T / 2  # sqrt(4)
            from_b.append(scores.softmax(1) @ vb[:, head])
            from_a.append(scores.T.softmax(1) @ va[:, head])
        expected_a[clip] += bixt.output[0](torch.cat(from_b, 1))
        expected_b[clip] += bixt.output[1](torch.cat(from_a, 1))
    expected_a, expected_b = (
        x + mlp(x) for x, mlp in zip((expected_a, expected_b), bixt.mlp, strict=True)
    )
    got_a, got_b = bixt(a, b, *masks)
    torch.testing.assert_close(got_a, expected_a)
    torch.testing.assert_close(got_b, expected_b)


def test_padding_is_never_read_and_comes_back_as_zero():
    a, b, a_mask, b_mask = inputs()
    bixt = BiXT(layers=2, width=8, heads=2).eval()
    first = bixt(a, b, a_mask, b_mask)
    noise = (
        torch.where(a_mask[..., None], a, 7.0),
        torch.where(b_mask[..., None], b, -7.0),
    )
    for x, y, mask in zip(first, bixt(*noise, a_mask, b_mask), (a_mask, b_mask), strict=True):
        torch.testing.assert_close(x, y)
        assert not x[~mask].any()
    # A sequence that is longer by padding gives the same.
    longer = bixt(a, torch.cat([b, b], 1), a_mask, torch.cat([b_mask, b_mask & False], 1))
    torch.testing.assert_close(longer[0], first[0])


def test_an_empty_side_says_nothing():
    a, b, a_mask, b_mask = inputs()
    bixt = layer()
    torch.nn.init.ones_(bixt.output[0].bias)  # would leak into the other side
    got, _ = bixt(a, b, a_mask, b_mask)
    alone = (a + bixt.mlp[0](a)).masked_fill(~a_mask[..., None], 0.0)
    torch.testing.assert_close(got[1], alone[1])
    assert not torch.allclose(got[0], alone[0])


def test_gradients_are_finite_where_a_side_is_empty():
    a, b, a_mask, b_mask = inputs()
    a.requires_grad_()
    b.requires_grad_()
    bixt = layer()
    sum(x.square().sum() for x in bixt(a, b, a_mask, b_mask)).backward()
    assert a.grad.isfinite().all() and b.grad.isfinite().all()
    assert not b.grad[1].any() and not a.grad[1, 3:].any()
    assert all(p.grad.isfinite().all() for p in bixt.parameters())


def test_large_scores_stay_finite():
    scores = torch.tensor([[1e4, -1e4, 3.0]])
    assert masked_softmax(scores, torch.tensor([[False, True, True]])).tolist() == [[0, 0, 1]]
    assert masked_softmax(scores.bfloat16(), torch.ones(1, 3).bool()).dtype == torch.bfloat16


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="heads=3 must divide width=8"):
        layer(heads=3)
