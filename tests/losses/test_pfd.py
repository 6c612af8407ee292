from dataclasses import replace

import pytest
import reference
import torch

from coefvq.losses import PFDLoss, logit_kd_loss, pfd_loss, supervised_loss


def loss(case, **options):
    return pfd_loss(
        case.student,
        case.teacher,
        case.labels,
        task=case.task,
        label_mask=case.label_mask,
        sample_weight=case.sample_weight,
        **options,
    )


def hard(case, **options):
    return supervised_loss(
        case.student,
        case.labels,
        task=case.task,
        label_mask=case.label_mask,
        sample_weight=case.sample_weight,
        **options,
    )


def soft(case, **options):
    return logit_kd_loss(
        case.student, case.teacher, task=case.task, sample_weight=case.sample_weight, **options
    )


def test_closed_form():
    # Student ½, teacher ¾, label 1: hard log 2, soft ¾ log 3 − log 2 (worked out in test_logit_kd).
    # λ = 0.25: 0.75 log 2 + 0.25 (0.75 log 3 − log 2) = 0.5 log 2 + 0.1875 log 3.
    log2, log3 = torch.tensor(2.0).log(), torch.tensor(3.0).log()
    case = torch.zeros(2), log3.expand(2), torch.ones(2)
    value = pfd_loss(*case, task="binary", distill_weight=0.25)
    torch.testing.assert_close(value, 0.5 * log2 + 0.1875 * log3)
    # With the second label missing, each term still has its own mean, so nothing changes; the
    # per-sample sum of the second sample is its soft part alone.
    mask = torch.tensor([True, False])
    options = {"task": "binary", "distill_weight": 0.25, "label_mask": mask}
    torch.testing.assert_close(pfd_loss(*case, **options), value)
    second = pfd_loss(*case, **options, reduction="none")[1]
    torch.testing.assert_close(second, 0.25 * (0.75 * log3 - log2))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_equals_reference(case, reduction, temperature):
    options = {"distill_weight": 0.3, "temperature": temperature, "reduction": reduction}
    expected = reference.pfd(*case.lists(), case.task, **options, **case.options())
    torch.testing.assert_close(loss(case, **options), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ends_are_the_two_terms_to_the_bit(task, missing, weighted, reduction, dtype, make_case):
    case = make_case(task, missing, weighted, dtype=dtype)
    options = {"temperature": 2.0, "reduction": reduction}
    assert torch.equal(loss(case, distill_weight=0.0, **options), hard(case, reduction=reduction))
    assert torch.equal(loss(case, distill_weight=1.0, **options), soft(case, **options))


def test_means_have_their_own_counts(full):
    value = loss(full, distill_weight=0.3)
    torch.testing.assert_close(value, 0.7 * hard(full) + 0.3 * soft(full))


@pytest.mark.parametrize("labels", ["none", "masked"])
def test_no_labelled_sample_leaves_the_soft_term(full, labels):
    nothing = torch.zeros(6, dtype=torch.bool)
    changes = (
        {"label_mask": nothing} if labels == "masked" else {"label_mask": None, "labels": None}
    )
    value = loss(replace(full, **changes), distill_weight=0.3)
    torch.testing.assert_close(value, 0.3 * soft(full))


def test_unlabelled_values_are_never_read(make_case, task):
    """NaN and 99 in the labels, and not a bit differs, gradient included."""
    case = make_case(task, missing=True)
    zero = torch.where(
        case.label_mask if task != "multilabel" else case.label_mask[:, None], case.labels, 0
    )
    gradients = []
    for labels in (case.labels, zero):
        student = case.student.clone().requires_grad_()
        loss(replace(case, student=student, labels=labels)).backward()
        gradients.append(student.grad)
    assert gradients[0].isfinite().all()
    assert torch.equal(*gradients)


def test_gradients(checks, full, reduction):
    checks.gradients(lambda c: loss(c, temperature=2.0, reduction=reduction), full)


def test_permutation(checks, full):
    checks.permutation(lambda c: loss(c, reduction="none"), full)


def test_micro_batches__axolotl_3271(checks, full):
    """axolotl#3271, sparseml#592: the divisor under accumulation."""
    checks.micro_batches(lambda c: loss(c, reduction="sum"), full)


def test_mean_over_equal_micro_batches(make_case, task):
    case = make_case(task)
    halves = [loss(case.rows(slice(0, 3))), loss(case.rows(slice(3, 6)))]
    torch.testing.assert_close(sum(halves) / 2, loss(case))


def test_softmax_invariances(checks, make_case):
    case = make_case("multiclass", missing=True)
    checks.shift(lambda c: loss(c, temperature=2.0), case)
    checks.appended_classes(lambda c: loss(c, temperature=2.0), case)


@pytest.mark.parametrize("at", [0.0, 0.5, 1.0])
def test_continuous_in_weight__torchdistill_kd_loss(checks, full, at):
    """torchdistill's KDLoss dropped T² at the ends of its weight."""
    checks.continuous(lambda w: loss(full, distill_weight=w, temperature=3.0), at)


def test_linear_in_weight(full):
    ends = [loss(full, distill_weight=w, temperature=3.0) for w in (0.0, 1.0)]
    middle = loss(full, distill_weight=0.25, temperature=3.0)
    torch.testing.assert_close(middle, 0.75 * ends[0] + 0.25 * ends[1])


@pytest.mark.parametrize("at", [0.5, 1.0, 2.0])
def test_continuous_in_temperature(checks, full, at):
    for near in (at - 1e-7, at + 1e-7):
        torch.testing.assert_close(
            loss(full, temperature=near), loss(full, temperature=at), rtol=1e-5, atol=0
        )


@pytest.mark.parametrize("distill_weight", [0.0, 1.0])
def test_weight_zero_switches_off_what_is_impossible(distill_weight):
    # The student masks class 0: to the teacher (λ = 1) or the label (λ = 0) that is impossible,
    # and the other term, whose weight is 0, must not turn that into NaN.
    student = torch.tensor([[-torch.inf, 1.0, 2.0]], requires_grad=True)
    teacher, labels = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0])
    options = {"task": "multiclass", "distill_weight": distill_weight}
    value = pfd_loss(student, teacher, labels, **options)
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()
    teacher = teacher.masked_fill(torch.tensor([True, False, False]), -torch.inf)
    agreed = pfd_loss(student, teacher, torch.tensor([1]), **options)
    assert agreed.item() < 10


