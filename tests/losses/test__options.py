import pytest
import torch
from torch import nn

from coefvq.losses import Confidence, CPFDLoss, PFDLoss, confidence
from coefvq.losses._options import check_number, numbers_of, set_number


class Projected(nn.Module):
    """A loss with a projection, whose first values are drawn."""

    def __init__(self, *, width, power=2.0, normalize=True):
        super().__init__()
        if power <= 0:
            raise ValueError(f"power must be above 0, got {power}")
        self.width, self.power, self.normalize = width, power, normalize
        self.projection = nn.Linear(width, width)


class Closed(nn.Module):
    """A loss that keeps an argument under another name."""

    def __init__(self, start, power=2.0):
        super().__init__()
        if power <= 0:
            raise ValueError("never seen")
        self.begin, self.power = start, power


def cpfd():
    trust = Confidence(confidence.margin, exponent=2.0)
    return CPFDLoss(task="binary", distill_weight=0.4, temperature=3, confidence=trust)


def test_numbers_are_found_also_inside_a_confidence():
    assert numbers_of(cpfd()) == {
        "distill_weight": 0.4,
        "temperature": 3.0,
        "confidence.exponent": 2.0,
        "confidence.floor": 0.0,
        "confidence.strength": 1.0,
    }
    assert numbers_of(Projected(width=2)) == {"width": 2.0, "power": 2.0}  # no bool, no tensor


def test_a_plain_confidence_function_has_no_numbers():
    assert set(numbers_of(CPFDLoss(task="binary"))) == {"distill_weight", "temperature"}


def test_setting():
    loss = cpfd()
    before = loss.confidence
    set_number(loss, "temperature", 5.0)
    set_number(loss, "confidence.strength", 0.25)
    assert loss.temperature == 5.0
    assert loss.confidence == Confidence(confidence.margin, exponent=2.0, strength=0.25)
    assert before.strength == 1.0


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("distill_weight", 1.5, r"distill_weight must be a number in \[0, 1\], got 1.5"),
        ("temperature", 0.0, "temperature must be a finite number above 0"),
        ("confidence.strength", 2.0, "confidence strength must be a number"),
        ("confidence.exponent", -1.0, "confidence exponent must be"),
    ],
)
def test_the_loss_itself_refuses(name, value, message):
    loss = cpfd()
    with pytest.raises(ValueError, match=message):
        check_number(loss, name, value)
    assert numbers_of(loss) == numbers_of(cpfd())


def test_checking_changes_nothing():
    loss = Projected(width=2)
    weight, state = loss.projection.weight.clone(), torch.get_rng_state()
    check_number(loss, "power", 3.0)
    with pytest.raises(ValueError, match="power must be above 0"):
        check_number(loss, "power", 0.0)
    assert torch.equal(torch.get_rng_state(), state)
    assert loss.power == 2.0
    assert torch.equal(loss.projection.weight, weight)
    check_number(PFDLoss(task="binary"), "distill_weight", 1.0)


def test_a_loss_that_cannot_be_made_again_is_not_judged():
    check_number(Closed(1.0), "power", -1.0)
    stubborn = Projected(width=2)
    stubborn.width = "two"
    check_number(stubborn, "power", -1.0)
