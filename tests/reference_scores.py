"""Slow loops for the losses on scores and pairs; `math` only, float64."""

from __future__ import annotations

import math

import reference


def score_kd(student, teacher, distance, *, beta=1.0, reduction="mean", weight=None):
    values = []
    for s, t in zip(student, teacher, strict=True):
        d = abs(s - t)
        if distance == "mse":
            values.append(d * d)
        elif distance == "l1":
            values.append(d)
        else:
            values.append(d * d / (2 * beta) if d < beta else d - beta / 2)
    return reference.reduce(values, reduction, weight)


def similarity_kd(student, teacher, scale, *, reduction="mean", weight=None):
    if scale == "logit":
        student, teacher = ([reference.sigmoid(z) for z in row] for row in (student, teacher))
    values = [abs(s - t) for s, t in zip(student, teacher, strict=True)]
    return reference.reduce(values, reduction, weight)


def over_partners(pair, size, *, groups=None, mask=None, weight=None, reduction="mean"):
    """`pair(i, j)` over the partners of each sample, then over the samples that have one."""
    groups, mask = groups or [0] * size, mask or [True] * size
    weights = weight or [1.0] * size
    values, has_partner = [], []
    for i in range(size):
        total = value = 0.0
        for j in range(size):
            if i != j and groups[i] == groups[j] and mask[i] and mask[j]:
                total += weights[j]
                value += weights[j] * pair(i, j)
        values.append(value / total if total > 0 else 0.0)
        has_partner.append(total > 0)
    return reference.reduce(values, reduction, weight, has_partner)


def margin_kd(student, teacher, **options):
    def pair(i, j):
        return ((student[i] - student[j]) - (teacher[i] - teacher[j])) ** 2

    return over_partners(pair, len(student), **options)


def preference(scores, std, choice, i, j):
    u = (scores[i] - scores[j]) / math.sqrt(std[i] ** 2 + std[j] ** 2)
    if choice == "thurstone":
        return math.erfc(-u / math.sqrt(2)) / 2
    return reference.sigmoid(math.sqrt(2) * u)


def fidelity_rank(student, teacher, choice, *, student_std=1.0, teacher_std=None, **options):
    student_std = [student_std] * len(student)
    teacher_std = teacher_std or [1.0] * len(student)

    def pair(i, j):
        q = preference(student, student_std, choice, i, j)
        p = preference(teacher, teacher_std, choice, i, j)
        return 1 - math.sqrt(p * q) - math.sqrt((1 - p) * (1 - q))

    return over_partners(pair, len(student), **options)


def plcc(student, teacher, *, mask=None, weight=None):
    mask, weight = mask or [True] * len(student), weight or [1.0] * len(student)
    rows = [
        row for row, counts in zip(zip(student, teacher, weight, strict=True), mask, strict=True)
        if counts
    ]  # fmt: skip
    total = sum(w for *_, w in rows)
    mean_s = sum(w * s for s, _, w in rows) / total
    mean_t = sum(w * t for _, t, w in rows) / total
    both = sum(w * (s - mean_s) * (t - mean_t) for s, t, w in rows)
    var_s = sum(w * (s - mean_s) ** 2 for s, _, w in rows)
    var_t = sum(w * (t - mean_t) ** 2 for _, t, w in rows)
    return (1 - both / math.sqrt(var_s * var_t)) / 2
