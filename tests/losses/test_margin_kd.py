from dataclasses import replace

import pytest
import reference_scores
import torch

from coefvq.losses.margin_kd import MarginKDLoss, margin_kd_loss

GROUPS = torch.tensor([3, 7, 3, 7, 3, 9])  # of three, two and one
WHOLE = (GROUPS.eq(3), GROUPS.eq(7))


@pytest.fixture
def full(make_case):
    return make_case("regression", weighted=True)


def loss(case, groups=GROUPS, **options):
    return margin_kd_loss(
        case.student, case.teacher, groups, sample_weight=case.sample_weight, **options
    )


def test_closed_form():
    # One query, teacher 4, 1, 0 and student 2, 1, 1: s − t = −2, 0, 1, so that the squared
    # differences of pairs are 4, 9 and 1; per candidate (4+9)/2, (4+1)/2, (9+1)/2.
    student, teacher = torch.tensor([2.0, 1.0, 1.0]), torch.tensor([4.0, 1.0, 0.0])
    each = margin_kd_loss(student, teacher, reduction="none")
    torch.testing.assert_close(each, torch.tensor([6.5, 2.5, 5.0]))
    torch.testing.assert_close(margin_kd_loss(student, teacher), torch.tensor(14 / 3))


@pytest.mark.parametrize("groups", [None, GROUPS], ids=["one-query", "queries"])
def test_equals_reference(make_case, weighted, reduction, groups):
    case = make_case("regression", weighted=weighted)
    student, teacher, _ = case.lists()
    expected = reference_scores.margin_kd(
        student,
        teacher,
        groups=None if groups is None else groups.tolist(),
        weight=case.options()["weight"],
        reduction=reduction,
    )
    value = loss(case, groups, reduction=reduction)
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))


def test_two_candidates_per_query_are_the_published_margin_mse(make_case):
    case = make_case("regression")
    (s_pos, s_neg), (t_pos, t_neg) = case.student.view(2, 3), case.teacher.view(2, 3)
    expected = ((s_pos - s_neg) - (t_pos - t_neg)).square().mean()
    groups = torch.arange(3).repeat(2)
    torch.testing.assert_close(loss(case, groups), expected)


def test_kd_of_equal_scores_is_zero__trl_5731(full):
    assert loss(replace(full, student=full.teacher)).item() == 0.0


def test_a_constant_per_query_costs_nothing(full):
    offset = torch.tensor([5.0, -3.0, 5.0, -3.0, 5.0, 40.0], dtype=torch.float64)
    torch.testing.assert_close(loss(replace(full, student=full.student + offset)), loss(full))
    moved = replace(full, student=full.teacher + offset)
    torch.testing.assert_close(loss(moved), torch.zeros((), dtype=torch.float64))
    assert loss(moved, None) > 1  # across queries it would cost


def test_who_stands_alone_counts_for_nothing(full):
    five = full.rows(slice(0, 5))
    torch.testing.assert_close(loss(full), loss(five, GROUPS[:5]))
    student = full.student.clone().requires_grad_()
    value = loss(replace(full, student=student), torch.arange(6))
    value.backward()
    assert value.item() == 0.0
    assert (student.grad == 0).all()


def test_weight_zero_is_as_good_as_absent(full):
    weight = full.sample_weight * torch.tensor([1, 1, 0, 1, 1, 1])
    kept = torch.tensor([0, 1, 3, 4, 5])
    value = loss(replace(full, sample_weight=weight))
    torch.testing.assert_close(value, loss(full.rows(kept), GROUPS[kept]))


def test_gradients(checks, full, reduction):
    checks.gradients(lambda c: loss(c, reduction=reduction), full)


def test_permutation(full):
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    moved = loss(full.rows(order), GROUPS[order], reduction="none")
    torch.testing.assert_close(moved, loss(full, reduction="none")[order])


def test_micro_batches_of_whole_queries__axolotl_3271(full):
    """axolotl#3271, sparseml#592: cut between queries, the sum is the same."""
    parts = [loss(full.rows(part), GROUPS[part], reduction="sum") for part in WHOLE]
    torch.testing.assert_close(sum(parts), loss(full, reduction="sum"))


def test_extremes(checks, full):
    checks.extremes(loss, full)


def test_half_precision(checks, full):
    checks.half_precision(loss, full)


def test_compiled(checks, full):
    checks.compiled(loss, full)


def test_module_equals_function(full):
    module = MarginKDLoss(reduction="sum")
    value = module(full.student, full.teacher, GROUPS, full.sample_weight)
    assert torch.equal(value, loss(full, reduction="sum"))


def test_select_groups_by_query(full):
    student, teacher = (type("Output", (), {"logits": z}) for z in (full.student, full.teacher))
    weight = {"sample_weight": full.sample_weight, "device": torch.device("cpu")}
    ids = {"query": type("Clips", (), {"ids": tuple("ababac")})}
    module = MarginKDLoss()
    value = module(**module.select(student, teacher, type("Pairs", (), weight | ids)))
    assert torch.equal(value, loss(full))
    with pytest.raises(ValueError, match="batch has no queries; give it a batch of pairs"):
        module.select(student, teacher, type("Clips", (), weight))
    with pytest.raises(ValueError, match="MarginKDLoss needs a teacher"):
        module.select(student, None, type("Pairs", (), weight | ids))


ZEROS = torch.zeros(3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student_scores": torch.zeros(3, 2)}, r"student_scores have shape \(3, 2\)"),
        ({"teacher_scores": ZEROS[:2]}, r"teacher_scores \(2,\); both .* \(B,\)"),
        ({"teacher_scores": ZEROS.long()}, "teacher_scores must be floating point"),
        ({"teacher_scores": ZEROS + torch.inf}, "teacher_scores must be finite, got inf in row 0"),
        ({"groups": ZEROS}, "groups must be integers, one per sample, got torch.float32"),
        ({"groups": ZEROS > 0}, "groups must be integers"),
        ({"groups": torch.arange(2)}, r"groups have shape \(2,\) but the scores ask for \(3,\)"),
        ({"sample_weight": ZEROS[:2]}, r"sample_weight has shape \(2,\)"),
        ({"reduction": "batchmean"}, "reduction 'batchmean'"),
        (
            {"student_scores": ZEROS[:1], "teacher_scores": ZEROS[:1]},
            "margin_kd_loss compares samples of a batch, got 1 sample; .*drop_last",
        ),
    ],
)
def test_errors(changes, message):
    inputs = {"student_scores": ZEROS, "teacher_scores": ZEROS}
    with pytest.raises(ValueError, match=message):
        margin_kd_loss(**{**inputs, **changes})


def test_module_errors_come_at_construction():
    with pytest.raises(ValueError, match="reduction"):
        MarginKDLoss(reduction="avg")
