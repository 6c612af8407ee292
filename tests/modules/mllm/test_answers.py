"""Answers as a tree: probabilities are exact, an answer always comes out."""

import itertools
import math

import pytest
import torch

from coefvq.modules.mllm.answers import AnswerTree

END = 9
DIGITS = [[int(digit) for digit in str(number)] for number in range(101)]


def logits(tree, batch=3, seed=0, scale=1.0):
    draw = torch.Generator().manual_seed(seed)
    return scale * torch.randn(batch, len(tree.forks), len(tree.choices), generator=draw)


def by_hand(tree, answers, end, row):
    """Walk from token to token, normalising over what may follow."""
    column = {token: i for i, token in enumerate(tree.choices)}
    whole = [(*answer, end) for answer in answers]
    # Forks in the order of their prefixes, as the tree was built.
    prefixes = dict.fromkeys(w[:i] for w in whole for i in range(len(w)))
    forks = [p for p in prefixes if len({w[len(p)] for w in whole if w[: len(p)] == p}) > 1]
    found = []
    for answer in whole:
        total = 0.0
        for fork in forks:
            if answer[: len(fork)] == fork and len(answer) > len(fork):
                allowed = {w[len(fork)] for w in whole if w[: len(fork)] == fork}
                z = [row[forks.index(fork)][column[t]].item() for t in allowed]
                own = row[forks.index(fork)][column[answer[len(fork)]]].item()
                total += own - math.log(sum(math.exp(v) for v in z))
        found.append(total)
    return found


@pytest.mark.parametrize(
    "answers",
    [
        [[1], [2], [3]],
        [[1, 2], [1, 3], [1]],
        [[4, 1, 2], [4, 1, 3], [4, 2], [5]],
        [[7, *digits] for digits in DIGITS],
    ],
    ids=["words", "prefix", "deep", "numbers"],
)
def test_probabilities_are_those_of_walking_the_tree(answers):
    answers = [[token + 10 for token in answer] for answer in answers]
    tree = AnswerTree(answers, END)
    given = logits(tree).double()
    found = tree.log_probabilities(given)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(3))
    for row in range(3):
        want = torch.tensor(by_hand(tree, answers, END, given[row]))
        torch.testing.assert_close(found[row], want, rtol=1e-5, atol=1e-5)


def test_numbers_where_each_digit_is_a_token_have_eleven_forks():
    # The start, each first digit but 0, and 10, which may go on to 100; nothing else is asked.
    tree = AnswerTree(DIGITS, END + 10)
    assert len(tree.forks) == 11 and tree.tokens == (1, 2, 3, 4, 5, 6, 7, 8, 9, 0)
    assert tree.depths == (0,) * 9 + (1,)
    # A digit sees itself; the 0 of 10 sees the 1 before it, too.
    assert torch.equal(tree.sees[:9, :9], torch.eye(9).bool())
    assert tree.sees[9].nonzero()[:, 0].tolist() == [0, 9]


def test_numbers_that_are_tokens_are_one_fork():
    tree = AnswerTree([[number] for number in range(101)], 500)
    assert tree.forks == (0,) and tree.tokens == () and len(tree.choices) == 101
    given = logits(tree)
    torch.testing.assert_close(tree.log_probabilities(given), given[:, 0].log_softmax(-1))
    assert torch.equal(tree.greedy(given), given[:, 0].argmax(-1))


def test_whatever_the_logits_an_answer_comes_out():
    tree = AnswerTree(DIGITS, END + 10)
    for seed, scale in itertools.product(range(20), (1.0, 1e4)):
        given = logits(tree, 50, seed, scale)
        found = tree.log_probabilities(given)
        assert not found.isnan().any()
        chosen = tree.greedy(given)
        assert ((chosen >= 0) & (chosen <= 100)).all()
        # Token by token, by hand.
        column = {token: i for i, token in enumerate(tree.choices)}
        for row in range(0, 50, 10):
            prefix = ()
            # In the order in which answers first reach them.
            forks = {(): 0, **{(d,): d for d in range(1, 10)}, (1, 0): 10}
            while True:
                whole = [(*digits, END + 10) for digits in DIGITS]
                allowed = {w[len(prefix)] for w in whole if w[: len(prefix)] == prefix}
                token = next(iter(allowed))
                if len(allowed) > 1:
                    fork = given[row, forks[prefix]]
                    token = max(allowed, key=lambda t, f=fork: f[column[t]].item())
                if token == END + 10:
                    break
                prefix = (*prefix, token)
            assert DIGITS[int(chosen[row])] == list(prefix)


def test_gradients_flow_to_what_may_be_said_alone():
    tree = AnswerTree([[1, 2], [1, 3], [4]], END)
    given = logits(tree, 1).requires_grad_()
    tree.log_probabilities(given)[0, 0].backward()
    assert torch.equal(given.grad[0] != 0, tree.allowed)


def test_refusals():
    for few in ([], [[1]], [[1], []]):
        with pytest.raises(ValueError, match="answers to choose from are two or more"):
            AnswerTree(few, END)
    with pytest.raises(ValueError, match=r"answers 0 and 2 are the same tokens \(1, 2\)"):
        AnswerTree([[1, 2], [3], [1, 2]], END)
