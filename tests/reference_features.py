"""Slow loops for the losses on features and relations; `math` only, float64."""

from __future__ import annotations

import math


def reduced(values, reduction, weight=None, keep=None):
    """Over samples; those not kept count for nothing."""
    weight = weight or [1.0] * len(values)
    keep = keep or [True] * len(values)
    products = [w * v if k else 0.0 for v, w, k in zip(values, weight, keep, strict=True)]
    if reduction == "none":
        return products
    if reduction == "sum":
        return sum(products)
    return sum(products) / sum(w for w, k in zip(weight, keep, strict=True) if k)


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def length(a):
    return math.sqrt(dot(a, a))


def cosine(a, b):
    return dot(a, b) / (length(a) * length(b))


def huber(x):
    return 0.5 * x * x if abs(x) < 1 else abs(x) - 0.5


def apart(f, h, distance):
    if distance == "cosine":
        return 1 - cosine(f, h)
    each = huber if distance == "smooth_l1" else lambda x: x * x
    return sum(each(x - y) for x, y in zip(f, h, strict=True)) / len(f)


def feature_kd(student, teacher, distance="mse", mask=None, weight=None, reduction="mean"):
    """(B, T, D) lists."""
    values, keep = [], []
    for i, (tokens, targets) in enumerate(zip(student, teacher, strict=True)):
        counted = [t for t in range(len(tokens)) if mask is None or mask[i][t]]
        keep.append(bool(counted))
        parts = [apart(tokens[t], targets[t], distance) for t in counted]
        values.append(sum(parts) / len(parts) if parts else 0.0)
    return reduced(values, reduction, weight, keep)


def attention_transfer(student, teacher, power=2.0, mask=None, weight=None, reduction="mean"):
    """(B, T, D) lists."""

    def attention(tokens, counts):
        energy = [
            sum(abs(x) ** power for x in token) if count else 0.0
            for token, count in zip(tokens, counts, strict=True)
        ]
        return [e / length(energy) for e in energy] if any(energy) else energy

    values, keep = [], []
    for i, (tokens, targets) in enumerate(zip(student, teacher, strict=True)):
        counts = mask[i] if mask is not None else [True] * len(tokens)
        q, p = attention(tokens, counts), attention(targets, counts)
        values.append(sum((a - b) ** 2 for a, b in zip(q, p, strict=True)))
        keep.append(any(counts))
    return reduced(values, reduction, weight, keep)


def rkd(student, teacher, distance_weight=1.0, angle_weight=2.0, weight=None, reduction="mean"):
    everyone = range(len(student))
    w = weight or [1.0] * len(student)
    total = sum(w)

    def distances(x):
        d = [[length([p - q for p, q in zip(x[i], x[j], strict=True)]) for j in everyone]
             for i in everyone]  # fmt: skip
        pairs = [(w[i] * w[j], d[i][j]) for i in everyone for j in everyone if d[i][j] > 0]
        mean = sum(a * b for a, b in pairs) / sum(a for a, _ in pairs)
        return [[value / mean for value in row] for row in d]

    def angle(x, i, j, k):
        a, b = ([p - q for p, q in zip(x[n], x[i], strict=True)] for n in (j, k))
        return cosine(a, b) if any(a) and any(b) else 0.0

    d, target = distances(student), distances(teacher)
    values = []
    for i in everyone:
        by_distance = sum(w[j] * huber(d[i][j] - target[i][j]) for j in everyone) / total
        by_angle = sum(
            w[j] * w[k] * huber(angle(student, i, j, k) - angle(teacher, i, j, k))
            for j in everyone
            for k in everyone
        )
        values.append(distance_weight * by_distance + angle_weight * by_angle / total**2)
    return reduced(values, reduction, weight)


def similarity_preserving(student, teacher, weight=None, reduction="mean"):
    everyone = range(len(student))
    w = weight or [1.0] * len(student)

    def row(x, i):
        gram = [dot(x[i], x[j]) for j in everyone]
        size = math.sqrt(sum(w[j] * gram[j] ** 2 for j in everyone))
        return [value / size for value in gram]

    values = [
        sum(w[j] * (row(student, i)[j] - row(teacher, i)[j]) ** 2 for j in everyone) / len(student)
        for i in everyone
    ]
    return reduced(values, reduction, weight)


def cka(student, teacher, weight=None):
    everyone = range(len(student))
    w = weight or [1.0] * len(student)

    def gram(x):
        mean = [sum(w[i] * x[i][n] for i in everyone) / sum(w) for n in range(len(x[0]))]
        centred = [[a - b for a, b in zip(row, mean, strict=True)] for row in x]
        return [[dot(centred[i], centred[j]) for j in everyone] for i in everyone]

    def product(a, b):
        return sum(w[i] * w[j] * a[i][j] * b[i][j] for i in everyone for j in everyone)

    k, h = gram(student), gram(teacher)
    return 1 - product(k, h) / math.sqrt(product(k, k) * product(h, h))


def contrastive(student, teacher, temperature, symmetric=False, weight=None, reduction="mean"):
    everyone = range(len(student))

    def search(a, b, i):
        scores = [cosine(a[i], b[j]) / temperature for j in everyone]
        return math.log(sum(math.exp(s) for s in scores)) - scores[i]

    values = [search(student, teacher, i) for i in everyone]
    if symmetric:
        values = [
            (v + search(teacher, student, i)) / 2 for i, v in zip(everyone, values, strict=True)
        ]
    return reduced(values, reduction, weight)
