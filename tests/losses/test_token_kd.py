import math

import pytest
import reference_tokens as reference
import torch
import torch.nn.functional as F

from coefvq.losses import logit_kd_loss
from coefvq.losses.token_kd import TokenKDLoss, token_kd_loss

B, T, V, K = 3, 4, 9, 4
HOWS = [
    {"direction": "forward"},
    {"direction": "reverse"},
    {"direction": "jsd"},
    {"direction": "jsd", "beta": 0.2},
]
# Every meaning with every option that it allows.
STORED = [
    *({"topk": "raw"}, {"topk": "teacher_renormalized"}),
    *({"topk": topk, **how} for topk in ("tail", "renormalized") for how in HOWS),
    {"topk": "teacher_renormalized", "temperature": 2.0},
    {"topk": "renormalized", "temperature": 2.0, "direction": "reverse"},
]


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 2


def stored(teacher, k=K):
    logprobs, indices = teacher.log_softmax(-1).topk(k)
    return {"topk_indices": indices, "topk_logprobs": logprobs}


STUDENT, TEACHER = draw(B, T, V, seed=1), draw(B, T, V, seed=2)
MASK = torch.tensor([[1, 1, 0, 1], [0, 0, 0, 1], [1, 0, 0, 0]]).bool()
WEIGHT = torch.tensor([0.5, 2.0, 1.25], dtype=torch.float64)
PATHS = [{"teacher_logits": TEACHER}, *({**stored(TEACHER), **options} for options in STORED)]


def name(path):
    return "-".join(str(x) for x in path.values() if not isinstance(x, torch.Tensor)) or "logits"


path = pytest.mark.parametrize("path", PATHS, ids=name)


def test_closed_form():
    # Teacher (1/2, 1/4, 1/4), student (1/4, 1/2, 1/4).
    # KL = 1/2 log 2 + 1/4 log(1/2) = 1/4 log 2, and the same the other way round.
    teacher = torch.tensor([[[0.5, 0.25, 0.25]]], dtype=torch.float64).log()
    student = torch.tensor([[[0.25, 0.5, 0.25]]], dtype=torch.float64).log()
    log2 = math.log(2)
    assert token_kd_loss(student, teacher).item() == pytest.approx(log2 / 4)
    assert token_kd_loss(student, teacher, direction="reverse").item() == pytest.approx(log2 / 4)
    # Only the token with 1/2 is stored (k = 1).
    one = stored(teacher, 1)
    # raw: 1/2 log(1/2 : 1/4) = 1/2 log 2.
    assert token_kd_loss(student, topk="raw", **one).item() == pytest.approx(log2 / 2)
    # tail: (1/2, 1/2) against (1/4, 3/4) = 1/2 log 2 + 1/2 log(2/3) = log 2 − 1/2 log 3.
    tail = log2 - math.log(3) / 2
    assert token_kd_loss(student, topk="tail", **one).item() == pytest.approx(tail)
    # renormalized: (1) against (1). teacher_renormalized: 1 · log(1 : 1/4) = 2 log 2.
    assert token_kd_loss(student, topk="renormalized", **one).item() == 0.0
    value = token_kd_loss(student, topk="teacher_renormalized", **one)
    assert value.item() == pytest.approx(2 * log2)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])
def test_equals_reference(mask, weight, reduction):
    options = {"mask": mask, "sample_weight": weight, "reduction": reduction}
    lists = [None if x is None else x.tolist() for x in (mask, weight)]
    for how in HOWS:
        values = [
            [reference.token(s, t, 1.5, **how) for s, t in zip(*rows, strict=True)]
            for rows in zip(STUDENT.tolist(), TEACHER.tolist(), strict=True)
        ]
        expected = torch.tensor(reference.over_tokens(values, *lists, reduction))
        value = token_kd_loss(STUDENT, TEACHER, temperature=1.5, **how, **options)
        torch.testing.assert_close(value, expected.to(value))
    for how in STORED:
        teacher = stored(TEACHER)
        columns = (STUDENT, *teacher.values())
        values = [
            [reference.stored_token(*one, **how) for one in zip(*rows, strict=True)]
            for rows in zip(*(x.tolist() for x in columns), strict=True)
        ]
        expected = torch.tensor(reference.over_tokens(values, *lists, reduction))
        value = token_kd_loss(STUDENT, **teacher, **how, **options)
        torch.testing.assert_close(value, expected.to(value))


