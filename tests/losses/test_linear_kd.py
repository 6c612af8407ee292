import pytest
import reference_tokens as reference
import torch
import torch.nn.functional as F

from coefvq.losses.linear_kd import LinearKDLoss, linear_kd_loss
from coefvq.losses.token_kd import token_kd_loss

N, V, H, W, K = 7, 11, 5, 3, 4  # W: the teacher's width
HOWS = [
    {"direction": "forward"},
    {"direction": "reverse", "temperature": 2.0},
    {"direction": "jsd", "beta": 0.2, "temperature": 0.5},
]
STORED = [
    {"topk": "raw"},
    {"topk": "tail"},
    {"topk": "tail", "direction": "jsd"},
    {"topk": "renormalized", "temperature": 2.0, "direction": "reverse"},
    {"topk": "teacher_renormalized", "temperature": 2.0},
]


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


HIDDEN, HEAD, BIAS = draw(N, H, seed=1), draw(V, H, seed=2), draw(V, seed=3)
TEACHER = {
    "teacher_hidden": draw(N, W, seed=4),
    "teacher_head": draw(V, W, seed=5),
    "teacher_bias": draw(V, seed=6),
}
TEACHER_LOGITS = F.linear(*TEACHER.values())
TOP = dict(
    zip(("topk_logprobs", "topk_indices"), TEACHER_LOGITS.log_softmax(-1).topk(K), strict=True)
)
PER_TOKEN = ("teacher_hidden", "topk_indices", "topk_logprobs")
MASK = torch.tensor([1, 0, 1, 1, 0, 1, 1]).bool()
WEIGHT = torch.tensor([0.5, 9.0, 2.0, 1.0, 9.0, 0.25, 1.5], dtype=torch.float64)
# What linear_kd_loss gets, and what token_kd_loss gets of the same teacher.
PATHS = [
    *(({**TEACHER, **how}, {"teacher_logits": TEACHER_LOGITS[None], **how}) for how in HOWS),
    *(({**TOP, **how}, {**{k: v[None] for k, v in TOP.items()}, **how}) for how in STORED),
]


def name(x):
    return "-".join(str(v) for v in x.values() if not isinstance(v, torch.Tensor)) or None


both = pytest.mark.parametrize(("path", "whole"), PATHS, ids=[name(linear) for linear, _ in PATHS])
path = pytest.mark.parametrize("path", [linear for linear, _ in PATHS], ids=name)


def leaves(dtype=torch.float64):
    return [x.to(dtype).requires_grad_() for x in (HIDDEN.clone(), HEAD.clone(), BIAS.clone())]


def close(ours, theirs, **tolerance):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, **tolerance)


def test_closed_form():
    # Heads are the identity: hidden states are logits. Teacher (3/4, 1/4), student (1/2, 1/2):
    # KL = 3/4 log(3/2) + 1/4 log(1/2) = 3/4 log 3 − log 2; its gradient is q − p = (−1/4, 1/4).
    hidden = torch.zeros(1, 2, requires_grad=True)
    head = torch.eye(2, requires_grad=True)
    loss = linear_kd_loss(hidden, head, torch.tensor([[3.0, 1.0]]).log(), torch.eye(2))
    assert loss.item() == pytest.approx(0.75 * 1.0986122887 - 0.6931471806)
    loss.backward()
    torch.testing.assert_close(hidden.grad, torch.tensor([[-0.25, 0.25]]))
    torch.testing.assert_close(head.grad, torch.zeros(2, 2))  # (q − p) hᵀ with h = 0


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])
def test_equals_reference(mask, weight, reduction):
    lists = [x.tolist() for x in (HIDDEN, HEAD, BIAS, *TEACHER.values(), *TOP.values())]
    hidden, head, bias, *teacher, logprobs, indices = lists
    student = [reference.logits(h, head, bias) for h in hidden]
    teacher = [reference.logits(h, *teacher[1:]) for h in teacher[0]]
    outer = [None if x is None else x[:, None].tolist() for x in (mask,)]
    outer.append(None if weight is None else weight.tolist())
    for linear, _ in PATHS:
        how = {k: v for k, v in linear.items() if not isinstance(v, torch.Tensor)}
        if "topk" in how:
            columns = zip(student, indices, logprobs, strict=True)
            values = [[reference.stored_token(*row, **how)] for row in columns]
        else:
            values = [[reference.token(*row, **how)] for row in zip(student, teacher, strict=True)]
        expected = reference.over_tokens(values, *outer, reduction)
        value = linear_kd_loss(
            HIDDEN, HEAD, student_bias=BIAS, mask=mask, sample_weight=weight,
            reduction=reduction, **linear,
        )  # fmt: skip
        assert value.item() == pytest.approx(expected)


