import math

import pytest
import torch

from coefvq.losses import SubLabelLoss, sub_label_loss, supervised_loss
from coefvq.types import StudentOutput

B, S = 5, 3
LOGITS = torch.randn(B, S, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2
LABELS = (torch.rand(B, S, generator=torch.Generator().manual_seed(2)) > 0.5).double()
MASK = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0], [0, 1, 1], [1, 1, 0]]).bool()
WEIGHT = torch.tensor([1.0, 2.0, 5.0, 0.5, 0.0], dtype=torch.float64)


def looped(logits, labels, mask, weight, reduction):
    """The definition, one number at a time."""
    values, shares = [], []
    for row, marks, counts, share in zip(logits, labels, mask, weight, strict=True):
        costs = [
            -math.log(1 / (1 + math.exp(-z if y else z)))
            for z, y, on in zip(row, marks, counts, strict=True)
            if on
        ]
        values.append(share * sum(costs) / len(costs) if costs else 0.0)
        shares.append(share if costs else 0.0)
    if reduction == "none":
        return values
    return sum(values) / (sum(shares) if reduction == "mean" else 1)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_the_loop(reduction, weighted):
    weight = WEIGHT if weighted else None
    value = sub_label_loss(
        LOGITS, LABELS, sub_label_mask=MASK, sample_weight=weight, reduction=reduction
    )
    lists = LOGITS.tolist(), LABELS.tolist(), MASK.tolist()
    expected = looped(*lists, WEIGHT.tolist() if weighted else [1.0] * B, reduction)
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))


def test_with_all_labels_it_is_the_multilabel_loss():
    assert torch.equal(
        sub_label_loss(LOGITS, LABELS), supervised_loss(LOGITS, LABELS, task="multilabel")
    )


def test_what_does_not_count_is_never_read():
    labels = torch.where(MASK, LABELS, torch.nan)
    logits = LOGITS.clone().requires_grad_()
    loss = sub_label_loss(logits, labels, sub_label_mask=MASK)
    loss.backward()
    assert torch.equal(loss, sub_label_loss(LOGITS, LABELS, sub_label_mask=MASK))
    assert (logits.grad[~MASK] == 0).all() and (logits.grad[MASK] != 0).all()


def test_without_any_label_it_is_zero():
    logits = LOGITS.clone().requires_grad_()
    loss = sub_label_loss(logits, None)
    loss.backward()
    assert loss.item() == 0 and (logits.grad == 0).all()


def test_large_logits_are_finite():
    big = torch.tensor([[1e4, -1e4]])
    assert sub_label_loss(big, torch.tensor([[1.0, 0.0]])).item() == 0
    assert sub_label_loss(big, torch.tensor([[0.0, 1.0]])).item() == 1e4


def test_gradcheck():
    logits = LOGITS.clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: sub_label_loss(x, LABELS, sub_label_mask=MASK, sample_weight=WEIGHT), logits
    )


def test_half_precision_is_summed_in_float32():
    value = sub_label_loss(LOGITS.bfloat16(), LABELS.bfloat16())
    assert value.dtype == torch.float32


def test_the_module_picks_its_inputs():
    batch = type("B", (), {"sub_labels": LABELS, "sub_label_mask": MASK, "sample_weight": None})
    module = SubLabelLoss(reduction="sum")
    picked = module.select(StudentOutput(LOGITS[:, 0], None, LOGITS), None, batch)
    assert torch.equal(
        module(**picked), sub_label_loss(LOGITS, LABELS, sub_label_mask=MASK, reduction="sum")
    )
    with pytest.raises(ValueError, match="needs a student with heads for sub-labels"):
        module.select(StudentOutput(LOGITS[:, 0]), None, batch)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sub_labels": LABELS[:, :2]}, r"sub_labels have shape \(5, 2\) .* \(5, 3\)"),
        ({"sub_label_mask": MASK[0]}, r"sub_label_mask have shape \(3,\)"),
        ({"sub_label_mask": MASK.float()}, "has dtype torch.float32; give bool"),
        ({"sub_labels": LABELS * 2}, "is 2, expected a number from 0 to 1"),
        ({"sub_labels": LABELS * torch.nan}, "is nan, expected"),
        ({"reduction": "batchmean"}, "reduction 'batchmean' is unknown"),
        ({"student_sub_logits": LOGITS[:, 0]}, r"student_sub_logits have shape \(5,\)"),
        ({"sample_weight": -WEIGHT}, "sample_weight must be finite and not negative"),
    ],
)
def test_errors(changes, message):
    given = {"student_sub_logits": LOGITS, "sub_labels": LABELS, "sub_label_mask": None}
    with pytest.raises(ValueError, match=message):
        sub_label_loss(**(given | changes))
