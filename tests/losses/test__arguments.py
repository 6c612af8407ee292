"""What every loss says of arguments that are no tensors, and does with inference tensors."""

import math

import pytest
import torch
from torch import nn

from coefvq import losses
from coefvq.losses import (
    attention_transfer_loss,
    contrastive_kd_loss,
    feature_kd_loss,
    fidelity_rank_loss,
    gatekeeper_loss,
    ha_pfd_loss,
    level_kd_loss,
    linear_kd_loss,
    logit_kd_loss,
    margin_kd_loss,
    multi_teacher_kd_loss,
    multi_teacher_weights,
    plcc_loss,
    score_kd_loss,
    similarity_kd_loss,
    sub_label_loss,
    supervised_loss,
    token_kd_loss,
)
from coefvq.losses._arguments import check_number, check_tensor, settled

DRAW = torch.Generator().manual_seed(0)


def drawn(*shape):
    return torch.randn(shape, generator=DRAW)


def made():
    """Whatever a teacher or a loader may have made under inference mode."""
    with torch.inference_mode():
        return {
            "wide": drawn(4, 5),
            "one": drawn(4),
            "several": drawn(2, 4, 5),
            "tokens": drawn(4, 3, 5),
            "map": drawn(4, 2, 3, 3),
            "head": drawn(5, 2),
            "bias": drawn(5),
            "hidden": drawn(4, 2),
            "index": torch.tensor([0, 1, 2, 4]),
            "set": torch.ones(4, 5),
            "weight": torch.tensor([1.0, 2.0, 1.0, 1.0]),
            "mask": torch.tensor([True, True, True, False]),
            "token_mask": torch.ones(4, 3, dtype=torch.bool),
            "label_mask": torch.ones(4, 5, dtype=torch.bool),
            "topk": torch.arange(3).expand(4, 3, 3).clone(),
            "logprobs": torch.full((4, 3, 3), -2.0),
        }


def labelled(function, **options):
    """Classes, with a mask and weights."""
    return lambda t: function(
        student(4, 5), t["wide"], t["index"], task="multiclass", label_mask=t["mask"],
        sample_weight=t["weight"], **options,
    )  # fmt: skip


def unlabelled(function, **options):
    return lambda t: function(student(4, 5), t["wide"], sample_weight=t["weight"], **options)


def scored(function, **options):
    return lambda t: function(student(4), t["one"], sample_weight=t["weight"], **options)


def student(*shape):
    return drawn(*shape).requires_grad_()


