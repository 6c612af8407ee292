"""Answers that somebody else has published: Lopez-Paz' four synthetic problems, with our loss.

Lopez-Paz, Bottou, Schölkopf and Vapnik, "Unifying distillation and privileged information", ICLR
2016, section 6: logistic models on d = 50 features, 200 training samples, 10 000 for the test, a
teacher that sees x* instead of x, a student that learns from the teacher alone (λ = T = 1), all
averaged over 100 draws. Two of the problems can gain from privileged features and two cannot.

What matters of the solver: without noise the classes can be separated, so logistic weights grow
for ever, and with them the teacher's certainty; at infinity its probabilities are the labels and
nothing is left to distil. Some early end is needed, and the source's (1000 epochs of RMSprop) is
one. Ours is plain full-batch gradient descent with Nesterov momentum 0.9 and step 0.3 from zero,
300 steps, the same for teacher and both students; no weight decay and no scaling of inputs.
Between 200 and 1000 steps no mean moves by much more than one point.

One reading: by the words of the source the fourth problem draws three relevant features at random
for each sample, and then no linear teacher can be right in 96 % of the cases, since it isn't told
which three weights they come with (it has 52 %). A line that the published code keeps as a comment
gives all three figures, and their spreads: the relevant features of a sample are its three largest,
and the threshold is the median.
"""

import pytest
import torch

from coefvq.losses import pfd_loss

FEATURES, TRAIN, TEST = 50, 200, 10_000


def noise(repeats, count, draw):
    return torch.randn(repeats, count, FEATURES, generator=draw)


def project(x, direction):
    return (x * direction[:, None, : x.shape[-1]]).sum(-1)


def clean_margin(direction, count, draw):
    """x* is the distance to the boundary; the label has noise."""
    x = noise(len(direction), count, draw)
    margin = project(x, direction)
    flips = torch.randn(margin.shape, generator=draw)
    return x, margin[..., None], margin + flips > 0


def clean_features(direction, count, draw):
    """x* is what x shows with noise."""
    clean = noise(len(direction), count, draw)
    x = clean + noise(len(direction), count, draw)
    return x, clean, project(clean, direction) > 0


def relevant_features(direction, count, draw):
    """x* are the three features that the label depends on (which three: all are alike)."""
    x = noise(len(direction), count, draw)
    relevant = x[..., :3]
    return x, relevant, project(relevant, direction) > 0


def relevant_by_sample(direction, count, draw):
    """x* are the three features that the label depends on, other ones for every sample."""
    x = noise(len(direction), count, draw)
    relevant = x.topk(3, -1).values
    score = project(relevant, direction)
    return x, relevant, score > score.median(-1, keepdim=True).values


# Published accuracy in percent: privileged, regular, distilled.
PUBLISHED = {
    clean_margin: (96, 88, 95),
    clean_features: (90, 68, 70),
    relevant_features: (98, 89, 97),
    relevant_by_sample: (96, 55, 56),
}
GAIN = (clean_margin, relevant_features)


def logits_of(weights, x):
    return (x @ weights[:, :-1, None]).squeeze(-1) + weights[:, -1:]


def fit(x, labels, teacher_logits=None):
    """One logistic model per repeat, (R, features + 1), all in one tensor: R sums don't mix."""
    weights = torch.zeros(len(x), x.shape[-1] + 1, requires_grad=True)
    optimizer = torch.optim.SGD([weights], lr=0.3, momentum=0.9, nesterov=True)
    taught = teacher_logits is not None
    teacher = (teacher_logits if taught else torch.zeros_like(labels)).flatten()
    for _ in range(300):
        optimizer.zero_grad()
        total = pfd_loss(
            logits_of(weights, x).flatten(),
            teacher,
            labels.flatten(),
            task="binary",
            distill_weight=1.0 if taught else 0.0,
            temperature=1.0,
            reduction="sum",
        )
        (total / x.shape[1]).backward()  # the mean of each repeat's own samples
        optimizer.step()
    return weights.detach()


def accuracies(problem, repeats, count=TEST, seed=0):
    """(3, R) accuracy in percent on new samples: privileged, regular, distilled."""
    draw = torch.Generator().manual_seed(seed)
    direction = torch.randn(repeats, FEATURES, generator=draw)
    x, privileged, labels = problem(direction, TRAIN, draw)
    labels = labels.float()
    teacher = fit(privileged, labels)
    regular = fit(x, labels)
    distilled = fit(x, labels, logits_of(teacher, privileged))
    columns = []
    for row in range(repeats):  # one at a time: 100 test sets at once are 200 MB
        one = slice(row, row + 1)
        x, privileged, labels = problem(direction[one], count, draw)
        answers = (
            logits_of(teacher[one], privileged),
            logits_of(regular[one], x),
            logits_of(distilled[one], x),
        )
        columns.append(torch.stack([((z > 0) == labels).float().mean() for z in answers]))
    return 100 * torch.stack(columns, -1)


def table_of(found):
    lines = [
        f"{'accuracy in percent':<20}{'privileged':>14}{'regular':>14}{'distilled':>14}{'gain':>14}"
    ]
    for problem, values in found.items():
        gain = values[2] - values[1]
        cells = [f"{v.mean():.1f} ± {v.std():.1f}" for v in (*values, gain)]
        lines.append(f"{problem.__name__:<20}" + "".join(f"{cell:>14}" for cell in cells))
        published = PUBLISHED[problem]
        cells = [*published, published[2] - published[1]]
        lines.append(f"{'  published':<20}" + "".join(f"{cell:>14}" for cell in cells))
    return "\n".join(lines)


def check(found, tolerance):
    for problem, (privileged, regular, distilled) in found.items():
        name, published = problem.__name__, PUBLISHED[problem]
        assert abs(privileged.mean() - published[0]) < tolerance, name
        assert abs(regular.mean() - published[1]) < tolerance, name
        # The yardstick is how much a student's accuracy differs from one draw of 200 samples to
        # the next: a gain is a gain if it exceeds that twice, and none if it stays below it.
        gain, spread = (distilled - regular).mean(), regular.std()
        if problem in GAIN:
            assert gain > 2 * spread, name
        else:
            assert -spread < gain < spread, name


@pytest.mark.slow
def test_the_four_problems_come_out_as_published(capsys):
    found = {problem: accuracies(problem, repeats=100) for problem in PUBLISHED}
    with capsys.disabled():
        print("\n" + table_of(found))
    check(found, tolerance=2.0)


def test_the_four_problems_come_out_with_few_repeats():
    """The standard error of ten draws is at most 1.1 points, and 4 are 3.5 of it."""
    found = {problem: accuracies(problem, repeats=10, count=2000) for problem in PUBLISHED}
    check(found, tolerance=4.0)


def test_a_teacher_without_privilege_gives_nothing():
    """The control: the teacher sees x as well, and the student can only repeat it."""
    draw = torch.Generator().manual_seed(0)
    direction = torch.randn(4, FEATURES, generator=draw)
    x, _, labels = relevant_features(direction, TRAIN, draw)
    teacher = fit(x, labels.float())
    distilled = fit(x, labels.float(), logits_of(teacher, x))
    same = (logits_of(distilled, x) > 0) == (logits_of(teacher, x) > 0)
    assert same.float().mean() > 0.99
