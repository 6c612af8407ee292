"""Slow loops for the losses that weight samples, teachers or relations; `math` only, float64."""

from __future__ import annotations

import math

import reference


def pearson(a, b, weight=None):
    weight = weight or [1.0] * len(a)
    total = sum(weight)
    mean_a = sum(w * x for w, x in zip(weight, a, strict=True)) / total
    mean_b = sum(w * x for w, x in zip(weight, b, strict=True)) / total
    top = sum(w * (x - mean_a) * (y - mean_b) for w, x, y in zip(weight, a, b, strict=True))
    var_a = sum(w * (x - mean_a) ** 2 for w, x in zip(weight, a, strict=True))
    var_b = sum(w * (y - mean_b) ** 2 for w, y in zip(weight, b, strict=True))
    return top / math.sqrt(var_a * var_b)


def dist(
    student,
    teacher,
    task,
    *,
    inter_weight=1.0,
    intra_weight=1.0,
    temperature=1.0,
    reduction="mean",
    weight=None,
):
    def probabilities(row):
        if task == "multiclass":
            return reference.softmax(row, temperature)
        row = row if isinstance(row, list) else [row]
        return [reference.sigmoid(z / temperature) for z in row]

    q, p = ([probabilities(row) for row in logits] for logits in (student, teacher))
    result = [0.0] * len(q) if reduction == "none" else 0.0
    scale = temperature**2
    if inter_weight:
        rows = [scale * inter_weight * (1 - pearson(a, b)) for a, b in zip(q, p, strict=True)]
        result = reference.reduce(rows, reduction, weight)
    if intra_weight:
        columns = [
            1 - pearson([row[c] for row in q], [row[c] for row in p], weight)
            for c in range(len(q[0]))
        ]
        result += scale * intra_weight * sum(columns) / len(columns)
    return result


def wsld(student, teacher, labels, task, *, temperature, reduction, weight=None, mask=None):
    trust = reference.confidence("relative", student, teacher, labels, task, mask)
    values = reference.rows(
        task, lambda s, t, w: w * reference.soft(s, t, task, temperature), student, teacher, trust
    )
    return reference.reduce(values, reduction, weight)


def wttm(student, teacher, task, *, exponent, reduction, weight=None):
    def decision(s, t):
        if task == "multiclass":
            p, q = reference.softmax(t), reference.softmax(s)
        else:
            p = [reference.sigmoid(t), reference.sigmoid(-t)]
            q = [reference.sigmoid(s), reference.sigmoid(-s)]
        powers = [x**exponent for x in p]
        return sum(powers) * reference.divergence([x / sum(powers) for x in powers], q)

    return reference.reduce(reference.rows(task, decision, student, teacher), reduction, weight)


def ha_pfd(
    student,
    teacher,
    labels,
    task,
    *,
    distill_weight,
    exponent,
    temperature,
    reduction,
    feature_weight=0.0,
    student_features=None,
    teacher_features=None,
    weight=None,
    mask=None,
):
    # The student in the teacher's place: the probability that *it* gives to the label.
    easy = reference.confidence("true_probability", student, student, labels, task, mask)

    def soft(s, t, e):
        return distill_weight * (1 - e) ** exponent * reference.soft(s, t, task, temperature)

    safe = reference.fill(labels, task, mask)
    hards = reference.rows(task, lambda s, y: reference.hard(s, y, task), student, safe)
    parts = [
        reference.reduce(hards, reduction, weight, mask),
        reference.reduce(reference.rows(task, soft, student, teacher, easy), reduction, weight),
    ]
    if student_features is not None:
        errors = [
            feature_weight * sum((a - b) ** 2 for a, b in zip(f, h, strict=True)) / len(f)
            for f, h in zip(student_features, teacher_features, strict=True)
        ]
        parts.append(reference.reduce(errors, reduction, weight))
    if reduction == "none":
        return [sum(row) for row in zip(*parts, strict=True)]
    return sum(parts)


def teacher_weights(teachers, labels, task, method, *, weights=None, mask=None):
    """K lists of B numbers."""
    count, batch = len(teachers), len(teachers[0])
    if method == "fixed":
        return [[w / sum(weights)] * batch for w in weights]
    if method == "uniform" or count == 1:
        return [[1 / count] * batch for _ in teachers]

    def doubt(z):
        p = reference.softmax(z) if task == "multiclass" else None
        return reference.entropy(p or [reference.sigmoid(z), reference.sigmoid(-z)])

    known = mask or [True] * batch
    safe = None if labels is None else reference.fill(labels, task, mask)
    columns = []
    for i in range(batch):
        own = [reference.rows(task, doubt, [t[i]])[0] for t in teachers]
        column = [(1 - h / sum(own)) / (count - 1) for h in own]
        if method == "cross_entropy" and safe is not None and known[i]:
            costs = [
                reference.rows(task, lambda z, y: reference.hard(z, y, task), [t[i]], [safe[i]])[0]
                for t in teachers
            ]
            column = [(1 - share) / (count - 1) for share in reference.softmax(costs)]
        columns.append(column)
    return [list(row) for row in zip(*columns, strict=True)]


def multi_teacher_kd(
    student,
    teachers,
    labels,
    task,
    *,
    method,
    temperature,
    reduction,
    weights=None,
    weight=None,
    mask=None,
):
    shares = teacher_weights(teachers, labels, task, method, weights=weights, mask=mask)
    values = [0.0] * len(student)
    for share, teacher in zip(shares, teachers, strict=True):
        own = reference.logit_kd(student, teacher, task, temperature=temperature, reduction="none")
        values = [v + w * x for v, w, x in zip(values, share, own, strict=True)]
    return reference.reduce(values, reduction, weight)


def gatekeeper(logits, labels, task, *, right_weight, reduction, weight=None, mask=None):
    def decision(z, y):
        if task == "multiclass":
            right, p = z.index(max(z)) == y, reference.softmax(z)
        else:
            right, p = (z > 0) == (y > 0.5), [reference.sigmoid(z), reference.sigmoid(-z)]
        if right:
            return right_weight * reference.hard(z, y, task)
        return (1 - right_weight) * (math.log(len(p)) - reference.entropy(p))

    safe = reference.fill(labels, task, mask)
    return reference.reduce(reference.rows(task, decision, logits, safe), reduction, weight, mask)
