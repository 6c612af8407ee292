import dataclasses
import math
import pickle

import pytest
import reference
import torch

from coefvq.losses import confidence
from coefvq.losses.confidence import (
    Confidence,
    correctness,
    margin,
    max_probability,
    normalized_entropy,
    relative,
    true_probability,
    uniform,
)

WORDS = [name for name in confidence.NAMES if name != "uniform"]


def of(function, case, **changes):
    case = dataclasses.replace(case, **changes)
    return function(
        case.student, case.teacher, case.labels, task=case.task, label_mask=case.label_mask
    )


def test_closed_form():
    # Teacher (½, ⅜, ⅛), student uniform, label 1: p[y] = ⅜, largest ½, margin ⅛, wrong.
    teacher = torch.tensor([[4.0, 3.0, 1.0]], dtype=torch.float64).log()
    student, label = torch.zeros(1, 3, dtype=torch.float64), torch.tensor([1])
    entropy = 0.5 * math.log(2) + 0.375 * math.log(8 / 3) + 0.125 * math.log(8)
    expected = {
        true_probability: 0.375,
        max_probability: 0.5,
        margin: 0.125,
        correctness: 0.0,
        normalized_entropy: 1 - entropy / math.log(3),
        # CE_student = log 3, CE_teacher = log(8/3)
        relative: 1 - math.exp(-math.log(3) / math.log(8 / 3)),
        uniform: 1.0,
    }
    for function, number in expected.items():
        value = function(student, teacher, label, task="multiclass")
        torch.testing.assert_close(value, torch.tensor([number], dtype=torch.float64))


@pytest.mark.parametrize("word", WORDS)
def test_equals_reference(task, missing, word, make_case):
    case = make_case(task, missing)
    expected = reference.confidence(word, *case.lists(), task, case.options()["mask"])
    value = of(getattr(confidence, word), case)
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("word", confidence.NAMES)
def test_in_the_unit_interval_and_detached(task, missing, word, make_case):
    case = make_case(task, missing, batch=50)
    for scale in (0.0, 1.0, 1e4):
        value = of(
            getattr(confidence, word),
            case,
            student=(case.student.float() * scale).requires_grad_(),
            teacher=(case.teacher.float() * scale).requires_grad_(),
        )
        assert value.shape == (case.labels.shape if task != "multiclass" else (50,))
        assert ((value >= 0) & (value <= 1)).all()
        assert not value.requires_grad


@pytest.mark.parametrize("word", reference.NEED_LABELS)
@pytest.mark.parametrize("labels", ["masked", "none"])
def test_unlabelled_falls_back_to_max_probability(full, word, labels):
    nothing = {"label_mask": torch.zeros(6, dtype=torch.bool)}
    changes = nothing if labels == "masked" else {"label_mask": None, "labels": None}
    assert torch.equal(of(getattr(confidence, word), full, **changes), of(max_probability, full))


@pytest.mark.parametrize("word", WORDS)
def test_binary_is_two_classes(make_case, word):
    case = make_case("binary")
    nothing = torch.zeros_like(case.student)
    two = dataclasses.replace(
        case,
        task="multiclass",
        student=torch.stack([nothing, case.student], -1),
        teacher=torch.stack([nothing, case.teacher], -1),
        labels=case.labels.long(),
    )
    function = getattr(confidence, word)
    torch.testing.assert_close(of(function, case), of(function, two))


@pytest.mark.parametrize("word", WORDS)
def test_appended_classes_change_nothing(make_case, word):
    case = make_case("multiclass")
    masked = torch.full((6, 3), -torch.inf, dtype=torch.float64)
    student, teacher = (torch.cat([z, masked], -1) for z in (case.student, case.teacher))
    function = getattr(confidence, word)
    torch.testing.assert_close(
        of(function, case, student=student, teacher=teacher), of(function, case)
    )


