from dataclasses import replace

import pytest
import reference_weighting
import torch

from coefvq.losses import logit_kd_loss
from coefvq.losses.multi_teacher import (
    MultiTeacherKDLoss,
    multi_teacher_kd_loss,
    multi_teacher_weights,
)

METHODS = ["uniform", "fixed", "cross_entropy", "entropy"]
FIXED = (0.5, 1.5, 3.0)


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


def three(case):
    """The case's teacher, a surer one and another one."""
    return torch.stack([case.teacher, 2 * case.teacher, case.teacher.flip(0)])


def options_of(method):
    return {"method": method, "weights": FIXED if method == "fixed" else None}


def loss(case, teachers=None, **options):
    return multi_teacher_kd_loss(
        case.student,
        three(case) if teachers is None else teachers,
        case.labels,
        task=case.task,
        label_mask=case.label_mask,
        sample_weight=case.sample_weight,
        **options,
    )


def weights(case, teachers=None, **options):
    return multi_teacher_weights(
        three(case) if teachers is None else teachers,
        case.labels,
        task=case.task,
        label_mask=case.label_mask,
        **options,
    )


def test_weights_closed_form():
    # Three teachers say ½, ¼ and ¼ of a positive: exp(CE) = 2, 4, 4, shares 0.2, 0.4, 0.4, and
    # (1 − share) / 2 = 0.4, 0.3, 0.3. Entropies: log 2, and twice h = 2 log 2 − ¾ log 3.
    teachers = torch.tensor([[1.0], [1 / 3], [1 / 3]]).log()
    value = multi_teacher_weights(teachers, torch.ones(1), task="binary", method="cross_entropy")
    torch.testing.assert_close(value, torch.tensor([[0.4], [0.3], [0.3]]))
    log2, log3 = torch.tensor(2.0).log(), torch.tensor(3.0).log()
    doubts = torch.stack([log2, 2 * log2 - 0.75 * log3, 2 * log2 - 0.75 * log3])
    expected = ((1 - doubts / doubts.sum()) / 2)[:, None]
    value = multi_teacher_weights(teachers, task="binary", method="entropy")
    torch.testing.assert_close(value, expected)
    value = multi_teacher_weights(teachers, task="binary", method="fixed", weights=[1, 1, 2])
    torch.testing.assert_close(value, torch.tensor([[0.25], [0.25], [0.5]]))
    value = multi_teacher_weights(teachers, task="binary")
    torch.testing.assert_close(value, torch.full((3, 1), 1 / 3))


def test_weights_equal_reference(case, method):
    teachers, (_, _, labels) = three(case), case.lists()
    expected = reference_weighting.teacher_weights(
        teachers.tolist(),
        labels,
        case.task,
        method,
        weights=FIXED,
        mask=case.options()["mask"],
    )
    value = weights(case, **options_of(method))
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_weights_sum_to_one_over_teachers(full, method, count):
    teachers = torch.stack([k * full.teacher for k in range(count)])
    given = [1.0] * count if method == "fixed" else None
    value = weights(full, teachers, method=method, weights=given)
    assert value.shape == (count, 6)
    assert not value.requires_grad
    assert (value >= 0).all()
    torch.testing.assert_close(value.sum(0), torch.ones(6, dtype=torch.float64))


def test_one_teacher_has_weight_one__ca_mkd(full, method):
    """CA-MKD divides by K − 1, and gave 0/0 with one teacher."""
    given = [3.0] if method == "fixed" else None
    value = weights(full, full.teacher[None], method=method, weights=given)
    assert torch.equal(value, torch.ones(1, 6, dtype=torch.float64))
    alone = loss(full, full.teacher[None], method=method, weights=given, temperature=2.0)
    expected = logit_kd_loss(
        full.student,
        full.teacher,
        task=full.task,
        temperature=2.0,
        sample_weight=full.sample_weight,
    )
    assert torch.equal(alone, expected)


