from dataclasses import replace

import pytest
import reference_scores
import torch

from coefvq.losses.fidelity_rank import CHOICES, FidelityRankLoss, fidelity_rank_loss

GROUPS = torch.tensor([3, 7, 3, 7, 3, 9])  # of three, two and one
WHOLE = (GROUPS.eq(3), GROUPS.eq(7))
STD = torch.tensor([0.5, 2.0, 1.0, 1.5, 0.7, 3.0], dtype=torch.float64)


@pytest.fixture(params=CHOICES)
def choice(request):
    return request.param


@pytest.fixture
def full(make_case):
    return make_case("regression", weighted=True)


def loss(case, groups=GROUPS, **options):
    return fidelity_rank_loss(
        case.student, case.teacher, groups, sample_weight=case.sample_weight, **options
    )


def test_closed_form():
    # Bradley-Terry: the teacher prefers the first 9 : 1, the student 1 : 9. √(p q) = 3/10 twice:
    # 1 − 6/10.
    log9 = torch.tensor([9.0, 1.0]).log()
    value = fidelity_rank_loss(-log9, log9, choice="bradley_terry")
    torch.testing.assert_close(value, torch.tensor(0.4))
    # Thurstone: Φ(1) = 0.8413447 from a difference of √2; undecided student:
    # 1 − (√0.8413447 + √0.1586553)/√2.
    teacher = torch.tensor([2**0.5, 0.0])
    expected = 1 - (0.8413447461**0.5 + 0.1586552539**0.5) / 2**0.5
    torch.testing.assert_close(fidelity_rank_loss(torch.zeros(2), teacher), torch.tensor(expected))


@pytest.mark.parametrize("groups", [None, GROUPS], ids=["one-set", "sets"])
@pytest.mark.parametrize("std", [None, STD], ids=["std-1", "std"])
def test_equals_reference(make_case, choice, weighted, missing, reduction, groups, std):
    case = make_case("regression", missing=missing, weighted=weighted)
    student, teacher, _ = case.lists()
    expected = reference_scores.fidelity_rank(
        student,
        teacher,
        choice,
        student_std=0.8,
        teacher_std=None if std is None else std.tolist(),
        groups=None if groups is None else groups.tolist(),
        reduction=reduction,
        **case.options(),
    )
    # What the mask hides is never read.
    hidden = (
        case.teacher if case.label_mask is None else case.teacher.where(case.label_mask, torch.nan)
    )
    value = loss(
        replace(case, teacher=hidden),
        groups,
        choice=choice,
        student_std=0.8,
        teacher_std=1.0 if std is None else std,
        mask=case.label_mask,
        reduction=reduction,
    )
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))


def test_kd_of_equal_scores_is_zero__trl_5731(full, choice):
    student = full.teacher.clone().requires_grad_()
    value = loss(replace(full, student=student), choice=choice)
    value.backward()
    assert value.item() == 0.0
    assert student.grad.abs().max() < 1e-12


def test_only_differences_within_a_group_matter(full, choice):
    """Two data sets may have two zero points."""
    offset = torch.tensor([50.0, -30.0, 50.0, -30.0, 50.0, 4.0], dtype=torch.float64)
    moved = replace(full, student=full.student - offset, teacher=full.teacher + offset)
    torch.testing.assert_close(loss(moved, choice=choice), loss(full, choice=choice))
    assert not torch.allclose(loss(moved, None, choice=choice), loss(full, None, choice=choice))


def test_a_std_is_in_the_unit_of_the_scores(full, choice):
    hundred = replace(full, teacher=100 * full.teacher)
    value = loss(hundred, choice=choice, teacher_std=100 * STD)
    torch.testing.assert_close(value, loss(full, choice=choice, teacher_std=STD))


def test_one_std_for_all_is_the_same_as_one_each(full, choice):
    value = loss(full, choice=choice, teacher_std=torch.full_like(STD, 0.3))
    torch.testing.assert_close(value, loss(full, choice=choice, teacher_std=0.3))


def test_a_step_down_the_gradient_mends_the_order(choice):
    """The sign: the teacher likes the first more, so its score has to rise."""
    student = torch.zeros(2, requires_grad=True)
    fidelity_rank_loss(student, torch.tensor([1.0, 0.0]), choice=choice).backward()
    assert student.grad[0] < 0 < student.grad[1]


def test_who_stands_alone_counts_for_nothing(full):
    torch.testing.assert_close(loss(full), loss(full.rows(slice(0, 5)), GROUPS[:5]))
    assert loss(full, torch.arange(6)).item() == 0.0


def test_mask_and_weight_zero_are_as_good_as_absent(full, choice):
    kept = torch.tensor([0, 1, 3, 4, 5])
    expected = loss(full.rows(kept), GROUPS[kept], choice=choice)
    keep = torch.tensor([True, True, False, True, True, True])
    weightless = replace(full, sample_weight=full.sample_weight * keep)
    torch.testing.assert_close(loss(weightless, choice=choice), expected)
    torch.testing.assert_close(loss(full, choice=choice, mask=keep), expected)


def test_gradients(checks, full, choice, reduction):
    checks.gradients(lambda c: loss(c, choice=choice, teacher_std=STD, reduction=reduction), full)


def test_permutation(full, choice):
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    options = {"choice": choice, "reduction": "none"}
    moved = loss(full.rows(order), GROUPS[order], teacher_std=STD[order], **options)
    torch.testing.assert_close(moved, loss(full, teacher_std=STD, **options)[order])