USES = {
    "supervised_loss": [
        lambda t: supervised_loss(
            student(4, 5), t["index"], task="multiclass", class_weights=t["bias"].abs(),
            label_mask=t["mask"], sample_weight=t["weight"], label_smoothing=0.1, focal_gamma=2.0,
        ),
        lambda t: supervised_loss(
            student(4, 5), t["set"], task="multilabel", positive_weight=t["bias"].abs(),
            label_mask=t["mask"],
        ),
        lambda t: supervised_loss(student(4), t["one"], task="regression"),
    ],
    "gatekeeper_loss": [
        lambda t: gatekeeper_loss(student(4, 5), t["index"], task="multiclass"),
        lambda t: gatekeeper_loss(student(4, 5), t["set"], task="multilabel"),
    ],
    "logit_kd_loss": [
        unlabelled(logit_kd_loss, task=task, direction=direction)
        for task in ("multiclass", "multilabel")
        for direction in ("forward", "reverse", "jsd")
    ],
    "wttm_loss": [unlabelled(losses.wttm_loss, task="multiclass")],
    "dist_loss": [unlabelled(losses.dist_loss, task="multiclass")],
    "standardized_kd_loss": [unlabelled(losses.standardized_kd_loss)],
    "ha_pfd_loss": [
        labelled(ha_pfd_loss),
        labelled(ha_pfd_loss, detach_hardness=False),
        lambda t: ha_pfd_loss(
            student(4, 5), t["wide"], t["set"], task="multilabel", detach_hardness=False,
            student_features=student(4, 5), teacher_features=t["wide"],
        ),
    ],
    "cpfd_loss": [
        labelled(losses.cpfd_loss, confidence=name, hard_weight=share)
        for name in losses.confidence.NAMES
        for share in ("fixed", "complement")
    ],
    **{
        name: [labelled(getattr(losses, name))]
        for name in ("pfd_loss", "dkd_loss", "nkd_loss", "wsld_loss")
    },
    "multi_teacher_kd_loss": [
        lambda t: multi_teacher_kd_loss(
            student(4, 5), t["several"], t["index"], task="multiclass", method="cross_entropy",
            label_mask=t["mask"],
        ),
        lambda t: multi_teacher_kd_loss(
            student(4, 5), t["several"], task="multiclass", method="entropy"
        ),
    ],
    "feature_kd_loss": [
        *(unlabelled(feature_kd_loss, distance=d) for d in ("mse", "smooth_l1", "cosine")),
        lambda t: feature_kd_loss(student(4, 3, 5), t["tokens"], mask=t["token_mask"]),
    ],
    "attention_transfer_loss": [
        lambda t: attention_transfer_loss(student(4, 7, 3, 3), t["map"]),
        lambda t: attention_transfer_loss(student(4, 3, 5), t["tokens"], mask=t["token_mask"]),
    ],
    **{
        name: [unlabelled(getattr(losses, name))]
        for name in ("rkd_loss", "similarity_preserving_loss", "cka_loss", "contrastive_kd_loss")
    },
    "score_kd_loss": [scored(score_kd_loss, distance=d) for d in ("smooth_l1", "mse", "l1")],
    "score_cpfd_loss": [
        lambda t: losses.score_cpfd_loss(student(4), t["one"], t["one"], label_mask=t["mask"]),
        lambda t: losses.score_cpfd_loss(
            student(4), t["one"], None, t["weight"], hard_weight="complement",
        ),
    ],
    "answer_loss": [
        lambda t, target=target: losses.answer_loss(
            student(4, 5), t["one"].sigmoid(), [0.0, 0.2, 0.4, 0.7, 1.0], target=target,
            label_mask=t["mask"],
        )
        for target in ("linear", "nearest")
    ],
    "similarity_kd_loss": [scored(similarity_kd_loss)],
    "margin_kd_loss": [
        scored(margin_kd_loss),
        lambda t: margin_kd_loss(student(4), t["one"], t["index"] % 2),
    ],
    "fidelity_rank_loss": [
        scored(fidelity_rank_loss),
        lambda t: fidelity_rank_loss(
            student(4), t["one"], mask=t["mask"], teacher_std=t["weight"], groups=t["index"] // 3
        ),
    ],
    "plcc_loss": [lambda t: plcc_loss(student(4), t["one"], mask=t["mask"])],
    "level_kd_loss": [unlabelled(level_kd_loss)],
    "sub_label_loss": [
        lambda t: sub_label_loss(student(4, 5), t["set"], sub_label_mask=t["label_mask"])
    ],
    "token_kd_loss": [
        lambda t: token_kd_loss(student(4, 3, 5), t["tokens"], mask=t["token_mask"]),
        lambda t: token_kd_loss(
            student(4, 3, 5), topk="tail", topk_indices=t["topk"], topk_logprobs=t["logprobs"],
            mask=t["token_mask"], sample_weight=t["weight"],
        ),
    ],
    "linear_kd_loss": [
        lambda t: linear_kd_loss(
            student(4, 2), student(5, 2), t["hidden"], t["head"], teacher_bias=t["bias"],
            mask=t["mask"], sample_weight=t["weight"],
        ),
        lambda t: linear_kd_loss(
            student(4, 3, 2), student(5, 2), topk="renormalized", topk_indices=t["topk"],
            topk_logprobs=t["logprobs"],
        ),
    ],
}  # fmt: skip


def test_every_loss_is_used_here():
    assert set(USES) == {name for name in losses.__all__ if name.endswith("_loss")}


@pytest.mark.parametrize("name", USES)
def test_inference_tensors_are_fine(name):
    for use in USES[name]:
        tensors = made()
        value = use(tensors)
        DRAW.manual_seed(1)
        value = use(tensors)
        value.backward()
        DRAW.manual_seed(1)
        plain = use({key: tensor.clone() for key, tensor in tensors.items()})
        assert value.isfinite() and torch.equal(value, plain)


def test_settled_copies_only_what_backward_could_not_keep():
    with torch.inference_mode():
        from_inference = torch.ones(2)
        assert settled(from_inference).data_ptr() == from_inference.data_ptr()
    assert not settled(from_inference).is_inference()
    assert settled(None) is None
    graph = torch.ones(2, requires_grad=True)
    assert settled(graph).data_ptr() == graph.data_ptr() and not settled(graph).requires_grad


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "x must be a tensor, got NoneType; pass what the model returned"),
        ([1.0], "x must be a tensor, got list; convert it with torch.as_tensor"),
        (torch.ones(2).numpy(), "x must be a tensor, got ndarray; convert it"),
        ([torch.ones(2)], "got list; join its tensors with torch.stack"),
        (nn.Linear(2, 2), "got Linear; pass its weight, such as head.weight"),
        (nn.ReLU(), "got ReLU; call it"),
    ],
)
def test_what_is_no_tensor_says_what_would_make_it_one(value, message):
    with pytest.raises(ValueError, match=message):
        check_tensor("x", value)