def test_is_logit_kd_over_tokens():
    value = token_kd_loss(STUDENT, TEACHER, temperature=2.0, mask=MASK)
    flat = logit_kd_loss(STUDENT[MASK], TEACHER[MASK], task="multiclass", temperature=2.0)
    torch.testing.assert_close(value, flat)


def test_zero_for_equal_models__trl_5731():
    """Soft cross-entropy (torchtune, NeMo, distillm#7) would give the teacher's entropy."""
    for how in HOWS:
        assert token_kd_loss(TEACHER, TEACHER, **how).abs().item() < 1e-15
    for how in STORED:
        value = token_kd_loss(TEACHER, **stored(TEACHER), **how, reduction="none")
        if how["topk"] != "teacher_renormalized":
            torch.testing.assert_close(value, torch.zeros(B, T).double(), rtol=0, atol=1e-14)
    # teacher_renormalized: p' = p / Σ_k p, hence Σ_k p' (log p' − log p) = −log Σ_k p.
    mass = stored(TEACHER)["topk_logprobs"].logsumexp(-1)
    value = token_kd_loss(TEACHER, **stored(TEACHER), topk="teacher_renormalized", reduction="none")
    torch.testing.assert_close(value, -mass)


def test_one_hot_teacher_is_cross_entropy():
    labels = torch.arange(B * T).reshape(B, T) % V
    expected = F.cross_entropy(STUDENT[MASK], labels[MASK])
    teacher = torch.full_like(STUDENT, -torch.inf).scatter(-1, labels[..., None], 0.0)
    torch.testing.assert_close(token_kd_loss(STUDENT, teacher, mask=MASK), expected)
    one = {"topk_indices": labels[..., None], "topk_logprobs": torch.zeros(B, T, 1)}
    for topk in ("raw", "tail", "teacher_renormalized"):
        value = token_kd_loss(STUDENT, **one, topk=topk, mask=MASK)
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)


def test_tokens_are_compared_where_they_stand__swift_8436():
    """A token planted at one place counts there and nowhere else: nothing is shifted inside."""
    plain = torch.zeros(2, 5, 7)
    planted = plain.clone()
    planted[1, 3, 6] = 10.0
    here = token_kd_loss(plain, planted, reduction="none")
    assert here.nonzero().tolist() == [[1, 3]]
    assert token_kd_loss(planted, planted).item() == 0.0
    assert token_kd_loss(planted.roll(1, 1), planted, reduction="none").nonzero().tolist() == [
        [1, 3],
        [1, 4],
    ]
    mask = torch.zeros(2, 5, dtype=torch.bool)
    mask[1, 3] = True
    torch.testing.assert_close(token_kd_loss(plain, planted, mask=mask), here[1, 3])
    assert token_kd_loss(plain, planted, mask=~mask).item() == 0.0
    assert token_kd_loss(plain, planted, mask=mask.roll(1, 1)).item() == 0.0