def test_micro_batches_of_whole_groups(full):
    parts = [loss(full.rows(part), GROUPS[part], reduction="sum") for part in WHOLE]
    torch.testing.assert_close(sum(parts), loss(full, reduction="sum"))


def test_extremes(checks, full, choice):
    """√p of a probability that underflows: its gradient must not be 0 · inf."""
    checks.extremes(lambda c: loss(c, choice=choice), full)


def test_half_precision(checks, full, choice):
    checks.half_precision(lambda c: loss(c, choice=choice), full)


def test_compiled(checks, full, choice):
    checks.compiled(lambda c: loss(c, choice=choice), full)


def test_module_equals_function(full, choice):
    options = {"choice": choice, "student_std": 0.5, "reduction": "sum"}
    module = FidelityRankLoss(**options, teacher_std=2.0)
    inputs = full.student, full.teacher, GROUPS
    value = module(*inputs, sample_weight=full.sample_weight)
    assert torch.equal(value, loss(full, teacher_std=2.0, **options))
    value = module(*inputs, teacher_std=STD, sample_weight=full.sample_weight)
    assert torch.equal(value, loss(full, teacher_std=STD, **options))
    module.student_std = 3.0
    value = module(*inputs, sample_weight=full.sample_weight)
    assert torch.equal(value, loss(full, teacher_std=2.0, **(options | {"student_std": 3.0})))


def test_select_from_the_teacher_or_from_labels(make_case):
    case = make_case("regression", missing=True, weighted=True)
    student, teacher = (type("Output", (), {"logits": z}) for z in (case.student, case.teacher))
    module = FidelityRankLoss()
    assert torch.equal(module(**module.select(student, teacher, case)), loss(case, None))
    with pytest.raises(ValueError, match="FidelityRankLoss needs a teacher's scores"):
        module.select(student, None, case)
    module = FidelityRankLoss(target="labels")
    expected = loss(replace(case, teacher=case.labels), None, mask=case.label_mask)
    assert torch.equal(module(**module.select(student, None, case)), expected)
    with pytest.raises(ValueError, match="target='labels' got a batch without labels"):
        module.select(student, None, replace(case, labels=None))


def test_labels_bring_the_spread_of_their_opinions(make_case):
    case = make_case("regression")
    student = type("Output", (), {"logits": case.student})
    spread = torch.full_like(case.labels, 0.5)
    spread[0], spread[1] = torch.nan, 0.0  # unknown, and raters of one mind: the module's own
    known = type("Batch", (), {**vars(case), "label_std": spread, "device": torch.device("cpu")})
    module = FidelityRankLoss(target="labels", teacher_std=2.0)
    picked = module.select(student, None, known)
    assert picked["teacher_std"].tolist() == [2.0, 2.0] + [0.5] * (len(spread) - 2)
    assert torch.isfinite(module(**picked))
    assert FidelityRankLoss().select(student, student, known)["teacher_std"] is None


def test_select_compares_candidates_of_one_query(full):
    student, teacher = (type("Output", (), {"logits": z}) for z in (full.student, full.teacher))
    pairs = {
        "sample_weight": full.sample_weight,
        "device": torch.device("cpu"),
        "query": type("Clips", (), {"ids": ("a", "b", "a", "b", "a", "c")}),
    }
    module = FidelityRankLoss()
    value = module(**module.select(student, teacher, type("Pairs", (), pairs)))
    assert torch.equal(value, loss(full))


ZEROS = torch.zeros(3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student_scores": torch.zeros(3, 2)}, r"student_scores have shape \(3, 2\)"),
        ({"teacher_scores": ZEROS.long()}, "teacher_scores must be floating point"),
        ({"teacher_scores": ZEROS * torch.nan}, "teacher_scores must be finite, got nan in row 0"),
        ({"mask": ZEROS}, "mask must be bool with True where a score counts"),
        ({"mask": ZEROS[:2] == 0}, r"mask have shape \(2,\)"),
        ({"groups": ZEROS}, "groups must be integers"),
        ({"choice": "elo"}, "choice 'elo' is unknown; choose one of thurstone, bradley_terry"),
        ({"student_std": 0.0}, "student_std must be a finite number above 0, got 0.0"),
        ({"teacher_std": -1.0}, "teacher_std must be a finite number above 0, got -1.0"),
        ({"teacher_std": ZEROS[:2] + 1}, r"teacher_std has shape \(2,\)"),
        ({"teacher_std": 1 - torch.arange(3.0)}, "above 0, got 0.0 in row 1"),
        ({"reduction": "batchmean"}, "reduction 'batchmean'"),
        (
            {"student_scores": ZEROS[:1], "teacher_scores": ZEROS[:1]},
            "fidelity_rank_loss compares samples of a batch, got 1 sample",
        ),
    ],
)
def test_errors(changes, message):
    inputs = {"student_scores": ZEROS, "teacher_scores": ZEROS}
    with pytest.raises(ValueError, match=message):
        fidelity_rank_loss(**{**inputs, **changes})


@pytest.mark.parametrize(
    "options",
    [{"choice": "elo"}, {"student_std": -1.0}, {"target": "mos"}, {"reduction": "avg"}],
)
def test_module_errors_come_at_construction(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        FidelityRankLoss(**options)