Z, Y, W = torch.zeros(4, 5), torch.zeros(4, dtype=torch.long), torch.ones(4)
MULTI = {"task": "multiclass"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda bad: logit_kd_loss(bad, Z, **MULTI), "student_logits must be a tensor"),
        (lambda bad: logit_kd_loss(Z, bad, **MULTI), "teacher_logits must be a tensor"),
        (lambda bad: logit_kd_loss(Z, Z, sample_weight=bad, **MULTI), "sample_weight must"),
        (lambda bad: supervised_loss(bad, Y, **MULTI), "student_logits must be a tensor"),
        (lambda bad: supervised_loss(Z, bad, **MULTI), "labels must be a tensor"),
        (lambda bad: supervised_loss(Z, Y, label_mask=bad, **MULTI), "label_mask must be a"),
        (lambda bad: multi_teacher_kd_loss(Z, bad, **MULTI), "teacher_logits must be a tensor"),
        (lambda bad: multi_teacher_weights(bad, **MULTI), "teacher_logits must be a tensor"),
        (lambda bad: feature_kd_loss(Z, bad), "teacher_features must be a tensor"),
        (lambda bad: losses.FeatureKDLoss(5, 5)(bad, Z), "student_features must be a tensor"),
        (lambda bad: losses.FeatureKDLoss(5, 5)(Z, bad), "teacher_features must be a tensor"),
        (lambda bad: score_kd_loss(W, bad), "teacher_scores must be a tensor"),
        (lambda bad: plcc_loss(bad, W), "student_scores must be a tensor"),
        (lambda bad: margin_kd_loss(W, W, bad), "groups must be a tensor"),
        (lambda bad: level_kd_loss(bad, Z), "student_logits must be a tensor"),
        (lambda bad: token_kd_loss(bad, Z[None]), "student_logits must be a tensor"),
        (lambda bad: token_kd_loss(Z[None], bad), "teacher_logits must be a tensor"),
        (lambda bad: linear_kd_loss(Z, bad, Z, Z), "student_head must be a tensor"),
        (lambda bad: linear_kd_loss(Z, Z, Z, bad), "teacher_head must be a tensor"),
        (lambda bad: linear_kd_loss(bad, Z, Z, Z), "student_hidden must be a tensor"),
        (lambda bad: sub_label_loss(Z, bad), "sub_labels must be a tensor"),
    ],
)
def test_losses_say_what_is_no_tensor(call, message):
    for bad in (Z.tolist(), Z.numpy(), [Z, Z]):
        with pytest.raises(ValueError, match=message):
            call(bad)


def test_none_and_a_module_in_place_of_tensors():
    with pytest.raises(ValueError, match="student_logits must be a tensor, got NoneType"):
        logit_kd_loss(None, Z, **MULTI)
    with pytest.raises(ValueError, match=r"student_head must be .* pass its weight"):
        linear_kd_loss(Z, nn.Linear(5, 4), Z, Z)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("2", "temperature must be a finite number above 0, got '2'"),
        (None, "temperature must be a finite number above 0, got None"),
        (torch.ones(4), r"above 0, got a tensor of shape \(4,\)"),
        (torch.tensor(2.0, requires_grad=True), "requires a gradient .* temperature.item()"),
        (math.nan, "above 0, got nan"),
        (0, "above 0, got 0"),
    ],
)
def test_temperatures(value, message):
    for call in (
        lambda: logit_kd_loss(Z, Z, temperature=value, **MULTI),
        lambda: losses.CPFDLoss(temperature=value, **MULTI),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_what_is_a_number():
    for good in (1, 0.5, torch.tensor(2.0), torch.ones(2).numpy()[0]):
        check_number("x", good)
    for name, wrong in (("alpha", "1"), ("beta", None)):
        with pytest.raises(
            ValueError, match=f"{name} must be a finite number from 0, got {wrong!r}"
        ):
            losses.DKDLoss(**{name: wrong})
    with pytest.raises(ValueError, match=r"distill_weight must be a number in .* got '0.5'"):
        losses.PFDLoss(distill_weight="0.5", **MULTI)
    assert torch.equal(
        logit_kd_loss(Z, Z + 1, temperature=torch.tensor(2.0), **MULTI),
        logit_kd_loss(Z, Z + 1, temperature=2.0, **MULTI),
    )


def test_the_temperature_of_a_contrast_may_be_learned():
    temperature = torch.tensor(0.1, requires_grad=True)
    contrastive_kd_loss(drawn(4, 3), drawn(4, 3), temperature=temperature).backward()
    assert temperature.grad is not None and temperature.grad.isfinite()
