from dataclasses import replace

import pytest
import reference_scores
import torch

from coefvq.losses.score_kd import DISTANCES, ScoreKDLoss, score_kd_loss


@pytest.fixture(params=DISTANCES)
def distance(request):
    return request.param


@pytest.fixture
def case(make_case, weighted):
    return make_case("regression", weighted=weighted)


@pytest.fixture
def full(make_case):
    return make_case("regression", weighted=True)


def loss(case, **options):
    return score_kd_loss(case.student, case.teacher, sample_weight=case.sample_weight, **options)


def test_closed_form():
    # Differences 1 and −6. mse: (1 + 36)/2. l1: (1 + 6)/2. smooth l1 with β = 4: 1²/8 and 6 − 2.
    student, teacher = torch.tensor([3.0, 10.0]), torch.tensor([2.0, 16.0])
    for distance, expected in (("mse", 18.5), ("l1", 3.5), ("smooth_l1", 4.125 / 2)):
        value = score_kd_loss(student, teacher, distance=distance, beta=4.0)
        torch.testing.assert_close(value, torch.tensor(expected))


@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0])
def test_equals_reference(case, distance, reduction, beta):
    student, teacher, _ = case.lists()
    expected = reference_scores.score_kd(
        student,
        teacher,
        distance,
        beta=beta,
        reduction=reduction,
        weight=case.options()["weight"],
    )
    value = loss(case, distance=distance, beta=beta, reduction=reduction)
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))


def test_kd_of_equal_scores_is_zero__trl_5731(full, distance):
    student = full.teacher.clone().requires_grad_()
    value = loss(replace(full, student=student), distance=distance)
    value.backward()
    assert value.item() == 0.0
    assert (student.grad == 0).all()


def test_beta_is_in_the_unit_of_the_scores(full):
    """Scores ×100 with β ×100 are the same loss ×100; without, another one."""
    hundred = replace(full, student=100 * full.student, teacher=100 * full.teacher)
    torch.testing.assert_close(loss(hundred, beta=50.0), 100 * loss(full, beta=0.5))
    assert not torch.allclose(loss(hundred, beta=0.5), 100 * loss(full, beta=0.5))


def test_beta_leads_from_l1_to_half_of_mse(full):
    torch.testing.assert_close(loss(full, beta=1e-9), loss(full, distance="l1"))
    torch.testing.assert_close(100 * loss(full, beta=100.0), loss(full, distance="mse") / 2)


def test_weight_zero_is_as_good_as_absent(full, distance):
    weight = full.sample_weight * torch.tensor([1, 1, 0, 1, 0, 1])
    kept = full.rows(torch.tensor([0, 1, 3, 5]))
    value = loss(replace(full, sample_weight=weight), distance=distance)
    torch.testing.assert_close(value, loss(kept, distance=distance))


def test_gradients(checks, full, distance, reduction):
    checks.gradients(lambda c: loss(c, distance=distance, reduction=reduction), full)


def test_gradient_of_mse_is_twice_the_difference_over_b(make_case):
    """Scale included, so a wrong divisor cannot hide behind Adam."""
    case = make_case("regression")
    student = case.student.clone().requires_grad_()
    loss(replace(case, student=student), distance="mse").backward()
    torch.testing.assert_close(student.grad, 2 * (case.student - case.teacher) / 6)


def test_permutation(checks, full, distance):
    checks.permutation(lambda c: loss(c, distance=distance, reduction="none"), full)


def test_micro_batches__axolotl_3271(checks, full, distance):
    """axolotl#3271, sparseml#592: a sum does not depend on how the batch is cut."""
    checks.micro_batches(lambda c: loss(c, distance=distance, reduction="sum"), full)


def test_extremes(checks, full, distance):
    checks.extremes(lambda c: loss(c, distance=distance), full)


def test_half_precision(checks, full, distance):
    checks.half_precision(lambda c: loss(c, distance=distance), full)


def test_compiled(checks, full, distance):
    checks.compiled(lambda c: loss(c, distance=distance), full)


def test_module_equals_function(full, distance):
    module = ScoreKDLoss(distance=distance, beta=0.5, reduction="sum")
    inputs = full.student, full.teacher, full.sample_weight
    options = {"distance": distance, "reduction": "sum"}
    assert torch.equal(module(*inputs), loss(full, beta=0.5, **options))
    module.beta = 2.0
    assert torch.equal(module(*inputs), loss(full, beta=2.0, **options))
    assert torch.equal(ScoreKDLoss()(*inputs), loss(full))


def test_select(full):
    module = ScoreKDLoss()
    student, teacher = (type("Output", (), {"logits": z}) for z in (full.student, full.teacher))
    unlabelled = replace(full, labels=None)
    assert torch.equal(module(**module.select(student, teacher, unlabelled)), loss(full))
    with pytest.raises(ValueError, match="ScoreKDLoss needs a teacher"):
        module.select(student, None, unlabelled)


ZEROS = torch.zeros(3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student_scores": ZEROS[:, None]}, r"\(3, 1\) and teacher_scores \(3,\).*squeeze"),
        ({"teacher_scores": ZEROS[:2]}, r"teacher_scores \(2,\)"),
        ({"student_scores": ZEROS.long()}, "student_scores must be floating point"),
        ({"teacher_scores": ZEROS.long()}, "teacher_scores must be floating point"),
        ({"teacher_scores": torch.tensor([0.0, torch.nan, 1.0])}, "got nan in row 1"),
        ({"teacher_scores": torch.tensor([0.0, 1.0, torch.inf])}, "got inf in row 2"),
        ({"sample_weight": -ZEROS - 1}, "sample_weight must be finite and not negative"),
        ({"distance": "huber"}, "distance 'huber' is unknown; choose one of smooth_l1, mse, l1"),
        ({"beta": 0.0}, "beta must be a finite number above 0, got 0.0; for a β of 0 use"),
        ({"beta": float("nan")}, "beta .* got nan"),
        ({"reduction": "batchmean"}, "reduction 'batchmean'"),
    ],
)
def test_errors(changes, message):
    inputs = {"student_scores": ZEROS, "teacher_scores": ZEROS}
    with pytest.raises(ValueError, match=message):
        score_kd_loss(**{**inputs, **changes})


@pytest.mark.parametrize("options", [{"distance": "l2"}, {"beta": -1.0}, {"reduction": "avg"}])
def test_module_errors_come_at_construction(options):
    with pytest.raises(ValueError, match=r"distance|beta|reduction"):
        ScoreKDLoss(**options)