@both
@pytest.mark.parametrize("chunk_size", [None, 1, 2, 3, 100])
def test_equals_logits_held_whole(path, whole, chunk_size):
    """Value and all three gradients, behind another factor, whatever the chunks."""
    ours, theirs = leaves(), leaves()
    options = {"mask": MASK, "sample_weight": WEIGHT}
    loss = linear_kd_loss(*ours[:2], student_bias=ours[2], chunk_size=chunk_size, **path, **options)
    held = token_kd_loss(
        F.linear(*theirs).reshape(N, 1, V),
        **{k: v.reshape(N, 1, -1) if isinstance(v, torch.Tensor) else v for k, v in whole.items()},
        mask=MASK[:, None],
        sample_weight=WEIGHT,
    )
    torch.testing.assert_close(loss, held)
    (0.3 * loss).backward()
    (0.3 * held).backward()
    close([x.grad for x in ours], [x.grad for x in theirs])


def test_hidden_states_of_sequences():
    options = {"mask": MASK[1:].reshape(2, 3), "sample_weight": WEIGHT[:2]}
    flat = {"mask": MASK[1:], "sample_weight": WEIGHT[:2].repeat_interleave(3)}
    (hidden, head, _), (rows, same, _) = leaves(), leaves()
    shaped = linear_kd_loss(
        hidden[1:].reshape(2, 3, H), head, TEACHER["teacher_hidden"][1:].reshape(2, 3, W),
        TEACHER["teacher_head"], **options,
    )  # fmt: skip
    plain = linear_kd_loss(
        rows[1:], same, TEACHER["teacher_hidden"][1:], TEACHER["teacher_head"], **flat
    )
    torch.testing.assert_close(shaped, plain)
    shaped.backward()
    plain.backward()
    close((hidden.grad, head.grad), (rows.grad, same.grad))


@pytest.mark.parametrize("how", HOWS, ids=name)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_zero_for_equal_models__trl_5731(how, dtype):
    hidden, head, _ = leaves(dtype)
    loss = linear_kd_loss(hidden, head, hidden, head, **how)
    loss.backward()
    assert abs(loss.item()) < 1e-7
    assert hidden.grad.abs().max() < 1e-7
    assert head.grad.abs().max() < 1e-7


def test_zero_for_equal_models_stored():
    hidden, head, _ = leaves()
    logprobs, indices = F.linear(hidden, head).log_softmax(-1).topk(K)
    for topk in ("raw", "tail", "renormalized"):
        loss = linear_kd_loss(hidden, head, topk=topk, topk_indices=indices, topk_logprobs=logprobs)
        assert abs(loss.item()) < 1e-12


def test_one_hot_teacher_is_cross_entropy():
    labels = torch.arange(N)
    ours, theirs = leaves(), leaves()
    loss = linear_kd_loss(
        *ours[:2], student_bias=ours[2], topk="teacher_renormalized",
        topk_indices=labels[:, None], topk_logprobs=torch.zeros(N, 1), mask=MASK,
    )  # fmt: skip
    expected = F.cross_entropy(F.linear(*theirs)[MASK], labels[MASK])
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    close([x.grad for x in ours], [x.grad for x in theirs])


@path
def test_gradients(path):
    hidden, head, bias = leaves()

    def loss(hidden, head, bias):
        return linear_kd_loss(hidden, head, student_bias=bias, mask=MASK, chunk_size=2, **path)

    assert torch.autograd.gradcheck(loss, (hidden, head, bias))
    frozen = {
        k: v.clone().requires_grad_() if torch.is_tensor(v) and v.is_floating_point() else v
        for k, v in path.items()
    }
    linear_kd_loss(hidden, head, **frozen).backward()
    assert all(v.grad is None for v in frozen.values() if isinstance(v, torch.Tensor))


