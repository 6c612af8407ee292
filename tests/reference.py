"""The losses again, slowly: plain Python loops over lists, `math` only, float64, no tricks."""

from __future__ import annotations

import math


def softmax(logits, temperature=1.0):
    top = max(logits)
    powers = [math.exp((z - top) / temperature) for z in logits]
    return [power / sum(powers) for power in powers]


def sigmoid(logit):
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else 1 - 1 / (1 + math.exp(logit))


def entropy(probabilities):
    return -sum(p * math.log(p) for p in probabilities if p > 0)


def divergence(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def hard(logit, label, task, smoothing=0.0, positive_weight=1.0, gamma=0.0):
    """One decision: a row of logits for multiclass, one logit otherwise."""

    def cost(p):
        return (1 - p) ** gamma * -math.log(p)

    if task == "regression":
        return (logit - label) ** 2
    if task == "multiclass":
        probabilities = softmax(logit)
        possible = [p for z, p in zip(logit, probabilities, strict=True) if z > -math.inf]
        others = sum(cost(p) for p in possible) / len(possible)
        return (1 - smoothing) * cost(probabilities[label]) + smoothing * others
    target = label * (1 - smoothing) + smoothing / 2
    yes, no = cost(sigmoid(logit)), cost(sigmoid(-logit))
    return positive_weight * target * yes + (1 - target) * no


def soft(student, teacher, task, temperature=1.0, direction="forward", beta=0.5):
    """T² times the divergence of one decision."""
    if task == "multiclass":
        p, q = softmax(teacher, temperature), softmax(student, temperature)
    else:
        p = [sigmoid(teacher / temperature), sigmoid(-teacher / temperature)]
        q = [sigmoid(student / temperature), sigmoid(-student / temperature)]
    if direction == "reverse":
        return temperature**2 * divergence(q, p)
    if direction == "jsd":
        mixed = [beta * a + (1 - beta) * b for a, b in zip(p, q, strict=True)]
        both = beta * divergence(p, mixed) + (1 - beta) * divergence(q, mixed)
        return temperature**2 * both
    return temperature**2 * divergence(p, q)


def rows(task, decision, *columns):
    """One value per sample: for multilabel the mean of the decisions on its labels."""
    if task != "multilabel":
        return [decision(*row) for row in zip(*columns, strict=True)]
    result = []
    for row in zip(*columns, strict=True):
        labels = [decision(*one) for one in zip(*row, strict=True)]
        result.append(sum(labels) / len(labels))
    return result


def reduce(values, reduction, weight=None, mask=None):
    weight = weight or [1.0] * len(values)
    mask = mask or [True] * len(values)
    kept = [v * w if m else 0.0 for v, w, m in zip(values, weight, mask, strict=True)]
    if reduction == "none":
        return kept
    total = sum(w for w, m in zip(weight, mask, strict=True) if m)
    if reduction == "mean":
        return sum(kept) / total if total > 0 else 0.0
    return sum(kept)


def fill(labels, task, mask):
    """Labels with a harmless 0 where nothing may be read."""
    if mask is None:
        return labels
    zero = [0] * len(labels[0]) if task == "multilabel" else 0
    return [y if m else zero for y, m in zip(labels, mask, strict=True)]


def supervised(
    logits,
    labels,
    task,
    *,
    reduction="mean",
    weight=None,
    mask=None,
    smoothing=0.0,
    class_weights=None,
    positive_weight=1.0,
    gamma=0.0,
):
    labels = fill(labels, task, mask)
    if class_weights is not None:
        own = [class_weights[y] for y in labels]
        weight = [a * b for a, b in zip(own, weight or [1.0] * len(own), strict=True)]
    values = rows(
        task, lambda z, y: hard(z, y, task, smoothing, positive_weight, gamma), logits, labels
    )
    return reduce(values, reduction, weight, mask)


def logit_kd(
    student, teacher, task, *, temperature=1.0, reduction="mean", weight=None,
    direction="forward", beta=0.5,
):  # fmt: skip
    def one(s, t):
        return soft(s, t, task, temperature, direction, beta)

    values = rows(task, one, student, teacher)
    return reduce(values, reduction, weight)


def cpfd(
    student,
    teacher,
    labels,
    task,
    confidence,
    *,
    distill_weight=0.5,
    temperature=1.0,
    hard_weight="fixed",
    reduction="mean",
    weight=None,
    mask=None,
):
    """`confidence` is a list with one number per decision."""

    def weighted_hard(s, y, c):
        share = 1 - distill_weight * (c if hard_weight == "complement" else 1)
        return max(share, 0.0) * hard(s, y, task)

    def weighted_soft(s, t, c):
        return distill_weight * c * soft(s, t, task, temperature)

    labels = fill(labels, task, mask)
    hards = rows(task, weighted_hard, student, labels, confidence)
    softs = rows(task, weighted_soft, student, teacher, confidence)
    first = reduce(hards, reduction, weight, mask)
    second = reduce(softs, reduction, weight)
    if reduction == "none":
        return [a + b for a, b in zip(first, second, strict=True)]
    return first + second


def pfd(student, teacher, labels, task, **options):
    width = len(student[0]) if task == "multilabel" else 0
    ones = [[1.0] * width if width else 1.0 for _ in student]
    return cpfd(student, teacher, labels, task, ones, **options)


def confidence(name, student, teacher, labels, task, mask=None):
    """One number per decision: a list, or for multilabel a list of lists."""

    def one(s, t, y, known):
        probabilities = softmax(t) if task == "multiclass" else [sigmoid(-t), sigmoid(t)]
        ordered = sorted(probabilities, reverse=True)
        if name == "max_probability" or (not known and name in NEED_LABELS):
            return ordered[0]
        if name == "normalized_entropy":
            return 1 - entropy(probabilities) / math.log(len(probabilities))
        if name == "margin":
            return ordered[0] - ordered[1]
        if name == "true_probability":
            return probabilities[int(y)]
        if name == "correctness":
            return 1.0 if probabilities.index(ordered[0]) == y else 0.0
        if name == "relative":
            return 1 - math.exp(-hard(s, y, task) / hard(t, y, task))
        raise ValueError(name)

    known = mask or [True] * len(student)
    labels = fill(labels, task, mask)
    if task != "multilabel":
        return [one(*row) for row in zip(student, teacher, labels, known, strict=True)]
    return [
        [one(s, t, y, k) for s, t, y in zip(ss, ts, ys, strict=True)]
        for ss, ts, ys, k in zip(student, teacher, labels, known, strict=True)
    ]


NEED_LABELS = ("true_probability", "correctness", "relative")
