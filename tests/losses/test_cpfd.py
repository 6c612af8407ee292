from dataclasses import replace

import pytest
import reference
import torch

from coefvq.losses import CPFDLoss, confidence, cpfd_loss, pfd_loss, supervised_loss
from coefvq.losses.confidence import Confidence, max_probability, true_probability, uniform


def given(case):
    return {
        "task": case.task,
        "label_mask": case.label_mask,
        "sample_weight": case.sample_weight,
    }


def loss(case, **options):
    return cpfd_loss(case.student, case.teacher, case.labels, **given(case), **options)


@pytest.fixture(params=["fixed", "complement"])
def hard_weight(request):
    return request.param


def test_closed_form():
    # Student ½, teacher ¾ for class 1. Labels 1 and 0: c = ¾ and ¼, hard log 2, soft
    # S = ¾ log 3 − log 2 for both. λ = 0.4, fixed: 0.6 log 2 + 0.4 c S; complement: the factor
    # of log 2 is 1 − 0.4 c = 0.7 and 0.9.
    log2, log3 = torch.tensor(2.0).log(), torch.tensor(3.0).log()
    divergence = 0.75 * log3 - log2
    case = torch.zeros(2), log3.expand(2), torch.tensor([1.0, 0.0])
    options = {"task": "binary", "distill_weight": 0.4, "reduction": "none"}
    soft = 0.4 * torch.tensor([0.75, 0.25]) * divergence
    torch.testing.assert_close(cpfd_loss(*case, **options), 0.6 * log2 + soft)
    complement = cpfd_loss(*case, **options, hard_weight="complement")
    torch.testing.assert_close(complement, torch.tensor([0.7, 0.9]) * log2 + soft)
    # Without the second label its c is the larger probability, ¾, and only the soft part is left.
    unlabelled = cpfd_loss(*case, **options, label_mask=torch.tensor([True, False]))
    torch.testing.assert_close(unlabelled[1], 0.4 * 0.75 * divergence)


