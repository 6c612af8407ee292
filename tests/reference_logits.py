"""DKD, NKD and standardised KD again, slowly: plain Python loops over lists, float64."""

import math

from reference import divergence, reduce, softmax


def _others(logits, label, temperature):
    return softmax([z for i, z in enumerate(logits) if i != label], temperature)


def dkd(
    student, teacher, labels, *, alpha, beta, temperature, reduction="mean", weight=None, mask=None
):
    values = []
    for s, t, y, known in zip(student, teacher, labels, mask or [True] * len(labels), strict=True):
        p, q = softmax(t, temperature), softmax(s, temperature)
        if not known:
            values.append(temperature**2 * divergence(p, q))
            continue
        target = divergence([p[y], 1 - p[y]], [q[y], 1 - q[y]])
        others = divergence(_others(t, y, temperature), _others(s, y, temperature))
        values.append(temperature**2 * (alpha * target + beta * others))
    return reduce(values, reduction, weight)


def nkd(student, teacher, labels, *, gamma, temperature, reduction="mean", weight=None, mask=None):
    values = []
    for s, t, y, known in zip(student, teacher, labels, mask or [True] * len(labels), strict=True):
        if not known:
            kl = divergence(softmax(t, temperature), softmax(s, temperature))
            values.append(gamma * temperature**2 * kl)
            continue
        own = -softmax(t)[y] * math.log(softmax(s)[y])
        others = divergence(_others(t, y, temperature), _others(s, y, temperature))
        values.append(own + gamma * temperature**2 * others)
    return reduce(values, reduction, weight)


def z_scores(logits):
    mean = sum(logits) / len(logits)
    deviation = math.sqrt(sum((z - mean) ** 2 for z in logits) / len(logits))
    return [(z - mean) / deviation for z in logits]


def standardized_kd(student, teacher, *, temperature, reduction="mean", weight=None):
    values = [
        temperature**2
        * divergence(softmax(z_scores(t), temperature), softmax(z_scores(s), temperature))
        for s, t in zip(student, teacher, strict=True)
    ]
    return reduce(values, reduction, weight)