def test_mask_selects_tokens__mlkd():
    """What stands outside the mask, NaN included, changes neither value nor gradient."""
    garbage = torch.where(MASK[..., None], STUDENT, torch.nan)
    for path in PATHS:
        teacher = dict(path)
        if "topk" in teacher:
            teacher["topk_indices"] = torch.where(MASK[..., None], teacher["topk_indices"], -1)
            teacher["topk_logprobs"] = torch.where(MASK[..., None], teacher["topk_logprobs"], 5.0)
        clean, dirty = STUDENT.clone().requires_grad_(), garbage.clone().requires_grad_()
        expected = token_kd_loss(clean, mask=MASK, **path)
        value = token_kd_loss(dirty, mask=MASK, **teacher)
        expected.backward()
        value.backward()
        assert torch.equal(value, expected)
        assert torch.equal(dirty.grad, clean.grad)
        assert (dirty.grad[~MASK] == 0).all()
    empty = token_kd_loss(STUDENT, TEACHER, mask=torch.zeros_like(MASK))
    assert empty.item() == 0.0


def test_accumulation_divides_by_all_tokens__axolotl_3271():
    """Micro-batches of different length, SGD's gradient: the mean over all valid tokens."""
    whole, cut = (STUDENT.clone().requires_grad_() for _ in range(2))
    token_kd_loss(whole, TEACHER, mask=MASK).backward()
    count = int(MASK.sum())
    for number in (count, float(count), torch.tensor(count)):
        cut.grad = None
        for rows in (slice(0, 1), slice(1, 3)):
            token_kd_loss(
                cut[rows], TEACHER[rows], mask=MASK[rows], num_valid_tokens=number
            ).backward()
        torch.testing.assert_close(cut.grad, whole.grad)
    means = [
        token_kd_loss(STUDENT[r], TEACHER[r], mask=MASK[r]) for r in (slice(0, 1), slice(1, 3))
    ]
    assert abs(sum(means) / 2 - token_kd_loss(STUDENT, TEACHER, mask=MASK)) > 1e-3


def test_divided_by_tokens_once__easydistill():
    """Scale included: T · (q − p) / tokens, so that a second division cannot hide behind Adam."""
    student = STUDENT.clone().requires_grad_()
    token_kd_loss(student, TEACHER, temperature=2.0, mask=MASK).backward()
    difference = (STUDENT / 2).softmax(-1) - (TEACHER / 2).softmax(-1)
    torch.testing.assert_close(student.grad, 2 * difference * MASK[..., None] / MASK.sum())


@path
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_gradients(path, reduction):
    def loss(z):
        return token_kd_loss(z, mask=MASK, sample_weight=WEIGHT, reduction=reduction, **path)

    student = STUDENT.clone().requires_grad_()
    assert torch.autograd.gradcheck(loss, student)
    (first,) = torch.autograd.grad(loss(student).sum(), student, create_graph=True)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(first.sum(), student)


@path
def test_teacher_gets_no_gradient(path):
    floats = {
        key: value.clone().requires_grad_()
        for key, value in path.items()
        if isinstance(value, torch.Tensor) and value.is_floating_point()
    }
    token_kd_loss(STUDENT.clone().requires_grad_(), **{**path, **floats}).backward()
    assert all(value.grad is None for value in floats.values())


@path
def test_invariances(path):
    value = token_kd_loss(STUDENT, reduction="none", **path)
    order = torch.tensor([2, 0, 1])
    rows = {k: v[order] if isinstance(v, torch.Tensor) else v for k, v in path.items()}
    moved = token_kd_loss(STUDENT[order], reduction="none", **rows)
    assert torch.equal(moved, value[order])
    constant = torch.linspace(-3, 5, B * T, dtype=torch.float64).reshape(B, T, 1)
    shifted = dict(path)
    if "teacher_logits" in path:
        shifted["teacher_logits"] = path["teacher_logits"] - constant
    value_of = token_kd_loss(STUDENT + constant, reduction="none", **shifted)
    torch.testing.assert_close(value_of, value)