@pytest.mark.parametrize("word", [name for name in confidence.NAMES if name != "uniform"])
def test_equals_reference(case, reduction, hard_weight, word):
    options = {
        "distill_weight": 0.3,
        "temperature": 2.0,
        "reduction": reduction,
        "hard_weight": hard_weight,
    }
    trust = reference.confidence(word, *case.lists(), case.task, case.options()["mask"])
    expected = reference.cpfd(*case.lists(), case.task, trust, **options, **case.options())
    value = loss(case, confidence=getattr(confidence, word), **options)
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("distill_weight", [0.0, 0.3, 0.59, 0.9, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_confidence_one_is_pfd_to_the_bit(
    task, missing, weighted, hard_weight, dtype, distill_weight, make_case
):
    case = make_case(task, missing, weighted, dtype=dtype)
    grads = []
    for function, more in (
        (pfd_loss, {}),
        (cpfd_loss, {"confidence": uniform, "hard_weight": hard_weight}),
    ):
        student = case.student.clone().requires_grad_()
        options = {**given(case), "distill_weight": distill_weight, "temperature": 3.0, **more}
        value = function(student, case.teacher, case.labels, **options)
        value.backward()
        grads.append((value, student.grad))
    assert torch.equal(grads[0][0], grads[1][0])
    assert torch.equal(grads[0][1], grads[1][1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weight_zero_is_supervised_to_the_bit(
    task, missing, weighted, reduction, hard_weight, dtype, make_case
):
    case = make_case(task, missing, weighted, dtype=dtype)
    expected = supervised_loss(case.student, case.labels, **given(case), reduction=reduction)
    value = loss(case, distill_weight=0.0, hard_weight=hard_weight, reduction=reduction)
    assert torch.equal(value, expected)


def test_confidence_zero_switches_the_teacher_off(full):
    def never(student, teacher, labels, *, task, label_mask=None):
        return torch.zeros(len(student))

    hard = supervised_loss(full.student, full.labels, **given(full))
    torch.testing.assert_close(loss(full, distill_weight=0.3, confidence=never), 0.7 * hard)
    complement = loss(full, distill_weight=0.3, confidence=never, hard_weight="complement")
    torch.testing.assert_close(complement, hard)


def test_own_confidence_is_detached_and_sees_safe_labels(full):
    seen = {}

    def own(student, teacher, labels, *, task, label_mask=None):
        seen.update(student=student, labels=labels, label_mask=label_mask)
        return student.flatten(1).mean(-1).sigmoid() if student.ndim > 1 else student.sigmoid()

    student = full.student.clone().requires_grad_()
    value = loss(replace(full, student=student), confidence=own)
    assert value.requires_grad
    assert not seen["student"].requires_grad
    assert seen["labels"].isfinite().all()
    assert seen["labels"].max() < 4
    assert torch.equal(seen["label_mask"], full.label_mask)


def test_no_gradient_reaches_a_confidence(full):
    scale = torch.tensor(0.5, requires_grad=True)

    def learned(student, teacher, labels, *, task, label_mask=None):
        return scale.expand(len(student))

    student = full.student.clone().requires_grad_()
    for hard_weight in ("fixed", "complement"):
        case = replace(full, student=student)
        loss(case, confidence=learned, hard_weight=hard_weight).backward()
    assert scale.grad is None


@pytest.mark.parametrize("word", confidence.NAMES)
def test_labels_none_leaves_the_soft_term(full, word):
    trust = getattr(confidence, word)
    case = replace(full, labels=None, label_mask=None)
    nothing = replace(full, label_mask=torch.zeros(6, dtype=torch.bool))
    value = loss(case, confidence=trust, distill_weight=0.3)
    assert torch.equal(value, loss(nothing, confidence=trust, distill_weight=0.3))
    fallback = max_probability if word in reference.NEED_LABELS else trust
    soft = loss(case, confidence=fallback, distill_weight=1.0)
    torch.testing.assert_close(value, 0.3 * soft)


def test_complement_never_turns_the_hard_term_over():
    """Normalised confidences reach 2: at λ = 1 the factor 1 − 2 is kept at 0."""
    trust = Confidence(lambda *_, **__: torch.tensor([1.0, 0.0]), normalize=True)
    logits = torch.zeros(2)
    value = cpfd_loss(
        logits,
        logits,
        torch.ones(2),
        task="binary",
        distill_weight=1.0,
        confidence=trust,
        hard_weight="complement",
        reduction="none",
    )
    torch.testing.assert_close(value, torch.tensor([0.0, 0.6931472]))


def test_gradients(checks, full, reduction, hard_weight):
    checks.gradients(
        lambda c: loss(c, temperature=2.0, reduction=reduction, hard_weight=hard_weight), full
    )


def test_permutation(checks, full):
    checks.permutation(lambda c: loss(c, reduction="none"), full)


def test_micro_batches(checks, full):
    checks.micro_batches(lambda c: loss(c, reduction="sum"), full)


@pytest.mark.parametrize("word", confidence.NAMES)
def test_softmax_invariances(checks, make_case, word):
    case = make_case("multiclass", missing=True)
    trust = getattr(confidence, word)
    checks.shift(lambda c: loss(c, confidence=trust), case)
    checks.appended_classes(lambda c: loss(c, confidence=trust), case)


@pytest.mark.parametrize("at", [0.0, 0.5, 1.0])
def test_continuous_in_weight(checks, full, hard_weight, at):
    checks.continuous(
        lambda w: loss(full, distill_weight=w, temperature=3.0, hard_weight=hard_weight), at
    )


@pytest.mark.parametrize("at", [0.0, 0.5, 1.0])
def test_continuous_in_warm_up(checks, full, at):
    checks.continuous(lambda s: loss(full, confidence=Confidence(true_probability, strength=s)), at)


@pytest.mark.parametrize("at", [0.5, 1.0, 2.0])
def test_continuous_in_temperature(full, at):
    for near in (at - 1e-7, at + 1e-7):
        torch.testing.assert_close(
            loss(full, temperature=near), loss(full, temperature=at), rtol=1e-5, atol=0
        )


@pytest.mark.parametrize("word", confidence.NAMES)
def test_extremes(checks, full, word):
    checks.extremes(lambda c: loss(c, confidence=getattr(confidence, word)), full)


@pytest.mark.parametrize("word", confidence.NAMES)
def test_half_precision(checks, full, word):
    if word == "correctness":  # a gate may flip where rounding moves a tie; exact part only
        half = replace(full, student=full.student.bfloat16(), teacher=full.teacher.bfloat16())
        assert loss(half, confidence=confidence.correctness).dtype == torch.float32
    else:
        checks.half_precision(lambda c: loss(c, confidence=getattr(confidence, word)), full)


def test_compiled(checks, full):
    options = Confidence(true_probability, exponent=2.0, floor=0.1, normalize=True)
    checks.compiled(lambda c: loss(c, temperature=2.0, confidence=options), full)


def test_module_equals_function(full, hard_weight):
    options = {
        "distill_weight": 0.3,
        "temperature": 2.0,
        "confidence": max_probability,
        "hard_weight": hard_weight,
        "reduction": "sum",
    }
    module = CPFDLoss(task=full.task, **options)
    inputs = full.student, full.teacher, full.labels, full.label_mask, full.sample_weight
    assert torch.equal(module(*inputs), loss(full, **options))
    module.temperature = options["temperature"] = 4.0
    assert torch.equal(module(*inputs), loss(full, **options))


def test_select(make_case):
    case = make_case("binary", missing=True, weighted=True)
    module = CPFDLoss(task="binary")
    student, teacher = (type("Output", (), {"logits": z}) for z in (case.student, case.teacher))
    assert torch.equal(module(**module.select(student, teacher, case)), loss(case))
    with pytest.raises(ValueError, match="CPFDLoss needs a teacher's logits"):
        module.select(student, None, case)


ZEROS, INDEX = torch.zeros(3, 4), torch.zeros(3, dtype=torch.long)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "regression"}, "'regression' has no class probabilities"),
        ({"task": "words"}, "task 'words' is unknown"),
        ({"hard_weight": "free"}, "hard_weight 'free' is unknown; choose one of fixed, complement"),
        ({"distill_weight": -0.1}, r"distill_weight must be a number in \[0, 1\], got -0.1"),
        ({"temperature": 0.0}, "temperature .* got 0.0"),
        ({"reduction": "avg"}, "reduction 'avg' is unknown; choose one of none, mean, sum"),
        ({"teacher_logits": ZEROS[:2]}, r"\(3, 4\) and teacher_logits \(2, 4\)"),
        ({"labels": INDEX - 1}, "label -1 in row 0"),
        ({"confidence": lambda *_, **__: ZEROS}, r"confidence has shape \(3, 4\)"),
        ({"confidence": lambda *_, **__: ZEROS[0]}, r"confidence has shape \(4,\)"),
    ],
)
def test_errors(changes, message):
    inputs = {"student_logits": ZEROS, "teacher_logits": ZEROS, "labels": INDEX}
    with pytest.raises(ValueError, match=message):
        cpfd_loss(**{**inputs, "task": "multiclass", **changes})


@pytest.mark.parametrize("options", [{"hard_weight": "free"}, {"distill_weight": 2.0}])
def test_module_errors_come_at_construction(options):
    with pytest.raises(ValueError, match=r"hard_weight|distill_weight"):
        CPFDLoss(task="binary", **options)