def test_gradients_where_they_are_wanted():
    all_of_them = leaves()
    linear_kd_loss(*all_of_them[:2], student_bias=all_of_them[2], **TEACHER).backward()
    for chosen in range(3):
        some = [x.detach().requires_grad_(i == chosen) for i, x in enumerate(all_of_them)]
        linear_kd_loss(*some[:2], student_bias=some[2], **TEACHER).backward()
        assert torch.equal(some[chosen].grad, all_of_them[chosen].grad)
        assert all(x.grad is None for i, x in enumerate(some) if i != chosen)
    value = linear_kd_loss(HIDDEN, HEAD, **TEACHER)
    assert not value.requires_grad
    with torch.no_grad():
        assert torch.equal(linear_kd_loss(*all_of_them[:2], **TEACHER), value)


def test_mask_selects_tokens__mlkd():
    clean, dirty = leaves(), leaves()
    garbage = torch.where(MASK[:, None], dirty[0], torch.nan)
    expected = linear_kd_loss(*clean[:2], mask=MASK, **TEACHER)
    value = linear_kd_loss(garbage, dirty[1], mask=MASK, **TEACHER)
    assert torch.equal(value, expected)
    expected.backward()
    value.backward()
    close([x.grad for x in dirty[:2]], [x.grad for x in clean[:2]], rtol=0, atol=0)
    assert (clean[0].grad[~MASK] == 0).all()
    nothing = leaves()
    empty = linear_kd_loss(*nothing[:2], mask=torch.zeros_like(MASK), **TEACHER)
    empty.backward()
    assert empty.item() == 0.0
    assert (nothing[1].grad == 0).all()


def test_weight_zero_for_all():
    hidden, head, _ = leaves()
    loss = linear_kd_loss(hidden, head, sample_weight=torch.zeros(N), **TEACHER)
    loss.backward()
    assert loss.item() == 0.0
    assert (hidden.grad == 0).all()


def test_tokens_are_compared_where_they_stand__swift_8436():
    planted = torch.zeros(6, V)
    planted[3, 8] = 10.0
    losses = [
        linear_kd_loss(
            torch.zeros(6, V), torch.eye(V), planted, torch.eye(V), mask=torch.arange(6) == t
        ).item()
        for t in range(6)
    ]
    assert losses[3] > 1
    assert losses[:3] + losses[4:] == [0.0] * 5


def test_accumulation_divides_by_all_tokens__axolotl_3271():
    """Micro-batches of different length under SGD, which would show a wrong divisor."""
    whole, cut = leaves(), leaves()
    linear_kd_loss(*whole[:2], mask=MASK, **TEACHER).backward()
    for rows in (slice(0, 2), slice(2, 7)):
        linear_kd_loss(
            cut[0][rows], cut[1], TEACHER["teacher_hidden"][rows], TEACHER["teacher_head"],
            teacher_bias=TEACHER["teacher_bias"], mask=MASK[rows], num_valid_tokens=5,
        ).backward()  # fmt: skip
    close([x.grad for x in cut[:2]], [x.grad for x in whole[:2]])


@path
def test_invariances(path):
    """Order of tokens, a constant on all logits of the student, cuts of the batch under a sum."""

    def loss(rows, bias=BIAS):
        given = {k: v[rows] if k in PER_TOKEN else v for k, v in path.items()}
        hidden, head, _ = leaves()
        value = linear_kd_loss(hidden[rows], head, student_bias=bias, reduction="sum", **given)
        value.backward()
        return value.detach(), hidden.grad, head.grad

    expected = loss(slice(None))
    close(loss(torch.tensor([4, 2, 0, 6, 5, 3, 1])), expected)
    close(loss(slice(None), BIAS + 3), expected)
    parts = [loss(slice(0, 1)), loss(slice(1, 4)), loss(slice(4, N))]
    close([sum(x) for x in zip(*parts, strict=True)], expected)


