"""The losses over tokens again, slowly: plain Python loops over lists, `math` only, float64."""

from __future__ import annotations

import math

from reference import divergence, softmax


def compare(p, q, direction="forward", beta=0.5):
    """Divergence between two lists of probabilities."""
    if direction == "forward":
        return divergence(p, q)
    if direction == "reverse":
        return divergence(q, p)
    mixed = [beta * a + (1 - beta) * b for a, b in zip(p, q, strict=True)]
    return beta * divergence(p, mixed) + (1 - beta) * divergence(q, mixed)


def token(student, teacher, temperature=1.0, **how):
    """One token, two lists of V logits."""
    return temperature**2 * compare(
        softmax(teacher, temperature), softmax(student, temperature), **how
    )


def stored_token(student, indices, logprobs, topk, temperature=1.0, **how):
    """One token, a teacher of k indices and log-probabilities."""
    q = softmax(student, temperature)
    p = [math.exp(value) for value in logprobs]
    softened = [value ** (1 / temperature) for value in p]
    softened = [value / sum(softened) for value in softened]
    chosen = [q[index] for index in indices]
    if topk == "renormalized":
        value = compare(softened, [value / sum(chosen) for value in chosen], **how)
    elif topk == "tail":
        value = compare([*p, 1 - sum(p)], [*chosen, 1 - sum(chosen)], **how)
    else:
        value = divergence(p if topk == "raw" else softened, chosen)
    return temperature**2 * value


def over_tokens(values, mask, weight, reduction, number=None):
    """Reduce nested lists (B, T): the mean divides by what it summed over, or by `number`."""
    counts = [
        [(weight[b] if weight else 1.0) * bool(not mask or mask[b][t]) for t in range(len(row))]
        for b, row in enumerate(values)
    ]  # fmt: skip
    kept = [
        [v * c if c else 0.0 for v, c in zip(row, some, strict=True)]
        for row, some in zip(values, counts, strict=True)
    ]
    if reduction == "none":
        return kept
    total = sum(map(sum, kept))
    return total if reduction == "sum" else total / (number or sum(map(sum, counts)))


def logits(hidden, head, bias):
    """hidden · headᵀ + bias for one token."""
    return [
        sum(h * w for h, w in zip(hidden, row, strict=True)) + b
        for row, b in zip(head, bias, strict=True)
    ]
