from dataclasses import replace

import pytest
import reference_weighting
import torch

from coefvq.losses.dist import DISTLoss, dist_loss


def loss(case, **options):
    return dist_loss(
        case.student, case.teacher, task=case.task, sample_weight=case.sample_weight, **options
    )


def fitting(task, **options):
    """Binary has no inter-class part."""
    return options | ({"inter_weight": 0.0} if task == "binary" else {})


def test_closed_form():
    # Inter: p = (1, 2, 3)/6 and q = (1, 3, 2)/6 around 1/3: (−1, 0, 1) and (−1, 1, 0), ρ = ½.
    p, q = torch.tensor([[1.0, 2, 3]]).log(), torch.tensor([[1.0, 3, 2]]).log()
    value = dist_loss(q, p, task="multiclass", intra_weight=0.0, inter_weight=3.0)
    torch.testing.assert_close(value, torch.tensor(3 * (1 - 0.5)))
    # Intra: three samples say ¼, ½, ¾ where the teacher says ¼, ¾, ½: again ρ = ½. T = 2 softens
    # twice the logits to the same probabilities, and the loss is T² = 4 times larger.
    odds = torch.tensor([1 / 3, 1.0, 3.0]).log()
    value = dist_loss(
        2 * odds, 2 * odds[[0, 2, 1]], task="binary", inter_weight=0.0, temperature=2.0
    )
    torch.testing.assert_close(value, torch.tensor(4 * 0.5))
    # Both, multilabel: the labels (columns) are the same three samples, and again turned round
    # for the student: ρ = ½ and −½, so 1 − ρ is ½ and 3/2, on average 1.
    student = torch.stack([odds, -odds], -1)
    teacher = torch.stack([odds[[0, 2, 1]], odds[[0, 2, 1]]], -1)
    value = dist_loss(student, teacher, task="multilabel", inter_weight=0.0)
    torch.testing.assert_close(value, torch.tensor(1.0))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_equals_reference(task, weighted, temperature, make_case):
    case = make_case(task, weighted=weighted)
    options = fitting(task, inter_weight=0.7, intra_weight=1.3, temperature=temperature)
    expected = reference_weighting.dist(
        case.student.tolist(),
        case.teacher.tolist(),
        task,
        weight=case.options()["weight"],
        **options,
    )
    torch.testing.assert_close(loss(case, **options), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_inter_part_in_all_reductions(task, weighted, reduction, make_case):
    case = make_case(task, weighted=weighted)
    options = {"intra_weight": 0.0, "temperature": 2.0, "reduction": reduction}
    expected = reference_weighting.dist(
        case.student.tolist(),
        case.teacher.tolist(),
        task,
        weight=case.options()["weight"],
        **options,
    )
    torch.testing.assert_close(loss(case, **options), torch.tensor(expected, dtype=torch.float64))


def test_agrees_with_corrcoef(make_case):
    case = make_case("multiclass")
    q, p = case.student.softmax(-1), case.teacher.softmax(-1)

    def apart(a, b):
        pairs = (torch.stack(pair) for pair in zip(a, b, strict=True))
        return torch.stack([1 - torch.corrcoef(pair)[0, 1] for pair in pairs]).mean()

    torch.testing.assert_close(loss(case), apart(q, p) + apart(q.T, p.T))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kd_of_equal_logits_is_zero__trl_5731(task, weighted, dtype, make_case):
    case = make_case(task, weighted=weighted, dtype=dtype)
    same = replace(case, teacher=case.student)
    assert loss(same, **fitting(task)).item() == 0.0
    # Also where there is nothing to correlate: a model that says the same of everything.
    zeros = torch.zeros_like(case.student)
    assert loss(replace(case, student=zeros, teacher=zeros), **fitting(task)).item() == 0.0


def test_only_relations_count(make_case):
    """A student whose probabilities are linear in the teacher's has nothing to learn."""
    case = make_case("multilabel")
    p = case.teacher.sigmoid()
    q = 0.2 + 0.5 * p
    linear = replace(case, student=(q / (1 - q)).log())
    assert abs(loss(linear).item()) < 1e-12


def test_a_teacher_without_variation_is_left_out(make_case):
    """Rows and columns without a relation neither count nor dilute the mean."""
    case = make_case("multiclass")
    teacher = case.teacher.clone()
    teacher[2] = 0.25  # equal logits: a uniform row
    others = case.rows([0, 1, 3, 4, 5])
    inter = {"intra_weight": 0.0}
    torch.testing.assert_close(loss(replace(case, teacher=teacher), **inter), loss(others, **inter))
    values = loss(replace(case, teacher=teacher), reduction="none", **inter)
    assert values[2] == 0.0

    labels = make_case("multilabel")
    teacher = labels.teacher.clone()
    teacher[:, 1] = 0.3
    intra = {"inter_weight": 0.0}
    two = replace(labels, student=labels.student[:, ::2], teacher=labels.teacher[:, ::2])
    torch.testing.assert_close(loss(replace(labels, teacher=teacher), **intra), loss(two, **intra))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_student_without_variation_is_uncorrelated_and_gets_no_nan(task, dtype, make_case):
    case = make_case(task, dtype=dtype)
    student = torch.full_like(case.student, 0.1).requires_grad_()
    value = loss(replace(case, student=student), **fitting(task))
    value.backward()
    torch.testing.assert_close(value, torch.tensor(1.0 if task == "binary" else 2.0, dtype=dtype))
    assert (student.grad == 0).all()


def test_many_equal_samples_are_no_relation():
    """Rounding must not pass for variation in a large batch either."""
    student = torch.full((4096, 1000), 0.1)
    teacher = torch.randn(1000, generator=torch.Generator().manual_seed(0)).expand(4096, -1)
    value = dist_loss(student, teacher, task="multiclass", inter_weight=0.0)
    assert value.item() == 0.0


def test_rare_classes_keep_their_relation():
    """Probabilities around 1e-25: their squares underflow in float32, their correlation doesn't."""
    draw = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(8, 4, generator=draw) - 58 for _ in range(2))
    value = dist_loss(student, teacher, task="multilabel")
    wide = dist_loss(student.double(), teacher.double(), task="multilabel")
    torch.testing.assert_close(value.double(), wide, rtol=1e-3, atol=0)


