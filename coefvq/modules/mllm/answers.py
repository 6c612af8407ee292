"""Answers that a language model may give, as a tree of tokens.

The model is asked for its next token at every fork of the tree, and may choose among the branches
alone. So one of the answers always comes out, an answer's probability is exact (the product of its
choices), and all of them are known after one pass: forks are few (eleven for the numbers from 0 to
100 where each digit is a token).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class _Node:
    token: int
    parent: int
    depth: int
    children: dict[int, int] = field(default_factory=dict)
    answer: int | None = None


class AnswerTree:
    """A fixed list of answers.

    Args:
        answers: token ids of A answers.
        end: the token that closes an answer; it matters where one answer begins like another, as 5
            and 57 do.

    Raises:
        ValueError: fewer than two answers, an empty one, or two alike.

    Example:
        >>> tree = AnswerTree([[5], [5, 7], [8]], end=0)
        >>> tree.tokens, tree.choices  # 5 is fed, and both forks choose among 0, 5, 7, 8
        ((5,), (0, 5, 7, 8))
    """

    def __init__(self, answers: Sequence[Sequence[int]], end: int) -> None:
        if len(answers) < 2 or any(not len(answer) for answer in answers):
            raise ValueError(
                f"answers to choose from are two or more, of one token or more, got {len(answers)}"
            )
        self.answers = tuple(tuple(answer) for answer in answers)
        nodes = [_Node(-1, -1, -1)]
        for number, answer in enumerate(self.answers):
            here = 0
            for token in (*answer, end):
                if token not in nodes[here].children:
                    nodes[here].children[token] = len(nodes)
                    nodes.append(_Node(token, here, nodes[here].depth + 1))
                here = nodes[here].children[token]
            if nodes[here].answer is not None:
                raise ValueError(
                    f"answers {nodes[here].answer} and {number} are the same tokens {answer}; "
                    "choose other words or another tokenizer"
                )
            nodes[here].answer = number
        forks = [i for i, node in enumerate(nodes) if len(node.children) > 1]
        fed = sorted({step for fork in forks for step in _path(nodes, fork)} - {0})
        place = {node: i for i, node in enumerate(fed)}
        self.tokens = tuple(nodes[i].token for i in fed)
        self.depths = tuple(nodes[i].depth for i in fed)
        self.sees = torch.zeros(len(fed), len(fed), dtype=torch.bool)
        for i in fed:
            self.sees[place[i], [place[step] for step in _path(nodes, i) if step]] = True
        # 0: the last token of the question; then the tokens that are fed.
        self.forks = tuple(0 if fork == 0 else 1 + place[fork] for fork in forks)
        self.choices = tuple(sorted({token for fork in forks for token in nodes[fork].children}))
        column = {token: i for i, token in enumerate(self.choices)}
        self.allowed = torch.zeros(len(forks), len(self.choices), dtype=torch.bool)
        for row, fork in enumerate(forks):
            self.allowed[row, [column[token] for token in nodes[fork].children]] = True
        row_of = {fork: row for row, fork in enumerate(forks)}
        decisions: list[list[tuple[int, int]]] = [[] for _ in self.answers]
        for i, node in enumerate(nodes):
            if node.answer is not None:
                for step in _path(nodes, i):
                    if step and nodes[step].parent in row_of:
                        fork = row_of[nodes[step].parent]
                        decisions[node.answer].append((fork, column[nodes[step].token]))
        self.decisions = torch.zeros(len(self.answers), len(forks), len(self.choices))
        for number, made in enumerate(decisions):
            for fork, chosen in made:
                self.decisions[number, fork, chosen] = 1.0

    def log_probabilities(self, logits: Tensor) -> Tensor:
        """How likely each answer is.

        Args:
            logits: (B, forks, choices) of the tokens `choices` at the forks.

        Returns:
            (B, A) float32, in nats; their exponentials add up to 1.
        """
        masked = self._masked(logits).log_softmax(-1)
        # 0 · −inf is no number: what is not allowed is in no answer.
        masked = masked.masked_fill(~self.allowed.to(masked.device), 0.0)
        return torch.einsum("bfc,afc->ba", masked, self.decisions.to(masked.device))

    def greedy(self, logits: Tensor) -> Tensor:
        """The answer that comes out when the likeliest token is taken at each fork.

        It need not be the likeliest answer.

        Args:
            logits: (B, forks, choices).

        Returns:
            (B,) int64, the number of the answer.
        """
        taken = self._masked(logits).argmax(-1)
        hot = torch.nn.functional.one_hot(taken, len(self.choices)).to(torch.float32)
        made = torch.einsum("bfc,afc->ba", hot, self.decisions.to(hot.device))
        return (made == self.decisions.sum((1, 2)).to(hot.device)).float().argmax(-1)

    def _masked(self, logits: Tensor) -> Tensor:
        allowed = self.allowed.to(logits.device)
        return logits.float().masked_fill(~allowed, -torch.inf)


def _path(nodes: list[_Node], node: int) -> list[int]:
    """From the root to a node, both included."""
    steps = [node]
    while nodes[steps[-1]].parent >= 0:
        steps.append(nodes[steps[-1]].parent)
    return steps[::-1]


__all__ = ["AnswerTree"]
