"""Distil a language model from its hidden states, without ever holding its logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from coefvq.losses._arguments import check_tensor, settled
from coefvq.losses._contract import Reduction
from coefvq.losses._linear_kd import Linear, Options, evaluate, sum_dtype
from coefvq.losses._tokens import (
    check_one_teacher,
    check_stored,
    check_token_options,
    token_shares,
)
from coefvq.losses._topk import TopK
from coefvq.losses.logit_kd import Direction


def linear_kd_loss(
    student_hidden: Tensor,
    student_head: Tensor,
    teacher_hidden: Tensor | None = None,
    teacher_head: Tensor | None = None,
    *,
    student_bias: Tensor | None = None,
    teacher_bias: Tensor | None = None,
    topk: TopK | None = None,
    topk_indices: Tensor | None = None,
    topk_logprobs: Tensor | None = None,
    mask: Tensor | None = None,
    num_valid_tokens: float | Tensor | None = None,
    temperature: float = 1.0,
    direction: Direction = "forward",
    beta: float = 0.5,
    sample_weight: Tensor | None = None,
    reduction: Reduction = "mean",
    chunk_size: int | None = None,
    compiled: bool = False,
) -> Tensor:
    r"""Be `token_kd_loss` of logits hidden · headᵀ + bias that are never held for all tokens.

    Tokens outside the mask are dropped, the others are taken a chunk at a time: logits of both
    sides, divergence, its gradient, and from that at once the gradients for the student's hidden
    states and head, which backward only has to scale. So nothing is computed twice:
    6 · N · V · H_student + 2 · N · V · H_teacher operations, and memory for two chunks of logits
    and one gradient of the head in float32.

    Source, options and the four meanings of a stored teacher: `token_kd_loss`. What differs: no
    reduction "none" (a token's own weight must be known before backward: give `sample_weight`),
    and the value is computed with gradients whether or not backward follows, unless under
    `torch.no_grad`.

    Gradients flow to `student_hidden`, `student_head` and `student_bias`, whichever require one,
    and are differentiable once. Softmaxes, sums and the head's gradient are float32 (float64 for
    float64) also for float16 and bfloat16: on CUDA these are multiplied as they are with products
    kept in float32 (torch 2.8 or later), elsewhere they are converted first. Inside
    `torch.compile` this part stays eager.

    Args:
        student_hidden: (N, H) or (B, T, H), after the final norm.
        student_head: (V, H), the weight of the output layer, of the same dtype outside autocast.
        teacher_hidden: (N, H') or (B, T, H'), any H'; None with a stored teacher.
        teacher_head: (V, H').
        student_bias: (V,) added to the student's logits; −inf masks a token of the vocabulary.
        teacher_bias: (V,) added to the teacher's.
        topk: meaning of a stored teacher.
        topk_indices: (N, k) or (B, T, k).
        topk_logprobs: the same shape.
        mask: (N,) or (B, T) bool, True where a token counts; None: all.
        num_valid_tokens: what the mean divides by instead of the tokens in this mask.
        temperature: T > 0.
        direction: "forward", "reverse" or "jsd".
        beta: β inside (0, 1), for "jsd" only.
        sample_weight: (N,) or (B,) finite and not negative.
        reduction: `"mean"` or `"sum"` over tokens.
        chunk_size: tokens per chunk; None: as many as make 2²⁴ logits (2²⁷ on CUDA).
        compiled: fuse the passes over a chunk with `torch.compile`, for CUDA, where eager passes
            cost as much as the products; needs a compiler.

    Returns:
        A scalar, nats times T²; ranges as for `token_kd_loss`.

    Raises:
        ValueError: as `token_kd_loss`; also reduction "none", a hidden state or head without its
            partner or of another width or dtype, a chunk size below 1.

    >>> import torch  # both heads are the identity, so hidden states are logits
    >>> teacher = torch.tensor([[0.5, 0.25, 0.25]]).log()
    >>> round(linear_kd_loss(torch.zeros(1, 3), torch.eye(3), teacher, torch.eye(3)).item(), 4)
    0.0589
    """
    _check_options(temperature, direction, beta, reduction, topk, chunk_size)
    dense = teacher_hidden is not None or teacher_head is not None
    check_one_teacher(dense, "teacher_hidden", topk, topk_indices, topk_logprobs)
    for name, given in (("student_hidden", student_hidden), ("student_head", student_head)):
        check_tensor(name, given)
    tokens, vocabulary = tuple(student_hidden.shape[:-1]), len(student_head)
    student = Linear(student_hidden, student_head, student_bias)
    _check_side("student", student, tokens, vocabulary)
    like = student_hidden.new_empty(tokens, dtype=sum_dtype(student_hidden.dtype))
    shares = token_shares(like, mask, sample_weight, reduction, num_valid_tokens)
    teacher: Linear | tuple[Tensor, Tensor]
    if dense:
        if teacher_hidden is None or teacher_head is None:
            raise ValueError("the teacher needs both teacher_hidden and teacher_head; got only one")
        for name, given in (("teacher_hidden", teacher_hidden), ("teacher_head", teacher_head)):
            check_tensor(name, given)
        teacher = Linear(settled(teacher_hidden), settled(teacher_head), settled(teacher_bias))
        _check_side("teacher", teacher, tokens, vocabulary)
    else:
        assert topk_indices is not None and topk_logprobs is not None
        teacher = check_stored(topk_indices, topk_logprobs, mask, tokens, vocabulary)
    mask = settled(mask)
    options = Options(topk, temperature, direction, beta, compiled, chunk_size)
    if torch.compiler.is_compiling():
        uncompiled = torch.compiler.disable(evaluate)  # type: ignore[no-untyped-call]
        return uncompiled(  # type: ignore[no-any-return]
            student, teacher, mask, shares, sample_weight is not None, options
        )
    return evaluate(student, teacher, mask, shares, sample_weight is not None, options)


class LinearKDLoss(nn.Module):
    """Module over `linear_kd_loss`, which documents the options.

    `temperature` and `beta` may be reassigned during training. It has no `select`: the outputs of
    students and teachers carry no hidden states of tokens and no heads, so it is for your own loop.
    """

    def __init__(
        self,
        *,
        topk: TopK | None = None,
        temperature: float = 1.0,
        direction: Direction = "forward",
        beta: float = 0.5,
        reduction: Reduction = "mean",
        chunk_size: int | None = None,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        _check_options(temperature, direction, beta, reduction, topk, chunk_size)
        self.topk: TopK | None = topk
        self.temperature = temperature
        self.direction: Direction = direction
        self.beta = beta
        self.reduction: Reduction = reduction
        self.chunk_size = chunk_size
        self.compiled = compiled

    def forward(
        self,
        student_hidden: Tensor,
        student_head: Tensor,
        teacher_hidden: Tensor | None = None,
        teacher_head: Tensor | None = None,
        *,
        student_bias: Tensor | None = None,
        teacher_bias: Tensor | None = None,
        topk_indices: Tensor | None = None,
        topk_logprobs: Tensor | None = None,
        mask: Tensor | None = None,
        num_valid_tokens: float | Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """Call `linear_kd_loss` with this module's options."""
        return linear_kd_loss(
            student_hidden,
            student_head,
            teacher_hidden,
            teacher_head,
            student_bias=student_bias,
            teacher_bias=teacher_bias,
            topk=self.topk,
            topk_indices=topk_indices,
            topk_logprobs=topk_logprobs,
            mask=mask,
            num_valid_tokens=num_valid_tokens,
            temperature=self.temperature,
            direction=self.direction,
            beta=self.beta,
            sample_weight=sample_weight,
            reduction=self.reduction,
            chunk_size=self.chunk_size,
            compiled=self.compiled,
        )


def _check_options(
    temperature: float,
    direction: str,
    beta: float,
    reduction: str,
    topk: str | None,
    chunk_size: int | None,
) -> None:
    check_token_options(temperature, direction, beta, reduction, topk)
    if reduction == "none":
        raise ValueError(
            "reduction 'none' is not offered: gradients are made before backward brings the weight "
            "of a token; give sample_weight with 'sum', or use token_kd_loss"
        )
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size must be None or a number of tokens from 1, got {chunk_size}")


def _check_side(name: str, side: Linear, tokens: tuple[int, ...], vocabulary: int) -> None:
    hidden, head, bias = side
    if bias is not None:
        check_tensor(f"{name}_bias", bias)
    shape = tuple(hidden.shape)
    if len(shape) not in (2, 3) or shape[:-1] != tokens or not hidden.is_floating_point():
        here = "(N, H) or (B, T, H)"
        if name == "teacher":
            here = f"({', '.join(map(str, tokens))}, H'), the same tokens as the student's"
        raise ValueError(
            f"{name}_hidden has shape {shape} and dtype {hidden.dtype}; expected a floating point "
            f"tensor of shape {here}"
        )
    if head.ndim != 2 or head.shape[1] != shape[-1]:
        raise ValueError(
            f"{name}_head has shape {tuple(head.shape)} but {name}_hidden asks for (V, "
            f"{shape[-1]}); pass the weight of the output layer as torch.nn.Linear keeps it"
        )
    if len(head) != vocabulary:
        raise ValueError(
            f"student_head has a vocabulary of {vocabulary} tokens and {name}_head of {len(head)}; "
            "pad the smaller head with rows of 0 and a bias of −inf and mask the same tokens in "
            "the larger, or their mass is charged; or cut the larger to the tokens both have"
        )
    if head.dtype != hidden.dtype and not torch.is_autocast_enabled(hidden.device.type):
        raise ValueError(
            f"{name}_hidden is {hidden.dtype} and {name}_head {head.dtype}; convert one of them, "
            "or call the loss under autocast"
        )
    if bias is not None and tuple(bias.shape) != (vocabulary,):
        raise ValueError(
            f"{name}_bias has shape {tuple(bias.shape)} but the head asks for ({vocabulary},)"
        )