def test_extremes(checks, full):
    checks.extremes(lambda c: loss(c), full)


def test_half_precision(checks, full):
    checks.half_precision(lambda c: loss(c, temperature=2.0), full)


def test_compiled(checks, full):
    checks.compiled(lambda c: loss(c, temperature=2.0), full)


def test_module_equals_function(full):
    options = {"distill_weight": 0.3, "temperature": 2.0, "reduction": "sum"}
    module = PFDLoss(task=full.task, **options)
    inputs = full.student, full.teacher, full.labels, full.label_mask, full.sample_weight
    assert torch.equal(module(*inputs), loss(full, **options))
    module.distill_weight = options["distill_weight"] = 0.8
    assert torch.equal(module(*inputs), loss(full, **options))


def test_select(make_case):
    case = make_case("binary", missing=True, weighted=True)
    module = PFDLoss(task="binary")
    student, teacher = (type("Output", (), {"logits": z}) for z in (case.student, case.teacher))
    assert torch.equal(module(**module.select(student, teacher, case)), loss(case))
    with pytest.raises(ValueError, match="PFDLoss needs a teacher's logits"):
        module.select(student, None, case)


ZEROS, INDEX = torch.zeros(3, 4), torch.zeros(3, dtype=torch.long)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "regression"}, "'regression' has no class probabilities"),
        ({"task": "words"}, "task 'words' is unknown"),
        ({"distill_weight": 1.2}, r"distill_weight must be a number in \[0, 1\], got 1.2"),
        ({"distill_weight": float("nan")}, "distill_weight .* got nan"),
        ({"temperature": -1.0}, "temperature .* got -1.0"),
        ({"reduction": "avg"}, "reduction 'avg' is unknown; choose one of none, mean, sum"),
        ({"teacher_logits": ZEROS[:2]}, r"\(3, 4\) and teacher_logits \(2, 4\)"),
        ({"labels": INDEX + 7}, "label 7 in row 0"),
        ({"labels": INDEX[:2]}, r"labels have shape \(2,\)"),
        ({"labels": None, "label_mask": INDEX == 0}, "labels is None but label_mask marks 3 of 3"),
    ],
)
def test_errors(changes, message):
    given = {"student_logits": ZEROS, "teacher_logits": ZEROS, "labels": INDEX}
    with pytest.raises(ValueError, match=message):
        pfd_loss(**{**given, "task": "multiclass", **changes})


@pytest.mark.parametrize("options", [{"distill_weight": 2.0}, {"temperature": 0.0}])
def test_module_errors_come_at_construction(options):
    with pytest.raises(ValueError, match=r"distill_weight|temperature"):
        PFDLoss(task="binary", **options)