@path
def test_masked_vocabulary__modelopt(path):
    """Tokens that both sides mask by −inf change nothing (ModelOpt: a mean over them would)."""
    nothing = torch.full((B, T, 5), -torch.inf, dtype=torch.float64)
    short = STUDENT.clone().requires_grad_()
    long = torch.cat([STUDENT, nothing], -1).requires_grad_()
    longer = dict(path)
    if "teacher_logits" in path:
        longer["teacher_logits"] = torch.cat([TEACHER, nothing], -1)
    expected, value = token_kd_loss(short, **path), token_kd_loss(long, **longer)
    torch.testing.assert_close(value, expected)
    expected.backward()
    value.backward()
    torch.testing.assert_close(long.grad[..., :V], short.grad)
    assert (long.grad[..., V:] == 0).all()


@path
def test_extremes__liger_769(path):
    """±1e4 in float32 stays finite, and so does the gradient."""
    for sign in (1.0, -1.0):
        student = (STUDENT.sign().float() * 1e4).requires_grad_()
        teacher = STUDENT.sign().float() * 1e4 * sign
        given = {k: v for k, v in path.items() if not isinstance(v, torch.Tensor)}
        given |= stored(teacher) if "topk" in path else {"teacher_logits": teacher}
        value = token_kd_loss(student, **given)
        value.backward()
        assert value.isfinite()
        assert student.grad.isfinite().all()