def test_better_and_surer_teachers_count_more(make_case):
    labels = torch.tensor([1.0, 0.0])
    good, bad = torch.tensor([2.0, -2.0]), torch.tensor([-3.0, 3.0])  # bad is surer
    teachers = torch.stack([good, bad])
    by_label = multi_teacher_weights(teachers, labels, task="binary", method="cross_entropy")
    assert (by_label[0] > by_label[1]).all()
    by_doubt = multi_teacher_weights(teachers, task="binary", method="entropy")
    assert (by_doubt[0] < by_doubt[1]).all()


def test_unlabelled_samples_are_weighted_by_entropy(full):
    by_doubt = weights(full, method="entropy")
    value = weights(full, method="cross_entropy")
    assert torch.equal(value[:, ~full.label_mask], by_doubt[:, ~full.label_mask])
    assert not torch.allclose(value[:, full.label_mask], by_doubt[:, full.label_mask])
    nobody = replace(full, labels=None, label_mask=None)
    assert torch.equal(weights(nobody, method="cross_entropy"), by_doubt)


def test_teachers_without_any_doubt_count_alike(task):
    """Σ H = 0: EBKD's second 0/0."""
    shape = (3, 2) if task == "binary" else (3, 2, 4)
    teachers = torch.full(shape, -1e4)
    teachers.view(3, 2, -1)[..., 0] = 1e4
    value = multi_teacher_weights(teachers, task=task, method="entropy")
    torch.testing.assert_close(value, torch.full((3, 2), 1 / 3))


def test_equals_reference(case, reduction, method):
    options = {"temperature": 2.0, "reduction": reduction}
    student, _, labels = case.lists()
    expected = reference_weighting.multi_teacher_kd(
        student,
        three(case).tolist(),
        labels,
        case.task,
        method=method,
        weights=FIXED,
        **options,
        **case.options(),
    )
    value = loss(case, **options_of(method), **options)
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))


def test_kd_of_equal_logits_is_zero__trl_5731(full, method):
    same = torch.stack([full.student] * 3)
    assert loss(full, same, **options_of(method)).item() == 0.0


def test_the_same_teacher_twice_is_one_teacher(full, method):
    """Nothing shrinks when teachers are added (CA-MKD's code divides by K again)."""
    twice = torch.stack([full.teacher, full.teacher])
    given = [2.0, 5.0] if method == "fixed" else None
    expected = loss(full, full.teacher[None])
    torch.testing.assert_close(loss(full, twice, method=method, weights=given), expected)


def test_a_fixed_weight_of_zero_switches_a_teacher_off(full):
    value = loss(full, method="fixed", weights=[1.0, 0.0, 0.0])
    torch.testing.assert_close(value, loss(full, full.teacher[None]))


def test_gradients(checks, full, reduction, method):
    checks.gradients(
        lambda c: loss(c, **options_of(method), temperature=2.0, reduction=reduction), full
    )


def test_permutation(full, method):
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    options = {**options_of(method), "reduction": "none"}
    value = loss(full.rows(order), three(full)[:, order], **options)
    torch.testing.assert_close(value, loss(full, **options)[order])


def test_order_of_teachers_does_not_matter(full):
    for method in ("uniform", "cross_entropy", "entropy"):
        turned = loss(full, three(full).flip(0), method=method)
        torch.testing.assert_close(turned, loss(full, method=method))


def test_micro_batches(full, method):
    options = {**options_of(method), "reduction": "sum"}
    parts = [
        loss(full.rows(slice(a, b)), three(full)[:, a:b], **options)
        for a, b in ((0, 1), (1, 4), (4, 6))
    ]
    torch.testing.assert_close(sum(parts), loss(full, **options))


def test_softmax_invariances(checks, make_case, method):
    case = make_case("multiclass", missing=True)
    checks.shift(lambda c: loss(c, **options_of(method)), case)
    checks.appended_classes(lambda c: loss(c, **options_of(method)), case)


