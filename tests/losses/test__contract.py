import pytest
import torch

from coefvq.losses import _contract as contract
from coefvq.losses import cpfd_loss, gatekeeper_loss, logit_kd_loss, supervised_loss


def test_mean_divides_by_what_was_summed():
    values, weight = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([1.0, 2.0, 3.0])
    mask = torch.tensor([True, False, True])
    assert contract.reduce(values, "mean").item() == 3.0
    assert contract.reduce(values, "mean", mask=mask).item() == 3.5  # (1 + 6) / 2
    weighted = contract.reduce(values, "mean", weight).item()
    assert weighted == pytest.approx(23 / 6)  # (1 + 4 + 18) / (1 + 2 + 3)
    assert contract.reduce(values, "mean", weight, mask).item() == 4.75  # (1 + 18) / (1 + 3)
    assert contract.reduce(values, "sum", weight, mask).item() == 19.0
    assert contract.reduce(values, "none", weight, mask).tolist() == [1.0, 0.0, 18.0]


def test_the_mask_selects_and_does_not_multiply():
    values = torch.tensor([1.0, torch.nan], requires_grad=True)
    mean = contract.reduce(values, "mean", mask=torch.tensor([True, False]))
    mean.backward()
    assert mean.item() == 1.0
    assert values.grad.tolist() == [1.0, 0.0]


def test_an_empty_mean_is_zero():
    nothing = torch.tensor([False, False])
    assert contract.reduce(torch.ones(2), "mean", mask=nothing).item() == 0.0
    assert contract.reduce(torch.ones(2), "mean", torch.zeros(2)).item() == 0.0
    assert contract.reduce(torch.ones(0), "mean").item() == 0.0


def test_full_mask_and_unit_weights_change_no_bit():
    values = torch.rand(7)
    everything, ones = torch.ones(7, dtype=torch.bool), torch.ones(7)
    for reduction in ("none", "mean", "sum"):
        expected = contract.reduce(values, reduction)
        assert torch.equal(contract.reduce(values, reduction, ones, everything), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_precision_is_the_students_but_at_least_float32(dtype):
    expected = torch.float64 if dtype == torch.float64 else torch.float32
    student, teacher = contract.check_pair(
        torch.zeros(2, dtype=dtype), torch.zeros(2, dtype=torch.float16), "binary"
    )
    assert student.dtype == teacher.dtype == expected


def test_label_values_are_not_read_off_the_cpu():
    """Reading them would make the device wait; the shape is checked all the same."""
    logits = torch.zeros(2, 3, device="meta")
    labels, _ = contract.check_labels(
        torch.zeros(2, dtype=torch.long, device="meta"), None, logits, "multiclass"
    )
    assert labels.is_meta
    with pytest.raises(ValueError, match="labels have shape"):
        contract.check_labels(torch.zeros(3, device="meta"), None, logits, "multiclass")


@pytest.mark.parametrize(
    "bad",
    [
        [torch.nan, 0.0, 0.0],
        [torch.inf, 0.0, 0.0],
        [-torch.inf, -torch.inf, -torch.inf],
    ],
)
def test_a_row_that_is_no_distribution_gives_nan__not_a_number_out_of_thin_air(bad):
    student, labels = torch.zeros(2, 3), torch.tensor([0, 1])
    other = torch.tensor([bad, [0.0, 1.0, 2.0]])
    for first, second in ((student, other), (other, student)):
        for direction in ("forward", "reverse", "jsd"):
            values = logit_kd_loss(
                first, second, task="multiclass", direction=direction, reduction="none"
            )
            assert values.isnan().tolist() == [True, False]
        assert cpfd_loss(first, second, labels, task="multiclass").isnan()
    for options in ({}, {"label_smoothing": 0.1}):
        assert supervised_loss(other, labels, task="multiclass", **options).isnan()
    assert gatekeeper_loss(other, labels, task="multiclass").isnan()