@pytest.mark.parametrize("word", confidence.NAMES)
def test_half_precision_and_compile(full, word):
    function = getattr(confidence, word)
    half = {"student": full.student.bfloat16(), "teacher": full.teacher.bfloat16()}
    single = {name: logits.float() for name, logits in half.items()}
    value = of(function, full, **half)
    assert value.dtype == torch.float32
    assert torch.equal(value, of(function, full, **single))
    torch.compiler.reset()
    graph = torch.compile(of, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(graph(function, full), of(function, full))


def test_one_class_left_is_certain():
    teacher = torch.tensor([[0.0, -torch.inf]])
    labels = torch.tensor([0])
    for word in WORDS:
        value = getattr(confidence, word)(torch.zeros(1, 2), teacher, labels, task="multiclass")
        assert value.item() == 1.0


def test_soft_binary_labels():
    value = true_probability(
        torch.zeros(1), torch.tensor([3.0]).log(), torch.tensor([0.5]), task="binary"
    )
    assert value.item() == 0.5  # ½ · ¾ + ½ · ¼


def test_relative_grows_with_the_teachers_lead():
    teacher, labels = torch.tensor([-2.0, 0.0, 2.0, 100.0]), torch.ones(4)
    value = relative(torch.zeros(4), teacher, labels, task="binary")
    assert (value.diff() > 0).all()
    assert value[-1] == 1
    perfect = torch.full((1,), 200.0)
    assert relative(perfect, perfect, torch.ones(1), task="binary").item() == 0


def test_options_by_hand():
    # c = (0.2, 0.4, 0.9): squares 0.04, 0.16, 0.81; floor 0.1 lifts the first; mean 1.07 / 3.
    def given(*_, **__):
        return torch.tensor([0.2, 0.4, 0.9])

    def options(**changes):
        return Confidence(given, **changes)(torch.zeros(3), torch.zeros(3), None, task="binary")

    squares = torch.tensor([0.04, 0.16, 0.81])
    floored = torch.tensor([0.1, 0.16, 0.81])
    torch.testing.assert_close(options(exponent=2.0), squares)
    torch.testing.assert_close(options(exponent=2.0, floor=0.1), floored)
    normal = options(exponent=2.0, floor=0.1, normalize=True)
    torch.testing.assert_close(normal, floored / (1.07 / 3))
    torch.testing.assert_close(normal.mean(), torch.tensor(1.0))
    half = options(exponent=2.0, strength=0.5)
    torch.testing.assert_close(half, (1 + squares) / 2)
    assert torch.equal(options(), given())
    assert torch.equal(options(strength=0.0, exponent=2.0), torch.ones(3))
    assert torch.equal(options(exponent=0.0), torch.ones(3))


def test_nobody_trusted_stays_zero():
    wrong = Confidence(correctness, normalize=True)
    value = wrong(torch.zeros(2), torch.ones(2), torch.zeros(2), task="binary")
    assert torch.equal(value, torch.zeros(2))


def test_wraps_itself_and_pickles(full):
    inner = Confidence(true_probability, exponent=2.0)
    outer = pickle.loads(pickle.dumps(Confidence(inner, normalize=True)))
    torch.testing.assert_close(of(outer, full).mean(), torch.tensor(1.0, dtype=torch.float64))
    assert dataclasses.replace(outer, strength=0.5).function == inner
    with pytest.raises(dataclasses.FrozenInstanceError):
        outer.floor = 0.5


def test_names_are_functions():
    assert all(callable(getattr(confidence, name)) for name in confidence.NAMES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exponent": -1.0}, "exponent must be a finite number from 0, got -1.0"),
        ({"floor": 1.5}, r"floor must be a number in \[0, 1\], got 1.5"),
        ({"strength": float("nan")}, "strength .* got nan"),
    ],
)
def test_option_errors(options, message):
    with pytest.raises(ValueError, match=message):
        Confidence(true_probability, **options)


@pytest.mark.parametrize("word", confidence.NAMES)
def test_refuses_what_losses_refuse(word):
    function, zeros = getattr(confidence, word), torch.zeros(3)
    with pytest.raises(ValueError, match="no class probabilities"):
        function(zeros, zeros, zeros, task="regression")
    with pytest.raises(ValueError, match="task 'words' is unknown"):
        function(zeros, zeros, zeros, task="words")
    with pytest.raises(ValueError, match=r"\(3,\) and teacher_logits \(2,\)"):
        function(zeros, zeros[:2], zeros, task="binary")
