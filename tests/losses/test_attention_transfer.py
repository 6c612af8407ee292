from dataclasses import replace
from types import SimpleNamespace

import pytest
import reference_features
import torch

from coefvq.losses.attention_transfer import AttentionTransferLoss, attention_transfer_loss


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def tokens(masked=True):
    """(4, 3, 5) and (4, 3, 2); the masked ones hold what must never be read."""
    student, teacher = draw(4, 3, 5), draw(4, 3, 2, seed=1)
    if not masked:
        return student, teacher, None
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [0, 0, 0], [0, 1, 1]]).bool()
    student[~mask], teacher[~mask] = torch.nan, torch.inf
    return student, teacher, mask


def loss(case, **options):
    return attention_transfer_loss(
        case.student, case.teacher, sample_weight=case.sample_weight, **options
    )


@pytest.fixture
def maps(make_case):
    """(6, 2, 3, 1) of both sides, weighted."""
    case = make_case("multilabel", weighted=True)
    student, teacher = (torch.stack([x, x.roll(1, 0)], 1)[..., None] for x in
                        (case.student, case.teacher))  # fmt: skip
    return replace(case, student=student, teacher=teacher)


def test_closed_form():
    # Two positions, energies (1 + 4, 0) and (9, 16): |(1, 0) − (9, 16) / √337|² = 2 − 2 · 9 / √337.
    student = torch.tensor([[[[1.0, 0.0]], [[-2.0, 0.0]]]])
    teacher = torch.tensor([[[[3.0, 4.0]]]])
    value = attention_transfer_loss(student, teacher)
    torch.testing.assert_close(value, torch.tensor(2 - 18 / 337**0.5))


@pytest.mark.parametrize("power", [1.0, 2.0, 3.5])
@pytest.mark.parametrize("masked", [False, True])
def test_equals_reference(power, masked, weighted, reduction):
    student, teacher, mask = tokens(masked)
    weight = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64) if weighted else None
    expected = reference_features.attention_transfer(
        student.tolist(), teacher.tolist(), power, None if mask is None else mask.tolist(),
        None if weight is None else weight.tolist(), reduction,
    )  # fmt: skip
    value = attention_transfer_loss(student, teacher, power=power, mask=mask, sample_weight=weight,
                                    reduction=reduction)  # fmt: skip
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))


def test_maps_are_tokens_with_another_order_of_dimensions(reduction):
    student, teacher = draw(3, 5, 2, 4), draw(3, 2, 2, 4, seed=1)
    mask = torch.rand(3, 2, 4, generator=torch.Generator().manual_seed(2)) > 0.3
    value = attention_transfer_loss(student, teacher, mask=mask, reduction=reduction)
    flat = attention_transfer_loss(
        student.flatten(2).mT, teacher.flatten(2).mT, mask=mask.flatten(1), reduction=reduction
    )
    torch.testing.assert_close(value, flat)


def test_kd_of_equal_features_is_zero__trl_5731(maps):
    assert loss(replace(maps, teacher=maps.student)) == 0
    turned = replace(maps, student=-3 * maps.teacher.flip(1))  # the same energies, three times
    torch.testing.assert_close(loss(turned), torch.tensor(0.0, dtype=torch.float64))


def test_no_energy_no_nan():
    student = torch.zeros(2, 3, 2, requires_grad=True)
    teacher = torch.stack([torch.zeros(3, 2), torch.ones(3, 2)])
    for power in (1.0, 1.5, 2.0):
        value = attention_transfer_loss(student, teacher, power=power, reduction="none")
        torch.testing.assert_close(value, torch.tensor([0.0, 1.0]))
        value.sum().backward()
        assert student.grad.isfinite().all()


def test_the_mask_selects_and_does_not_rescale__mlkd():
    student, teacher, mask = tokens()
    kept = torch.tensor([0, 1, 3])
    value = attention_transfer_loss(student, teacher, mask=mask)
    torch.testing.assert_close(
        value, attention_transfer_loss(student[kept], teacher[kept], mask=mask[kept])
    )
    short = attention_transfer_loss(student[1:2, :2], teacher[1:2, :2])
    torch.testing.assert_close(
        attention_transfer_loss(student, teacher, mask=mask, reduction="none")[1], short
    )
    student.requires_grad_()
    attention_transfer_loss(student, teacher, mask=mask).backward()
    assert (student.grad[~mask] == 0).all()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
def test_gradients(checks, maps, reduction, power):
    checks.gradients(lambda c: loss(c, power=power, reduction=reduction), maps)


def test_permutation_and_micro_batches(checks, maps):
    checks.permutation(lambda c: loss(c, reduction="none"), maps)
    checks.micro_batches(lambda c: loss(c, reduction="sum"), maps)


@pytest.mark.parametrize("power", [1.0, 2.0, 20.0])
def test_extremes(checks, maps, power):
    checks.extremes(lambda c: loss(c, power=power), maps)


def test_half_precision_and_compiled(checks, maps):
    checks.half_precision(loss, maps)
    checks.compiled(loss, maps)


def test_module_equals_function(reduction):
    student, teacher, mask = tokens()
    weight = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64)
    module = AttentionTransferLoss(power=3.0, reduction=reduction)
    expected = attention_transfer_loss(
        student, teacher, power=3.0, mask=mask, sample_weight=weight, reduction=reduction
    )
    assert torch.equal(module(student, teacher, mask, weight), expected)


def test_select():
    student, teacher, mask = tokens()
    outputs = (
        SimpleNamespace(token_features=student),
        SimpleNamespace(token_features=teacher, token_mask=mask),
    )
    module = AttentionTransferLoss()
    value = module(**module.select(*outputs, SimpleNamespace(sample_weight=None)))
    assert torch.equal(value, attention_transfer_loss(student, teacher, mask=mask))
    with pytest.raises(ValueError, match="needs token_features of both sides and the student"):
        module.select(SimpleNamespace(features=student), outputs[1], None)


MAPS = torch.zeros(2, 3, 4, 4)


@pytest.mark.parametrize(
    ("student", "teacher", "options", "message"),
    [
        (MAPS[:, :, 0, 0], MAPS, {}, r"\(2, 3\) but \(B, T, D\) or \(B, C, H, W\) is expected"),
        (MAPS[:, :, :2], MAPS, {}, "positions must agree: pool the larger map"),
        (MAPS[:1], MAPS, {}, "of the same B samples"),
        (MAPS, MAPS.long(), {}, "teacher_features must be floating point"),
        (MAPS, MAPS, {"power": 0.5}, "power must be a finite number from 1, got 0.5"),
        (MAPS, MAPS, {"reduction": "batch"}, "reduction 'batch' is unknown"),
        (MAPS, MAPS, {"mask": torch.ones(2, 16).bool()}, r"\(2, 16\) but .* \(2, 4, 4\)"),
        (MAPS, MAPS, {"mask": torch.ones(2, 4, 4)}, "mask must be bool"),
    ],
)
def test_errors(student, teacher, options, message):
    with pytest.raises(ValueError, match=message):
        attention_transfer_loss(student, teacher, **options)


def test_module_errors():
    with pytest.raises(ValueError, match=r"power .* got nan"):
        AttentionTransferLoss(power=float("nan"))
