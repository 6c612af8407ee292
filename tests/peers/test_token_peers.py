"""Losses on tokens against TRL and Liger, and DIST against torchdistill, where these are installed.

Where a peer defines a loss otherwise, the test says how and compares what is left. Values and
gradients agree to 1e-5. In float64, but for TRL's fused kernel, which works in float32 whatever it
is given, and for Liger's value (its gradients are float64), which it adds up in float32.
"""

import warnings

import pytest
import torch

from coefvq.losses.dist import dist_loss
from coefvq.losses.linear_kd import linear_kd_loss
from coefvq.losses.token_kd import token_kd_loss

B, T, V, WIDTH, WIDER = 3, 5, 40, 6, 9
TEMPERATURE = 1.7
# Ours, and the peers' one number: 0 is the forward direction, 1 the reverse, between is a JSD.
HOWS = [
    ({"direction": "forward"}, 0.0),
    ({"direction": "reverse"}, 1.0),
    ({"direction": "jsd"}, 0.5),
    ({"direction": "jsd", "beta": 0.2}, 0.2),
]
how = pytest.mark.parametrize(("how", "beta"), HOWS, ids=["forward", "reverse", "jsd", "jsd-0.2"])
masked = pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])


def peer(module, name):
    """A name of a peer's module; what the peer warns about on import is not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reason = f"{module.split('.')[0]} is not installed"
        return getattr(pytest.importorskip(module, reason=reason), name)


def close(value, expected):
    # An entry near 0 is a difference of larger ones: in float32 it is right to 1e-5 of those.
    atol = 1e-7 if value.dtype == torch.float64 else 1e-5 * expected.detach().abs().max().item()
    torch.testing.assert_close(value, expected.to(value.dtype), rtol=1e-5, atol=atol)


@pytest.fixture(params=range(3))
def draw(request):
    generator = torch.Generator().manual_seed(request.param)
    return lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.fixture
def logits(draw):
    return [2 * draw(B, T, V).requires_grad_(), 2 * draw(B, T, V)]


@pytest.fixture
def sides(draw):
    """Hidden states, head and bias of the student, then of the teacher."""
    student = [draw(B * T, WIDTH), draw(V, WIDTH), draw(V)]
    return [x.requires_grad_() for x in student], [draw(B * T, WIDER), draw(V, WIDER), draw(V)]


def ours(student, teacher, **options):
    names = ("student_hidden", "student_head", "student_bias")
    given = dict(zip(names, student, strict=True))
    given |= dict(zip((n.replace("student", "teacher") for n in names), teacher, strict=True))
    return linear_kd_loss(**given, **options)


def labels_of(mask):
    """Peers mask by a label of −100."""
    return torch.where(mask, 0, -100)


def tokens(masked):
    mask = torch.arange(B * T) % 3 != 1
    return mask if masked else torch.ones_like(mask)


def agree(value, expected, parameters, factor=1.0):
    """Ours = factor · theirs, in value and gradients."""
    close(value, factor * expected)
    grads, peers = (torch.autograd.grad(x, parameters) for x in (value, factor * expected))
    for mine, their in zip(grads, peers, strict=True):
        close(mine, their)


@how
@masked
def test_token_kd_is_gkd_of_trl(logits, how, beta, masked):
    """TRL leaves out T², and its "batchmean" divides by valid tokens, or by B without labels."""
    generalized_jsd = peer("trl.experimental.gkd.gkd_trainer", "GKDTrainer").generalized_jsd_loss
    mask = tokens(True).reshape(B, T) if masked else None
    value = token_kd_loss(*logits, mask=mask, temperature=TEMPERATURE, **how)
    theirs = generalized_jsd(
        *logits,
        labels=labels_of(mask) if masked else None,
        beta=beta,
        temperature=TEMPERATURE,
    )
    agree(value, theirs, logits[:1], TEMPERATURE**2 / (1 if masked else T))


@pytest.mark.parametrize(("how", "beta"), HOWS[:2], ids=["forward", "reverse"])
def test_num_valid_tokens_is_trls_items_in_batch(logits, how, beta):
    generalized_jsd = peer("trl.experimental.gkd.gkd_trainer", "GKDTrainer").generalized_jsd_loss
    mask = tokens(True).reshape(B, T)
    value = token_kd_loss(*logits, mask=mask, num_valid_tokens=77, **how)
    theirs = generalized_jsd(*logits, labels=labels_of(mask), beta=beta, num_items_in_batch=77)
    agree(value, theirs, logits[:1])


@how
@masked
def test_linear_kd_is_trls_fused_divergence(sides, how, beta, masked):
    """TRL leaves out T²; its kernel is float32."""
    fused = peer("trl.trainer.distillation_trainer", "_chunked_divergence_loss")
    student, teacher = [[x.detach().float() for x in side] for side in sides]
    student = [x.requires_grad_() for x in student]
    mask = tokens(masked)
    value = ours(student, teacher, mask=mask, temperature=TEMPERATURE, **how)
    theirs, _, _ = fused(
        student_hidden_states=student[0][None],
        teacher_hidden_states=teacher[0][None],
        student_lm_head_weight=student[1],
        teacher_lm_head_weight=teacher[1],
        completion_mask=mask[None],
        beta=beta,
        student_lm_head_bias=student[2],
        teacher_lm_head_bias=teacher[2],
        temperature=TEMPERATURE,
    )
    agree(value, theirs, student, TEMPERATURE**2)


@how
@masked
def test_linear_kd_is_ligers_chunked_jsd(sides, how, beta, masked):
    """Liger leaves out T²."""
    chunked = peer("liger_kernel.chunked_loss", "LigerFusedLinearJSDLoss")
    student, teacher = sides
    mask = tokens(masked)
    value = ours(student, teacher, mask=mask, temperature=TEMPERATURE, chunk_size=4, **how)
    loss = chunked(0.0, 1.0, beta, temperature=TEMPERATURE, compiled=False, chunk_size=4)
    theirs = loss(*student[:2], *teacher[:2], labels_of(mask), student[2], teacher[2])
    agree(value, theirs, student, TEMPERATURE**2)


@how
def test_token_kd_is_ligers_distillation(logits, how, beta):
    function = peer("liger_kernel.chunked_loss.jsd_loss", "LigerFusedLinearJSDFunction")
    theirs = function.distillation_loss_fn(*logits, beta)
    agree(token_kd_loss(*logits, reduction="sum", **how), theirs, logits[:1])


def test_ligers_smaller_vocabulary_has_logits_of_zero(sides):
    """Liger pads a student by logits of 0, which is mass on tokens it does not have; ours refuses.

    The same can be had by saying so, with rows of 0.
    """
    chunked = peer("liger_kernel.chunked_loss", "LigerFusedLinearJSDLoss")
    (hidden, head, bias), teacher = sides
    small = [head[:-7], bias[:-7]]
    loss = chunked(0.0, 1.0, 0.0, compiled=False)
    theirs = loss(hidden, small[0], *teacher[:2], labels_of(tokens(False)), small[1], teacher[2])
    with pytest.raises(ValueError, match=f"vocabulary of {V - 7} tokens"):
        ours([hidden, *small], teacher)
    padded = [torch.cat([x, torch.zeros_like(x[:7])]) for x in small]
    close(ours([hidden, *padded], teacher), theirs)


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0), (2.0, 0.5)])
def test_dist_is_torchdistills(draw, weights):
    """The same loss, T² included; 1e-8 that theirs adds to a length is all that differs."""
    losses = peer("torchdistill.losses.mid_level", "DISTLoss")
    student, teacher = draw(8, 5).requires_grad_(), draw(8, 5)
    value = dist_loss(
        student,
        teacher,
        task="multiclass",
        inter_weight=weights[0],
        intra_weight=weights[1],
        temperature=TEMPERATURE,
    )
    theirs = losses("x", "output", "x", "output", *weights, tau=TEMPERATURE)
    agree(value, theirs({"x": {"output": student}}, {"x": {"output": teacher}}), [student])
