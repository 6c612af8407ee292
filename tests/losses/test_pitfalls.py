"""Rows of what went wrong elsewhere that every loss is held against, whatever it is called.

Rows that ask for more than numbers in and a number out are tested beside their loss, by a name that
ends in the row's.
"""

import inspect

import pytest
import torch

from coefvq import losses

B, C, T = 6, 5, 3
LOSSES = [name for name in losses.__all__ if name.endswith("_loss")]
# What a row needs said before it can be asked.
WITH = {
    ("logit_kd_loss", "beta"): {"direction": "jsd"},
    ("token_kd_loss", "beta"): {"direction": "jsd"},
    ("linear_kd_loss", "beta"): {"direction": "jsd"},
    ("ha_pfd_loss", "feature_weight"): "features",
}
SCORED = {"answer_loss", "score_cpfd_loss"}
# Over pairs or classes of the batch: a sum over samples is refused.
ONE_NUMBER = {"cka_loss", "dist_loss", "plcc_loss", "rkd_loss", "similarity_preserving_loss"}


def draw(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inputs(name):
    """Tensors for every argument that the loss needs."""
    wanted = inspect.signature(getattr(losses, name)).parameters
    rows = (B, T) if name == "token_kd_loss" else (B,)
    width = (4, T) if name == "attention_transfer_loss" else (4,)
    shapes = {"logits": (*rows, C), "features": (B, *width), "scores": (B,), "similarity": (B,),
              "hidden": (B, 4), "head": (C, 4), "sub_logits": (B, C)}  # fmt: skip
    given = {}
    for seed, (who, what) in enumerate((w, s) for w in ("student", "teacher") for s in shapes):
        argument = wanted.get(f"{who}_{what}")
        if argument is not None and argument.kind is not argument.KEYWORD_ONLY:
            given[argument.name] = draw(*shapes[what], seed=seed)
    if name == "similarity_kd_loss":
        given = {key: value.tanh() for key, value in given.items()}
    if name == "multi_teacher_kd_loss":
        given["teacher_logits"] = given["teacher_logits"][None]
    if "sub_labels" in wanted:
        given["sub_labels"] = (torch.arange(B * C).reshape(B, C) % 3 == 0).double()
    if "labels" in wanted:
        given["labels"] = torch.arange(B) % C
    if name in SCORED:
        given["labels"] = given["labels"].double()
    if "values" in wanted:
        given["values"] = torch.arange(C)
    if "task" in wanted:
        given["task"] = "multiclass"
    return given


def numbers(name):
    """Options that are a number: weights, temperatures, exponents."""
    options = inspect.signature(getattr(losses, name)).parameters.values()
    return {x.name: x.default for x in options if isinstance(x.default, float)}


OPTIONS = [(name, option) for name in LOSSES for option in numbers(name)]


def test_every_loss_is_asked():
    assert len(LOSSES) >= 26
    assert len(OPTIONS) >= 30


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_no_cliff_in_any_number__torchdistill_kd_loss(name, option):
    """Theirs dropped T² and a weight where the other weight is 0."""
    given, extra = inputs(name), WITH.get((name, option), {})
    if extra == "features":
        extra = {f"{who}_features": draw(B, 4, seed=9) for who in ("student", "teacher")}
    first = next(iter(given.values())).requires_grad_()

    def asked(number):
        """Value and gradient, or None where such a number is refused."""
        try:
            value = getattr(losses, name)(**given, **{option: number}, **extra)
        except ValueError:
            return None
        return value, *torch.autograd.grad(value, [first])

    default = numbers(name)[option]
    compared = set()
    for at in (0.0, 1.0, default):
        for near in (at - 1e-7, at + 1e-7):
            here, there = asked(at), asked(near)
            if here is not None and there is not None:
                torch.testing.assert_close(there, here, rtol=1e-5, atol=1e-5)
                compared.add(at)
    assert default in compared


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in ONE_NUMBER])
def test_divided_once__easydistill(name):
    """A mean is the sum over what was summed, in value and in the scale of its gradient."""
    given = inputs(name)
    first = next(iter(given.values())).requires_grad_()
    count = B * T if name == "token_kd_loss" else B
    results = []
    for reduction, divisor in (("mean", 1), ("sum", count)):
        value = getattr(losses, name)(**given, reduction=reduction) / divisor
        results.append((value, *torch.autograd.grad(value, [first])))
    torch.testing.assert_close(*results)
