from dataclasses import replace

import pytest
import reference_scores
import torch

from coefvq.losses.score_kd import score_kd_loss
from coefvq.losses.similarity_kd import SCALES, SimilarityKDLoss, similarity_kd_loss


@pytest.fixture(params=SCALES)
def scale(request):
    return request.param


@pytest.fixture
def full(make_case):
    return make_case("regression", weighted=True)


def loss(case, **options):
    return similarity_kd_loss(
        case.student, case.teacher, sample_weight=case.sample_weight, **options
    )


def test_closed_form():
    # |0.5 − 1| = ½ and |0.2 + 0.4| = 0.6: the mean is 0.55.
    student, teacher = torch.tensor([0.5, 0.2]), torch.tensor([1.0, -0.4])
    torch.testing.assert_close(similarity_kd_loss(student, teacher), torch.tensor(0.55))
    # Logits log 3 and log ⅓ are probabilities ¾ and ¼.
    log3 = torch.tensor([3.0]).log()
    torch.testing.assert_close(similarity_kd_loss(log3, -log3, scale="logit"), torch.tensor(0.5))


def test_equals_reference(make_case, scale, weighted, reduction):
    case = make_case("regression", weighted=weighted)
    student, teacher, _ = case.lists()
    expected = reference_scores.similarity_kd(
        student, teacher, scale, reduction=reduction, weight=case.options()["weight"]
    )
    value = loss(case, scale=scale, reduction=reduction)
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))


def test_kd_of_equal_similarities_is_zero__trl_5731(full, scale):
    assert loss(replace(full, student=full.teacher), scale=scale).item() == 0.0


def test_on_similarities_it_is_l1_score_distillation(full, reduction):
    expected = score_kd_loss(
        full.student,
        full.teacher,
        distance="l1",
        sample_weight=full.sample_weight,
        reduction=reduction,
    )
    assert torch.equal(loss(full, reduction=reduction), expected)


def test_two_certain_answers_agree():
    """Logits of 8 and 80 both mean yes; the raw distance would be 72."""
    near = similarity_kd_loss(torch.tensor([8.0]), torch.tensor([80.0]), scale="logit")
    assert 0 < near.item() < 1e-3


def test_gradients(checks, full, scale, reduction):
    checks.gradients(lambda c: loss(c, scale=scale, reduction=reduction), full)


def test_permutation(checks, full, scale):
    checks.permutation(lambda c: loss(c, scale=scale, reduction="none"), full)


def test_micro_batches(checks, full, scale):
    checks.micro_batches(lambda c: loss(c, scale=scale, reduction="sum"), full)


def test_extremes(checks, full, scale):
    checks.extremes(lambda c: loss(c, scale=scale), full)


def test_half_precision(checks, full, scale):
    checks.half_precision(lambda c: loss(c, scale=scale), full)


def test_compiled(checks, full, scale):
    checks.compiled(lambda c: loss(c, scale=scale), full)


def test_module_equals_function(full, scale):
    module = SimilarityKDLoss(scale=scale, reduction="sum")
    inputs = full.student, full.teacher, full.sample_weight
    assert torch.equal(module(*inputs), loss(full, scale=scale, reduction="sum"))


def test_select_reads_no_label(full):
    """Unlabelled pairs count like all others: DnS distils over them."""
    module = SimilarityKDLoss()
    student, teacher = (type("Output", (), {"logits": z}) for z in (full.student, full.teacher))
    unlabelled = replace(full, labels=None, label_mask=torch.zeros(6, dtype=torch.bool))
    value = module(**module.select(student, teacher, unlabelled))
    assert torch.equal(value, loss(full, scale="logit"))
    with pytest.raises(ValueError, match="SimilarityKDLoss needs a teacher"):
        module.select(student, None, unlabelled)


ZEROS = torch.zeros(3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student_similarity": torch.zeros(3, 3)}, r"student_similarity have shape \(3, 3\)"),
        ({"teacher_similarity": ZEROS[:2]}, r"teacher_similarity \(2,\); both .* \(B,\)"),
        ({"student_similarity": ZEROS.long()}, "student_similarity must be floating point"),
        ({"teacher_similarity": ZEROS * torch.nan}, "teacher_similarity must be finite, got nan"),
        ({"sample_weight": ZEROS[:2]}, r"sample_weight has shape \(2,\)"),
        ({"scale": "cosine"}, "scale 'cosine' is unknown; choose one of similarity, logit"),
        ({"reduction": "batchmean"}, "reduction 'batchmean'"),
    ],
)
def test_errors(changes, message):
    inputs = {"student_similarity": ZEROS, "teacher_similarity": ZEROS}
    with pytest.raises(ValueError, match=message):
        similarity_kd_loss(**{**inputs, **changes})


@pytest.mark.parametrize("options", [{"scale": "raw"}, {"reduction": "avg"}])
def test_module_errors_come_at_construction(options):
    with pytest.raises(ValueError, match=r"scale|reduction"):
        SimilarityKDLoss(**options)