def test_weight_zero_is_absent(task, make_case):
    case = make_case(task)
    weight = torch.tensor([1.0, 0, 1, 1, 0, 1], dtype=torch.float64)
    kept = case.rows(weight.bool())
    torch.testing.assert_close(
        loss(replace(case, sample_weight=weight), **fitting(task)), loss(kept, **fitting(task))
    )


def test_intra_part_is_not_cut_into_micro_batches(checks, make_case):
    """The inter-class part is; the docstring says that the other belongs to its batch."""
    case = make_case("multiclass", weighted=True)
    checks.micro_batches(lambda c: loss(c, intra_weight=0.0, reduction="sum"), case)
    halves = [loss(case.rows(slice(a, a + 3)), inter_weight=0.0) for a in (0, 3)]
    assert abs(sum(halves) / 2 - loss(case, inter_weight=0.0)) > 1e-3


def test_a_batch_of_two_has_no_intra_gradient(make_case):
    case = make_case("multiclass").rows([0, 1])
    student = case.student.clone().requires_grad_()
    loss(replace(case, student=student), inter_weight=0.0).backward()
    assert student.grad.abs().max() < 1e-9


def test_gradients(checks, task, weighted, make_case):
    case = make_case(task, weighted=weighted)
    checks.gradients(lambda c: loss(c, temperature=2.0, **fitting(task)), case)


@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_gradients_of_the_inter_part(checks, make_case, reduction):
    case = make_case("multiclass", weighted=True)
    checks.gradients(lambda c: loss(c, intra_weight=0.0, reduction=reduction), case)


def test_permutation(checks, make_case, task):
    case = make_case(task, weighted=True)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(loss(case.rows(order), **fitting(task)), loss(case, **fitting(task)))
    if task != "binary":
        checks.permutation(lambda c: loss(c, intra_weight=0.0, reduction="none"), case)


