"""Read-outs: the last token that counts, heads, answer words."""

import torch
from torch import nn

from coefvq.modules.mllm.readout import HeadReadOut, YesNoReadOut, last_hidden


def test_the_last_token_that_counts_is_read_on_either_side_of_padding():
    states = torch.arange(12.0).view(2, 3, 2)
    mask = torch.tensor([[True, True, False], [False, True, True]])
    assert last_hidden(states, mask).tolist() == [[2.0, 3.0], [10.0, 11.0]]


def test_heads_share_one_projection():
    torch.manual_seed(0)
    head = HeadReadOut(6, 1, 3, 4)
    logits, features, sub = head(torch.randn(5, 6))
    assert (logits.shape, features.shape, sub.shape) == ((5,), (5, 4), (5, 3))
    torch.testing.assert_close(logits, head.main(features).squeeze(-1))
    torch.testing.assert_close(sub, head.sub(features))
    assert HeadReadOut(6, 4, 0, 4)(torch.randn(5, 6))[0].shape == (5, 4)
    assert HeadReadOut(6, 1, 0, 4)(torch.randn(5, 6))[2] is None


def test_yes_and_no_give_the_log_odds_of_a_language_model():
    torch.manual_seed(0)
    words, states = nn.Linear(6, 20, bias=False), torch.randn(5, 6)
    logits, features, sub = YesNoReadOut(6, 2)(states, words.weight[[7, 3]])
    chances = words(states).softmax(-1)
    torch.testing.assert_close(logits, (chances[:, 7] / chances[:, 3]).log())
    assert torch.equal(features, states)
    assert sub.shape == (5, 2)


def test_answers_are_float32_whatever_comes_in():
    states = torch.randn(5, 6, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert {t.dtype for t in HeadReadOut(6, 1, 2, 4)(states)} == {torch.float32}
        rows = torch.randn(2, 6, dtype=torch.bfloat16)
        assert {t.dtype for t in YesNoReadOut(6, 2)(states, rows)} == {torch.float32}
