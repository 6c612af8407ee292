from dataclasses import replace

import pytest
import reference_scores
import torch

from coefvq.losses.plcc import PLCCLoss, plcc_loss


@pytest.fixture
def full(make_case):
    return make_case("regression", weighted=True)


def loss(case, **options):
    return plcc_loss(case.student, case.teacher, sample_weight=case.sample_weight, **options)


def test_closed_form():
    # Centred (−1, 0, 1) and (−1, 1, 0): ρ = 1 / 2, and (1 − ½) / 2 = ¼.
    student, teacher = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 6.0, 5.0])
    torch.testing.assert_close(plcc_loss(student, teacher), torch.tensor(0.25))
    torch.testing.assert_close(plcc_loss(student, -student), torch.tensor(1.0))


def test_equals_reference(make_case, missing, weighted):
    case = make_case("regression", missing=missing, weighted=weighted)
    student, teacher, _ = case.lists()
    expected = reference_scores.plcc(student, teacher, **case.options())
    hidden = case.teacher
    if case.label_mask is not None:  # what the mask hides is never read
        hidden = hidden.where(case.label_mask, torch.nan)
    value = loss(replace(case, teacher=hidden), mask=case.label_mask)
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))


def test_equals_torch(make_case):
    case = make_case("regression", batch=50)
    rho = torch.corrcoef(torch.stack([case.student, case.teacher]))[0, 1]
    torch.testing.assert_close(loss(case), (1 - rho) / 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kd_of_equal_scores_is_zero__trl_5731(make_case, dtype):
    case = make_case("regression", weighted=True, dtype=dtype)
    student = case.teacher.clone().requires_grad_()
    value = loss(replace(case, student=student))
    value.backward()
    assert value.item() == 0.0
    assert (student.grad == 0).all()


def test_a_student_has_no_unit(full):
    """Any rising straight line is as good; this is why it has to be calibrated."""
    for a, b in ((0.01, 50.0), (40.0, -7.0)):
        moved = replace(full, student=a * full.student + b, teacher=3 * full.teacher - 20)
        torch.testing.assert_close(loss(moved), loss(full))
    torch.testing.assert_close(loss(replace(full, student=-full.student)), 1 - loss(full))


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e4, 1e-30])
def test_constant_student_gives_one_half_and_no_nan(constant):
    student = torch.full((7,), constant, requires_grad=True)
    value = plcc_loss(student, torch.arange(7.0))
    value.backward()
    assert value.item() == 0.5
    assert (student.grad == 0).all()


def test_what_rounding_makes_of_a_constant_is_not_a_correlation():
    """A head that ignores its input is not exactly constant in float32."""
    order = torch.arange(100.0)
    nearly = 63.7 * (1 + 2e-7 * order / 100).requires_grad_()
    assert len(nearly.unique()) > 1
    value = plcc_loss(nearly, order)
    value.backward()
    assert value.item() == 0.5
    assert plcc_loss(order, nearly).item() == 0.0


@pytest.mark.parametrize("constant", [0.0, 0.1, 63.7])
def test_constant_teacher_teaches_nothing(constant):
    student = torch.arange(7.0, requires_grad=True)
    value = plcc_loss(student, torch.full((7,), constant))
    value.backward()
    assert value.item() == 0.0
    assert (student.grad == 0).all()
    same = torch.full((7,), constant)
    assert plcc_loss(same, same).item() == 0.0


def test_nothing_that_counts_gives_zero():
    student = torch.arange(4.0, requires_grad=True)
    for options in ({"mask": torch.zeros(4).bool()}, {"sample_weight": torch.zeros(4)}):
        value = plcc_loss(student, torch.arange(4.0), **options)
        value.backward()
        assert value.item() == 0.0
    assert (student.grad == 0).all()


@pytest.mark.parametrize("scale", [1e-25, 1e-4, 1e15])
def test_small_and_large_units_neither_underflow_nor_overflow(make_case, scale):
    case = make_case("regression", dtype=torch.float32)
    student = (scale * case.student).requires_grad_()
    value = loss(replace(case, student=student, teacher=scale * case.teacher))
    value.backward()
    torch.testing.assert_close(value, loss(case))
    assert student.grad.isfinite().all()


def test_mask_and_weight_zero_are_as_good_as_absent(full):
    expected = loss(full.rows(torch.tensor([0, 1, 3, 4, 5])))
    keep = torch.tensor([True, True, False, True, True, True])
    weightless = replace(full, sample_weight=full.sample_weight * keep)
    torch.testing.assert_close(loss(weightless), expected)
    torch.testing.assert_close(loss(full, mask=keep), expected)


def test_a_weight_of_two_is_twice_the_sample(make_case):
    case = make_case("regression")
    weight = torch.tensor([1.0, 2, 1, 1, 2, 1], dtype=torch.float64)
    twice = case.rows(torch.tensor([0, 1, 1, 2, 3, 4, 4, 5]))
    torch.testing.assert_close(loss(replace(case, sample_weight=weight)), loss(twice))


def test_gradients(checks, full):
    checks.gradients(loss, full)


def test_permutation(full):
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(loss(full.rows(order)), loss(full))


def test_extremes(checks, full):
    checks.extremes(loss, full)


def test_half_precision(checks, full):
    checks.half_precision(loss, full)


def test_compiled(checks, full):
    checks.compiled(loss, full)


def test_module_equals_function(full):
    mask = torch.arange(6) != 2
    value = PLCCLoss()(full.student, full.teacher, mask, full.sample_weight)
    assert torch.equal(value, loss(full, mask=mask))


def test_select_from_the_teacher_or_from_labels(make_case):
    case = make_case("regression", missing=True, weighted=True)
    student, teacher = (type("Output", (), {"logits": z}) for z in (case.student, case.teacher))
    module = PLCCLoss()
    assert torch.equal(module(**module.select(student, teacher, case)), loss(case))
    with pytest.raises(ValueError, match="PLCCLoss needs a teacher's scores"):
        module.select(student, None, case)
    module = PLCCLoss(target="labels")
    expected = loss(replace(case, teacher=case.labels), mask=case.label_mask)
    assert torch.equal(module(**module.select(student, None, case)), expected)
    with pytest.raises(ValueError, match="target='labels' got a batch without labels"):
        module.select(student, None, replace(case, labels=None))
    with pytest.raises(ValueError, match="target 'mos' is unknown; choose one of teacher, labels"):
        PLCCLoss(target="mos")


ZEROS = torch.zeros(3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student_scores": torch.zeros(3, 2)}, r"student_scores have shape \(3, 2\)"),
        ({"teacher_scores": ZEROS[:2]}, r"teacher_scores \(2,\)"),
        ({"teacher_scores": ZEROS.long()}, "teacher_scores must be floating point"),
        ({"teacher_scores": ZEROS * torch.nan}, "teacher_scores must be finite, got nan in row 0"),
        ({"mask": ZEROS}, "mask must be bool"),
        ({"sample_weight": ZEROS - 1}, "sample_weight must be finite and not negative"),
        (
            {"student_scores": ZEROS[:1], "teacher_scores": ZEROS[:1]},
            "plcc_loss compares samples of a batch, got 1 sample; .*drop_last",
        ),
    ],
)
def test_errors(changes, message):
    inputs = {"student_scores": ZEROS, "teacher_scores": ZEROS}
    with pytest.raises(ValueError, match=message):
        plcc_loss(**{**inputs, **changes})
