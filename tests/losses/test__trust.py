import pytest
import torch

from coefvq.losses import Confidence, CPFDLoss, confidence, cpfd_loss
from coefvq.losses._trust import check_trust

Z, Y = torch.zeros(4, 5), torch.zeros(4, dtype=torch.long)


def returns(value):
    return lambda *_, **__: value


def wide(value):
    return torch.full((4, 5), value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1.0, "what the confidence function returns must be a tensor, got float"),
        (None, "must be a tensor, got NoneType"),
        (Y, "the confidence must be floating point, got torch.int64; return it with"),
        (Z[:, :1], r"shape \(4, 1\) for logits of shape \(4, 5\); return one number per sample"),
        (Z, r"shape \(4, 5\) for logits"),
        (torch.tensor([1.0, 1, -0.5, 1]), "finite and not negative, got -0.5 in row 2"),
        (torch.tensor([1.0, torch.nan, 1, 1]), "got nan in row 1"),
        (torch.tensor([torch.inf, 1, 1, 1]), "got inf in row 0"),
    ],
)
def test_what_a_users_function_returns_is_checked(value, message):
    for own in (returns(value), Confidence(returns(value))):
        with pytest.raises(ValueError, match=message):
            cpfd_loss(Z, Z, Y, task="multiclass", confidence=own)


def test_labels_may_be_trusted_each_or_together():
    for value in (wide(0.5), torch.full((4,), 0.5)):
        one = cpfd_loss(Z, Z + 1, Z, task="multilabel", confidence=returns(value))
        same = cpfd_loss(Z, Z + 1, Z, task="multilabel", confidence=returns(wide(0.5)))
        torch.testing.assert_close(one, same)
    with pytest.raises(ValueError, match=r"got -1.0 in row 0"):
        check_trust(wide(-1.0), Z, Z, "multilabel")


def test_nan_logits_are_not_blamed_on_the_confidence():
    logits = Z.clone()
    logits[2] = torch.nan
    trust = torch.tensor([1.0, 1, torch.nan, 1])
    assert check_trust(trust, Z, logits, "multiclass") is not None
    assert cpfd_loss(Z, logits, Y, task="multiclass").isnan()
    assert cpfd_loss(logits, Z, Y, task="multiclass", confidence="relative").isnan()
    with pytest.raises(ValueError, match="got nan in row 2"):
        check_trust(trust, Z, Z, "multiclass")


@pytest.mark.parametrize("name", confidence.NAMES)
def test_a_name_is_as_good_as_the_function(name, make_case):
    case = make_case("multiclass", missing=True)
    inputs = case.student, case.teacher, case.labels, case.label_mask
    function = getattr(confidence, name)
    options = {"task": "multiclass", "label_mask": case.label_mask}
    expected = cpfd_loss(*inputs[:3], confidence=function, **options)
    assert torch.equal(cpfd_loss(*inputs[:3], confidence=name, **options), expected)
    assert torch.equal(cpfd_loss(*inputs[:3], confidence=Confidence(name), **options), expected)
    module = CPFDLoss(task="multiclass", confidence=name)
    assert module.confidence is function
    assert torch.equal(module(*inputs), expected)


def test_names_that_are_none():
    for call in (
        lambda name: CPFDLoss(task="multiclass", confidence=name),
        lambda name: Confidence(name),
        lambda name: cpfd_loss(Z, Z, Y, task="multiclass", confidence=name),
    ):
        with pytest.raises(ValueError, match="confidence 'marign' is unknown; choose one of true_"):
            call("marign")
        with pytest.raises(ValueError, match=r"must be a function or one of true_.* got Tensor"):
            call(torch.ones(4))