def test_softmax_invariances(checks, make_case):
    """ModelOpt: classes masked by −inf in both change nothing, not even the mean over classes."""
    for weighted in (False, True):
        case = make_case("multiclass", weighted=weighted)
        checks.shift(loss, case)
        checks.appended_classes(loss, case)


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_class_masked_on_one_side_never_gives_nan(task, make_case, side):
    case = make_case(task)
    logits = getattr(case, side).clone()
    logits.view(6, -1)[0, 0] = -torch.inf
    case = replace(case, **{side: logits})
    student = case.student.clone().requires_grad_()
    value = loss(replace(case, student=student), **fitting(task))
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("at", [0.0, 0.5, 1.0])
def test_continuous_in_the_weights(checks, make_case, at):
    case = make_case("multiclass")
    checks.continuous(lambda w: loss(case, inter_weight=w), at)
    checks.continuous(lambda w: loss(case, intra_weight=w), at)


def test_extremes(checks, full):
    checks.extremes(lambda c: loss(c, **fitting(c.task)), full)


def test_half_precision(checks, full):
    checks.half_precision(lambda c: loss(c, **fitting(c.task)), full)


def test_compiled(checks, full):
    checks.compiled(lambda c: loss(c, **fitting(c.task)), full)


def test_module_equals_function(full):
    options = fitting(full.task, inter_weight=0.5, intra_weight=2.0, temperature=3.0)
    module = DISTLoss(task=full.task, **options)
    inputs = full.student, full.teacher, full.sample_weight
    assert torch.equal(module(*inputs), loss(full, **options))
    module.temperature = options["temperature"] = 4.0
    assert torch.equal(module(*inputs), loss(full, **options))


def test_select(make_case):
    case = make_case("multiclass", weighted=True)
    module = DISTLoss(task="multiclass")
    student, teacher = (type("Output", (), {"logits": z}) for z in (case.student, case.teacher))
    assert torch.equal(module(**module.select(student, teacher, case)), loss(case))
    with pytest.raises(ValueError, match="DISTLoss needs a teacher's logits"):
        module.select(student, None, case)


ZEROS = torch.zeros(3, 4)
ONE, TWO = ZEROS[:1], ZEROS[:, :2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "regression"}, "'regression' has no class probabilities"),
        ({"task": "binary"}, "vanishes for task 'binary': .* without gradient; set inter_weight=0"),
        ({"student_logits": TWO, "teacher_logits": TWO}, "at least three classes, got 2"),
        ({"student_logits": ONE, "teacher_logits": ONE}, "got 1 sample; use batches of more"),
        ({"inter_weight": -1.0}, "inter_weight must be a finite number from 0, got -1.0"),
        ({"intra_weight": float("nan")}, "intra_weight .* got nan"),
        ({"temperature": 0.0}, "temperature .* got 0.0"),
        ({"reduction": "none"}, "reduction 'none' has no meaning for the intra-class part"),
        ({"reduction": "sum"}, "reduction 'sum' has no meaning for the intra-class part"),
        ({"reduction": "avg"}, "reduction 'avg' is unknown"),
        ({"teacher_logits": TWO}, r"\(3, 4\) and teacher_logits \(3, 2\)"),
        ({"student_logits": ZEROS.long()}, "student_logits must be floating point"),
    ],
)
def test_errors(changes, message):
    inputs = {"student_logits": ZEROS, "teacher_logits": ZEROS}
    with pytest.raises(ValueError, match=message):
        dist_loss(**{**inputs, "task": "multiclass", **changes})


def test_one_sample_is_enough_for_the_inter_part():
    assert dist_loss(ONE, ONE, task="multiclass", intra_weight=0.0).item() == 0.0


@pytest.mark.parametrize("options", [{"task": "binary"}, {"inter_weight": -0.1}])
def test_module_errors_come_at_construction(options):
    with pytest.raises(ValueError, match=r"inter_weight"):
        DISTLoss(**{"task": "multiclass", **options})