def test_a_masked_label_takes_a_teacher_out(make_case):
    """A teacher that holds the label for impossible gets weight 0, and no NaN."""
    case = make_case("multiclass")
    teachers = three(case)
    teachers[0].scatter_(-1, case.labels[:, None], -torch.inf)
    value = weights(case, teachers, method="cross_entropy")
    torch.testing.assert_close(value[0], torch.zeros(6, dtype=torch.float64))
    torch.testing.assert_close(value[1:], torch.full((2, 6), 0.5, dtype=torch.float64))


def test_extremes(checks, full, method):
    checks.extremes(lambda c: loss(c, **options_of(method)), full)


def test_half_precision(checks, full, method):
    checks.half_precision(lambda c: loss(c, **options_of(method)), full)


def test_compiled(checks, full):
    for name in ("fixed", "cross_entropy"):
        checks.compiled(lambda c, name=name: loss(c, **options_of(name)), full)


def test_module_equals_function(full, method):
    options = {**options_of(method), "temperature": 2.0, "reduction": "sum"}
    module = MultiTeacherKDLoss(task=full.task, **options)
    inputs = full.student, three(full), full.labels, full.label_mask, full.sample_weight
    assert torch.equal(module(*inputs), loss(full, **options))
    module.temperature = options["temperature"] = 4.0
    assert torch.equal(module(*inputs), loss(full, **options))


def test_select_takes_several_teachers_and_one(full):
    module = MultiTeacherKDLoss(task=full.task, method="cross_entropy")
    student = type("Output", (), {"logits": full.student})
    several = type("Output", (), {"logits": three(full)})
    assert torch.equal(
        module(**module.select(student, several, full)), loss(full, method="cross_entropy")
    )
    one = type("Output", (), {"logits": full.teacher})
    alone = module(**module.select(student, one, full))
    assert torch.equal(alone, loss(full, full.teacher[None]))
    with pytest.raises(ValueError, match="MultiTeacherKDLoss needs a teacher's logits"):
        module.select(student, None, full)


ZEROS, INDEX = torch.zeros(3, 4), torch.zeros(3, dtype=torch.long)
STACK = torch.zeros(2, 3, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "regression"}, "'regression' has no class probabilities"),
        ({"method": "best"}, "method 'best' is unknown; choose one of uniform, fixed, cross_"),
        ({"method": "fixed"}, "'fixed' came with weights=None; weights are one number per teacher"),
        ({"weights": [1.0, 1.0]}, r"'uniform' came with weights=\[1.0, 1.0\]"),
        ({"method": "fixed", "weights": [1.0]}, "weights has 1 numbers but .* 2 teachers"),
        ({"method": "fixed", "weights": [0.0, 0.0]}, r"at least one above 0, got \[0.0, 0.0\]"),
        ({"method": "fixed", "weights": [2.0, -1.0]}, r"from 0, .* got \[2.0, -1.0\]"),
        ({"method": "fixed", "weights": [1.0, float("nan")]}, "weights of teachers must be finite"),
        ({"temperature": 0.0}, "temperature .* got 0.0"),
        ({"reduction": "avg"}, "reduction 'avg' is unknown"),
        ({"teacher_logits": ZEROS}, r"have shape \(3, 4\) but several .* \(K, B, C\)"),
        ({"teacher_logits": STACK[:0]}, r"have shape \(0, 3, 4\) .* K from 1"),
        ({"teacher_logits": STACK[..., :2]}, r"\(3, 4\) and teacher_logits \(3, 2\)"),
        ({"teacher_logits": STACK.long()}, "teacher_logits of each teacher must be floating"),
        ({"method": "cross_entropy", "labels": INDEX + 4}, "label 4 in row 0"),
    ],
)
def test_errors(changes, message):
    inputs = {"student_logits": ZEROS, "teacher_logits": STACK, "labels": INDEX}
    with pytest.raises(ValueError, match=message):
        multi_teacher_kd_loss(**{**inputs, "task": "multiclass", **changes})


@pytest.mark.parametrize("options", [{"method": "best"}, {"weights": [1.0]}, {"temperature": 0}])
def test_module_errors_come_at_construction(options):
    with pytest.raises(ValueError, match=r"method|weights|temperature"):
        MultiTeacherKDLoss(task="binary", **options)