def test_masked_vocabulary__liger_zero_padding():
    """A bias of −inf on both sides: as if the tokens were not there (Liger pads with logits 0)."""
    hidden, head, bias = leaves()
    expected = linear_kd_loss(hidden, head, student_bias=bias, **TEACHER)
    expected.backward()
    long, padded, _ = leaves()
    nothing = torch.full((3,), -torch.inf, dtype=torch.float64)
    value = linear_kd_loss(
        long,
        torch.cat([padded, padded.detach()[:3]]),
        TEACHER["teacher_hidden"],
        torch.cat([TEACHER["teacher_head"], torch.zeros(3, W)]),
        student_bias=torch.cat([BIAS, nothing]),
        teacher_bias=torch.cat([TEACHER["teacher_bias"], nothing]),
    )
    value.backward()
    torch.testing.assert_close(value, expected)
    close((long.grad, padded.grad), (hidden.grad, head.grad))


@path
def test_extremes__liger_769(path):
    for scale in (1e4, -1e4):
        hidden = (HIDDEN.float().sign() * scale).requires_grad_()
        given = {
            k: v.float() if torch.is_tensor(v) and v.is_floating_point() else v
            for k, v in path.items()
        }
        head = HEAD.float().sign().requires_grad_()
        loss = linear_kd_loss(hidden, head, **given)
        loss.backward()
        assert loss.isfinite()
        assert hidden.grad.isfinite().all()
        assert head.grad.isfinite().all()


def gradients(loss, hidden, head):
    hidden, head = (x.clone().requires_grad_() for x in (hidden, head))
    loss(hidden, head).backward()
    return hidden.grad.double(), head.grad.double()


def test_bfloat16_is_no_further_from_the_truth_than_plain_torch():
    n, v, h = 64, 500, 48
    hidden, head = draw(n, h, seed=1).bfloat16(), (draw(v, h, seed=2) / h**0.5).bfloat16()
    theirs = draw(n, h, seed=3).bfloat16(), (draw(v, h, seed=4) / h**0.5).bfloat16()

    def plain(hidden, head):
        student = F.linear(hidden, head).float().log_softmax(-1)
        teacher = F.linear(*theirs).float().log_softmax(-1)
        return F.kl_div(student, teacher, reduction="batchmean", log_target=True)

    truth = gradients(
        lambda a, b: linear_kd_loss(a, b, *(x.double() for x in theirs)),
        hidden.double(),
        head.double(),
    )
    ours = gradients(lambda a, b: linear_kd_loss(a, b, *theirs, chunk_size=16), hidden, head)
    plains = gradients(plain, hidden, head)
    for expected, a, b in zip(truth, ours, plains, strict=True):
        error, plain_error = ((x - expected).norm() / expected.norm() for x in (a, b))
        assert error <= plain_error
        assert error < 2.3e-3  # rounding the result to bfloat16 alone is 1.7e-3
    value = linear_kd_loss(hidden, head, *theirs)
    assert value.dtype == torch.float32