@path
def test_half_precision(path):
    half = {
        k: v.bfloat16() if isinstance(v, torch.Tensor) and v.is_floating_point() else v
        for k, v in path.items()
    }
    full = {k: v.float() if isinstance(v, torch.Tensor) and v.dtype == torch.bfloat16 else v
            for k, v in half.items()}  # fmt: skip
    student = STUDENT.bfloat16().requires_grad_()
    expected = token_kd_loss(STUDENT.bfloat16().float(), **full)
    value = token_kd_loss(student, **half)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)
    value.backward()
    assert student.grad.dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(token_kd_loss(student, **half), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("path", [PATHS[0], PATHS[1], PATHS[3], PATHS[7]], ids=name)
def test_compiled(path):
    torch.compiler.reset()

    def loss(z):
        return token_kd_loss(z, mask=MASK, sample_weight=WEIGHT, **path)

    eager, graph = (STUDENT.clone().requires_grad_() for _ in range(2))
    expected = loss(eager)
    value = torch.compile(loss, backend="aot_eager", fullgraph=True)(graph)
    torch.testing.assert_close(value, expected)
    expected.backward()
    value.backward()
    torch.testing.assert_close(graph.grad, eager.grad)


@path
def test_module_equals_function(path):
    tensors = {k: v for k, v in path.items() if isinstance(v, torch.Tensor)}
    options = {k: v for k, v in path.items() if k not in tensors}
    module = TokenKDLoss(**options, reduction="sum")
    value = module(STUDENT, **tensors, mask=MASK, sample_weight=WEIGHT)
    expected = token_kd_loss(STUDENT, **path, mask=MASK, sample_weight=WEIGHT, reduction="sum")
    assert torch.equal(value, expected)


def output(**fields):
    return type("Output", (), fields)


def test_select():
    batch = output(sample_weight=WEIGHT)
    teacher = output(logits=TEACHER, token_mask=MASK, **stored(TEACHER))
    for topk in (None, "tail"):
        module = TokenKDLoss(topk=topk)
        value = module(**module.select(output(logits=STUDENT), teacher, batch))
        given = {"teacher_logits": TEACHER} if topk is None else {"topk": topk, **stored(TEACHER)}
        expected = token_kd_loss(STUDENT, **given, mask=MASK, sample_weight=WEIGHT)
        assert torch.equal(value, expected)
    with pytest.raises(ValueError, match="TokenKDLoss needs a teacher"):
        TokenKDLoss().select(output(logits=STUDENT), None, batch)


def test_temperature_may_be_scheduled():
    module = TokenKDLoss(temperature=2.0)
    module.temperature = 3.0
    assert torch.equal(module(STUDENT, TEACHER), token_kd_loss(STUDENT, TEACHER, temperature=3.0))


TOP = stored(TEACHER)
INDICES, LOGPROBS = TOP["topk_indices"], TOP["topk_logprobs"]


@pytest.mark.parametrize(
    ("student", "options", "message"),
    [
        (STUDENT, {}, "neither teacher_logits nor topk_indices"),
        (STUDENT, {"teacher_logits": TEACHER, **TOP}, "both teacher_logits and topk_indices"),
        (STUDENT, {"topk_indices": INDICES}, "needs both topk_indices and topk_logprobs"),
        (STUDENT, TOP, "need their meaning; set topk"),
        (STUDENT, {"teacher_logits": TEACHER, "topk": "raw"}, "leave topk at None"),
        (STUDENT, {**TOP, "topk": "best"}, "topk 'best' is unknown; choose one of raw, tail"),
        (STUDENT, {**TOP, "topk": "tail", "temperature": 2.0}, "'tail' needs temperature 1"),
        (
            STUDENT,
            {**TOP, "topk": "tail", "topk_indices": INDICES + V},
            r"not a token from 0 to 8 \(V = 9\)",
        ),
        (
            STUDENT,
            {**TOP, "topk": "tail", "topk_logprobs": LOGPROBS + 3},
            "add up to a probability of",
        ),
        (
            STUDENT,
            {"topk": "tail", "topk_indices": INDICES[:, 1:], "topk_logprobs": LOGPROBS[:, 1:]},
            r"shape \(3, 3, 4\).*asks for \(3, 4, k\)",
        ),
        (STUDENT[0], {"teacher_logits": TEACHER[0]}, r"expects floating point \(B, T, V\)"),
        (STUDENT.long(), {"teacher_logits": TEACHER}, "student_logits have .* dtype torch.int64"),
        (STUDENT[:, 1:], {"teacher_logits": TEACHER}, r"teacher_logits have shape \(3, 4, 9\)"),
        (STUDENT[..., 1:], {"teacher_logits": TEACHER}, "vocabulary has 8 .* teacher's 9; pad"),
        (STUDENT, {"teacher_logits": TEACHER, "mask": MASK.long()}, "mask must be bool"),
        (STUDENT, {"teacher_logits": TEACHER, "mask": MASK[:, 1:]}, r"mask has shape \(3, 3\)"),
        (STUDENT, {"teacher_logits": TEACHER, "sample_weight": -WEIGHT}, "not negative, got -0.5"),
        (STUDENT, {"teacher_logits": TEACHER, "temperature": 0.0}, "temperature .* above 0"),
        (STUDENT, {"teacher_logits": TEACHER, "direction": "both"}, "direction 'both' is unknown"),
        (STUDENT, {"teacher_logits": TEACHER, "reduction": "batchmean"}, "reduction 'batchmean'"),
        (STUDENT, {"teacher_logits": TEACHER, "num_valid_tokens": 0}, "above 0, got 0"),
    ],
)
def test_errors(student, options, message):
    with pytest.raises(ValueError, match=message):
        token_kd_loss(student, **options)


@pytest.mark.parametrize(
    "options",
    [{"temperature": -1.0}, {"topk": "raw", "temperature": 2.0}, {"reduction": "avg"}],
)
def test_module_errors_come_at_construction(options):
    with pytest.raises(ValueError, match=r"temperature|reduction"):
        TokenKDLoss(**options)


def test_smaller_vocabulary_is_padded_with_minus_infinity__liger_zero_padding():
    """Liger pads with logits of 0: real mass on tokens that the student doesn't have."""
    with pytest.raises(ValueError, match="pad the smaller with logits of −inf"):
        token_kd_loss(STUDENT[..., :-2], TEACHER)
    nothing = torch.full((B, T, 2), -torch.inf, dtype=torch.float64)
    padded = torch.cat([STUDENT[..., :-2], nothing], -1)
    masked = torch.cat([TEACHER[..., :-2], nothing], -1)
    torch.testing.assert_close(
        token_kd_loss(padded, masked), token_kd_loss(STUDENT[..., :-2], TEACHER[..., :-2])
    )
