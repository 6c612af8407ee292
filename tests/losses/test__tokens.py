"""What the losses over tokens share: one teacher, stored rows, what each token counts."""

import pytest
import torch

from coefvq.losses._tokens import (
    check_one_teacher,
    check_stored,
    check_token_options,
    token_shares,
)

MASK = torch.tensor([[True, True, False], [True, False, False]])
WEIGHT = torch.tensor([2.0, 0.5])
LIKE = torch.zeros(2, 3)
INDICES = torch.tensor([[[1, 0], [3, 2], [-1, -1]], [[4, 0], [-1, -1], [-1, -1]]])
LOGPROBS = torch.tensor([0.5, 0.25]).log().expand(2, 3, 2).where(MASK[..., None], 5.0)


def test_a_mean_divides_by_the_weights_of_the_tokens_that_count():
    # 2 + 2 + ½ = 4½, in all.
    shares = token_shares(LIKE, MASK, WEIGHT, "mean", None)
    expected = torch.tensor([[2.0, 2.0, 0.0], [0.5, 0.0, 0.0]])
    torch.testing.assert_close(shares, expected / 4.5)
    torch.testing.assert_close(
        token_shares(LIKE, MASK, None, "mean", None), MASK / torch.tensor(3.0)
    )
    torch.testing.assert_close(token_shares(LIKE, None, None, "mean", None), torch.ones(2, 3) / 6)
    for reduction in ("sum", "none"):
        assert torch.equal(token_shares(LIKE, MASK, WEIGHT, reduction, None), expected)


def test_a_mean_may_divide_by_the_tokens_of_all_micro_batches():
    for number in (12, 12.0, torch.tensor(12)):
        shares = token_shares(LIKE, MASK, WEIGHT, "mean", number)
        torch.testing.assert_close(shares, MASK * WEIGHT[:, None] / 12)


def test_tokens_in_a_row_have_weights_of_their_own():
    shares = token_shares(torch.zeros(2), None, WEIGHT, "mean", None)
    torch.testing.assert_close(shares, torch.tensor([0.8, 0.2]))


def test_an_empty_mean_is_nothing():
    for mask, weight in ((torch.zeros_like(MASK), None), (MASK, torch.zeros(2))):
        assert (token_shares(LIKE, mask, weight, "mean", None) == 0).all()


def test_a_stored_teacher_is_detached_and_harmless_outside_the_mask():
    logprobs = LOGPROBS.clone().requires_grad_()
    indices, kept = check_stored(INDICES.int(), logprobs, MASK, (2, 3), 5)
    assert indices.dtype == torch.long and not kept.requires_grad
    assert torch.equal(indices[MASK], INDICES[MASK]) and (indices[~MASK] == 0).all()
    assert torch.equal(kept, LOGPROBS)  # whoever reads them takes no share of those outside
    with pytest.raises(ValueError, match="topk_indices hold -1, which is not a token from 0 to 4"):
        check_stored(INDICES, LOGPROBS, None, (2, 3), 5)
    with pytest.raises(ValueError, match="topk_indices hold 4, which is not a token from 0 to 3"):
        check_stored(INDICES, LOGPROBS, MASK, (2, 3), 4)
    rows = check_stored(INDICES[MASK], LOGPROBS[MASK], None, (3,), 5)
    assert torch.equal(rows[0], INDICES[MASK])


@pytest.mark.parametrize(
    ("indices", "logprobs", "sentence"),
    [
        (INDICES[:, 1:], LOGPROBS[:, 1:], r"shape \(2, 2, 2\) .* the student asks for \(2, 3, k\)"),
        (INDICES, LOGPROBS[..., :1], r"topk_logprobs \(2, 3, 1\); the student asks for"),
        (INDICES[..., :0], LOGPROBS[..., :0], "with k from 1"),
        (LOGPROBS, INDICES, "must be integers .* got torch.float32 and torch.int64; check their"),
        (INDICES.tolist(), LOGPROBS, "topk_indices"),
        (INDICES, LOGPROBS.tolist(), "topk_logprobs"),
    ],
)
def test_what_is_no_stored_teacher_is_refused(indices, logprobs, sentence):
    with pytest.raises((ValueError, TypeError), match=sentence):
        check_stored(indices, logprobs, MASK, (2, 3), 5)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            (False, None, None, None),
            "^got neither x nor topk_indices; pass one teacher: x, or topk",
        ),
        ((True, None, INDICES, LOGPROBS), "^got both x and topk_indices; pass one teacher"),
        ((False, None, INDICES, None), "needs both topk_indices and topk_logprobs; got only one"),
        ((True, None, None, LOGPROBS), "needs both topk_indices and topk_logprobs; got only one"),
        (
            (True, "raw", None, None),
            "topk 'raw' says .* but x hold the whole .* leave topk at None",
        ),
        ((False, None, INDICES, LOGPROBS), "topk_indices need their meaning; set topk to one of"),
    ],
)
def test_one_teacher_and_a_whole_one(given, sentence):
    dense, topk, *entries = given
    with pytest.raises(ValueError, match=sentence):
        check_one_teacher(dense, "x", topk, *entries)
    check_one_teacher(True, "x", None, None, None)
    check_one_teacher(False, "x", "tail", INDICES, LOGPROBS)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"mask": MASK.long()},
            "mask must be bool with True where a token counts, got torch.int64",
        ),
        ({"mask": MASK[:, 1:]}, r"mask has shape \(2, 2\) but the tokens ask for \(2, 3\)"),
        ({"sample_weight": -WEIGHT}, "not negative"),
        ({"num_valid_tokens": 0}, "must be above 0, got 0; count the tokens that the mask keeps"),
        ({"num_valid_tokens": float("nan")}, "must be above 0, got nan"),
        ({"num_valid_tokens": torch.ones(2)}, r"one number, got a tensor of shape \(2,\)"),
        ({"num_valid_tokens": 5, "reduction": "sum"}, "with reduction 'sum'; leave it at None or"),
    ],
)
def test_shares_that_make_no_sense_are_refused(options, sentence):
    given = {"mask": None, "sample_weight": None, "reduction": "mean", "num_valid_tokens": None}
    with pytest.raises(ValueError, match=sentence):
        token_shares(LIKE, **(given | options))


def test_options_are_those_of_distillation_and_of_the_stored_teacher():
    check_token_options(2.0, "reverse", 0.5, "mean", None)
    check_token_options(1.0, "reverse", 0.5, "mean", "tail")
    for options, sentence in [
        ((0.0, "forward", 0.5, "mean", None), "temperature must be a finite number above 0"),
        ((1.0, "both", 0.5, "mean", None), "direction 'both' is unknown"),
        ((1.0, "forward", 0.5, "batchmean", None), "reduction 'batchmean' is unknown"),
        ((2.0, "forward", 0.5, "mean", "tail"), "topk 'tail' needs temperature 1"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            check_token_options(*options)