def test_autocast_and_mixed_precision():
    (hidden, head, _), teacher = leaves(torch.float32), [x.float() for x in TEACHER.values()][:2]
    expected = linear_kd_loss(hidden, head, *teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = linear_kd_loss(hidden, head, *teacher)
        mixed = linear_kd_loss(hidden.bfloat16(), head, *teacher)
    assert value.dtype == mixed.dtype == torch.float32
    torch.testing.assert_close(value, expected, rtol=0.02, atol=0.0)
    torch.testing.assert_close(mixed, expected, rtol=0.02, atol=0.0)
    mixed.backward()
    assert hidden.grad.dtype == head.grad.dtype == torch.float32
    half = linear_kd_loss(hidden, head, *(x.bfloat16() for x in teacher))
    torch.testing.assert_close(half, expected, rtol=0.05, atol=0.0)


# Dynamo looks at `.grad` of what it hands over where a graph breaks.
@pytest.mark.filterwarnings("ignore:The .grad attribute")
@pytest.mark.parametrize("path", [PATHS[0][0], PATHS[4][0]], ids=name)
def test_inside_torch_compile(path):
    torch.compiler.reset()

    def loss(hidden, head):
        return 2 * linear_kd_loss(3 * hidden, head, mask=MASK, chunk_size=2, **path)

    eager, graph = leaves()[:2], leaves()[:2]
    expected, value = loss(*eager), torch.compile(loss, backend="aot_eager")(*graph)
    torch.testing.assert_close(value, expected)
    expected.backward()
    value.backward()
    close([x.grad for x in graph], [x.grad for x in eager])


# What torch 2.13 imports for its C++ backend warns about torch itself.
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
@pytest.mark.slow
@path
def test_compiled_option(path):
    """The fused passes give what the eager ones give; needs a C++ compiler, and half a minute."""
    torch.compiler.reset()
    eager, fused = leaves(), leaves()
    options = {"mask": MASK, "sample_weight": WEIGHT, "chunk_size": 2, **path}
    expected = linear_kd_loss(*eager[:2], **options)
    value = linear_kd_loss(*fused[:2], compiled=True, **options)
    torch.testing.assert_close(value, expected)
    expected.backward()
    value.backward()
    close([x.grad for x in fused[:2]], [x.grad for x in eager[:2]])


@path
def test_module_equals_function(path):
    tensors = {k: v for k, v in path.items() if isinstance(v, torch.Tensor)}
    options = {k: v for k, v in path.items() if k not in tensors}
    module = LinearKDLoss(**options, reduction="sum", chunk_size=3)
    given = {"student_bias": BIAS, "mask": MASK, "sample_weight": WEIGHT}
    value = module(HIDDEN, HEAD, **tensors, **given)
    expected = linear_kd_loss(HIDDEN, HEAD, **path, **given, reduction="sum", chunk_size=3)
    assert torch.equal(value, expected)


THEIRS = {k: v for k, v in TEACHER.items() if k != "teacher_bias"}


@pytest.mark.parametrize(
    ("hidden", "head", "options", "message"),
    [
        (HIDDEN, HEAD, {}, "neither teacher_hidden nor topk_indices"),
        (HIDDEN, HEAD, {**THEIRS, **TOP}, "both teacher_hidden and topk_indices"),
        (HIDDEN, HEAD, {"teacher_head": HEAD}, "both teacher_hidden and teacher_head; got only"),
        (HIDDEN, HEAD, TOP, "set topk to one of raw"),
        (HIDDEN, HEAD, {**TOP, "topk": "raw", "temperature": 2.0}, "'raw' needs temperature 1"),
        (HIDDEN, HEAD, {**THEIRS, "reduction": "none"}, "'none' is not offered"),
        (HIDDEN, HEAD, {**THEIRS, "chunk_size": 0}, "chunk_size must be .* from 1, got 0"),
        (HIDDEN, HEAD, {**THEIRS, "temperature": 0.0}, "temperature .* above 0"),
        (HIDDEN[0], HEAD, THEIRS, r"student_hidden has shape \(5,\).*\(N, H\) or \(B, T, H\)"),
        (HIDDEN.long(), HEAD, THEIRS, "student_hidden has .* dtype torch.int64"),
        (HIDDEN[1:], HEAD, THEIRS, r"teacher_hidden has shape \(7, 3\)"),
        (HIDDEN, HEAD.t(), THEIRS, r"student_head has shape \(5, 11\).*asks for \(V, 5\)"),
        (
            HIDDEN,
            HEAD[1:],
            THEIRS,
            "student_head has a vocabulary of 10 .* teacher_head of 11; pad",
        ),
        (HIDDEN.float(), HEAD, THEIRS, "torch.float32 and student_head torch.float64; convert"),
        (HIDDEN, HEAD, {**THEIRS, "student_bias": BIAS[1:]}, r"student_bias has shape \(10,\)"),
        (HIDDEN, HEAD, {**THEIRS, "mask": MASK[1:]}, r"mask has shape \(6,\)"),
        (HIDDEN, HEAD, {**THEIRS, "sample_weight": -WEIGHT}, "not negative"),
        (HIDDEN, HEAD, {**THEIRS, "num_valid_tokens": -1}, "num_valid_tokens must be above 0"),
    ],
)
def test_errors(hidden, head, options, message):
    with pytest.raises(ValueError, match=message):
        linear_kd_loss(hidden, head, **options)


@pytest.mark.parametrize("options", [{"reduction": "none"}, {"chunk_size": -1}, {"beta": 0.1}])
def test_module_errors_come_at_construction(options):
    with pytest.raises(ValueError, match=r"reduction|chunk_size|beta"):
        LinearKDLoss(**options)
