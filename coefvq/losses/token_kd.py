"""Distil a language model, token by token, from logits or from a stored top-k."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from coefvq.losses._arguments import check_tensor, settled
from coefvq.losses._contract import Reduction, need_teacher
from coefvq.losses._known_gradient import wants_gradient, with_gradient
from coefvq.losses._tokens import (
    check_one_teacher,
    check_stored,
    check_token_options,
    token_shares,
)
from coefvq.losses._topk import TopK, topk_divergence
from coefvq.losses.logit_kd import Direction, divergence, log_probabilities

if TYPE_CHECKING:
    from coefvq.types import Batch, StudentOutput, TeacherOutput


def token_kd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor | None = None,
    *,
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
) -> Tensor:
    r"""Pull the student's distribution over the vocabulary towards the teacher's, at each token.

    L = Σ_bt m_bt · T² · D_bt / Σ_bt m_bt, m the mask and D the divergence of `logit_kd_loss`
    between softmax(z_teacher / T) and softmax(z_student / T) over the vocabulary: "forward"
    KL(p ‖ q), "reverse" KL(q ‖ p) or "jsd" (Agarwal et al., "On-policy distillation of language
    models" (GKD), ICLR 2024, section 2).

    A teacher may come as its k likeliest tokens, with log p over the *whole* vocabulary at T = 1.
    What that means must be said (the names are ours; q is the student's softmax over V):

    - "raw": Σ_k p (log p − log q), the full sum without the other tokens. 0 for equal models but
      not least there: it is negative for q = p / Σ_k p. Forward and T = 1 only.
    - "tail": D between two distributions over k + 1 outcomes, the last "any other token", with
      1 − Σ_k p and 1 − Σ_k q. Never negative, never above the full D. T = 1 only.
    - "renormalized": D between p / Σ_k p and q / Σ_k q, softened by T. Says nothing about how
      much the student gives to other tokens.
    - "teacher_renormalized": Σ_k p' (log p' − log q), p' the softened teacher renormalised over
      the k. Pushes the other tokens to 0; equal models get −log Σ_k p, not 0. Forward only.

    Nothing is shifted inside: position t of both sides must predict the same token, and `mask`
    belongs to that position (with logits that predict the *next* token, its mask is
    `labels[:, 1:] != -100` for `logits[:, :-1]`). Positions that only one side has, such as image
    tokens, must be cut out of the logits first.

    Differs from the source: T² as in Hinton's loss, which the code of Transformer trainers leaves
    out, and a mean over valid tokens instead of sequences. Gradients flow to `student_logits` only
    and are differentiable once. Inside it is float32 (float64 for float64 logits). It holds
    several (B, T, V) tensors: `linear_kd_loss` holds none.

    Args:
        student_logits: (B, T, V), T tokens. −inf masks a token of the vocabulary.
        teacher_logits: (B, T, V), or None with a stored teacher. Vocabularies of different size
            are refused.
        topk: meaning of the stored teacher, as above.
        topk_indices: (B, T, k) int, different tokens of each position.
        topk_logprobs: (B, T, k) their log-probabilities.
        mask: (B, T) bool, True where a token counts; None: all. What the others hold is not read.
        num_valid_tokens: what the mean divides by instead of the tokens in this mask. Under
            gradient accumulation: their number in all micro-batches together; under DDP, which
            averages gradients: the number over all processes divided by the processes.
        temperature: T > 0.
        direction: which divergence.
        beta: β inside (0, 1), the teacher's share of the mixture; for "jsd" only.
        sample_weight: (B,) finite and not negative. The mean divides by the weights of its tokens.
        reduction: over tokens, never over the vocabulary.

    Returns:
        A scalar, or (B, T) for `"none"`, 0 outside the mask; nats times T². Except for "raw", at
        least 0. An empty mean is 0. What one side masks by −inf costs as in `logit_kd_loss`.

    Raises:
        ValueError: unknown option, T ≤ 0, options that a meaning excludes, no teacher or two,
            wrong shape or dtype, different vocabularies; on CPU tensors also a token outside the
            vocabulary or stored twice, log-probabilities that add up to more than 1, a bad weight.

    >>> import torch  # one token of three: the teacher says (1/2, 1/4, 1/4), the student 1/3 each
    >>> teacher = torch.tensor([[[0.5, 0.25, 0.25]]]).log()
    >>> round(token_kd_loss(torch.zeros(1, 1, 3), teacher).item(), 4)
    0.0589
    """
    check_token_options(temperature, direction, beta, reduction, topk)
    check_one_teacher(
        teacher_logits is not None, "teacher_logits", topk, topk_indices, topk_logprobs
    )
    _check_shapes(student_logits, teacher_logits)
    mask = settled(mask)
    student = student_logits
    if student.dtype in (torch.float16, torch.bfloat16):
        student = student.float()
    shares = token_shares(
        student.detach()[..., 0], mask, sample_weight, reduction, num_valid_tokens
    )
    wanted = wants_gradient(student)
    if teacher_logits is not None:
        teacher = settled(teacher_logits).to(student.dtype)
        log_q, log_p = (
            log_probabilities(z, "multiclass", temperature) for z in (student.detach(), teacher)
        )
        values, gradient = divergence(log_q, log_p, direction, beta, wanted)
    else:
        assert topk is not None and topk_indices is not None and topk_logprobs is not None
        tokens, vocabulary = tuple(student.shape[:-1]), student.shape[-1]
        indices, logprobs = check_stored(topk_indices, topk_logprobs, mask, tokens, vocabulary)
        values, gradient = topk_divergence(
            student.detach().clone(),
            indices,
            logprobs,
            topk=topk,
            temperature=temperature,
            direction=direction,
            beta=beta,
            wanted=wanted,
        )
    if mask is not None:  # NaN in a place that doesn't count must not reach the sum: 0 · NaN
        values = torch.where(mask, values, 0.0)
        gradient = gradient if gradient is None else gradient.masked_fill_(~mask[..., None], 0.0)
    values = temperature * values  # twice around: the gradient is with respect to z / T
    if gradient is not None:
        values = with_gradient(student, values, gradient)
    values = temperature * values * shares
    return values if reduction == "none" else values.sum()


class TokenKDLoss(nn.Module):
    """Module over `token_kd_loss`, which documents the options.

    `temperature` and `beta` may be reassigned during training.
    """

    def __init__(
        self,
        *,
        topk: TopK | None = None,
        temperature: float = 1.0,
        direction: Direction = "forward",
        beta: float = 0.5,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        check_token_options(temperature, direction, beta, reduction, topk)
        self.topk: TopK | None = topk
        self.temperature = temperature
        self.direction: Direction = direction
        self.beta = beta
        self.reduction: Reduction = reduction

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor | None = None,
        topk_indices: Tensor | None = None,
        topk_logprobs: Tensor | None = None,
        mask: Tensor | None = None,
        num_valid_tokens: float | Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """Call `token_kd_loss` with this module's options."""
        return token_kd_loss(
            student_logits,
            teacher_logits,
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
        )

    def select(
        self, student: StudentOutput, teacher: TeacherOutput | None, batch: Batch
    ) -> dict[str, Tensor | None]:
        """Pick what `forward` reads: logits (B, T, V) of both, or the stored top-k where `topk`."""
        teacher = need_teacher(teacher, "TokenKDLoss")
        stored = self.topk is not None
        return {
            "student_logits": student.logits,
            "teacher_logits": None if stored else teacher.logits,
            "topk_indices": teacher.topk_indices if stored else None,
            "topk_logprobs": teacher.topk_logprobs if stored else None,
            "mask": teacher.token_mask,
            "sample_weight": batch.sample_weight,
        }


def _check_shapes(student: Tensor, teacher: Tensor | None) -> None:
    check_tensor("student_logits", student)
    if teacher is not None:
        check_tensor("teacher_logits", teacher)
    if not student.is_floating_point() or student.ndim != 3:
        raise ValueError(
            f"student_logits have shape {tuple(student.shape)} and dtype {student.dtype}; "
            "token_kd_loss expects floating point (B, T, V)"
        )
    if teacher is None:
        return
    if teacher.ndim == 3 and teacher.shape[2] != student.shape[2]:
        raise ValueError(
            f"the student's vocabulary has {student.shape[2]} tokens and the teacher's "
            f"{teacher.shape[2]}; pad the smaller with logits of −inf and mask the same tokens in "
            "the larger, or their mass is charged; or cut the larger to the tokens both have"
        )
    if teacher.shape != student.shape or not teacher.is_floating_point():
        raise ValueError(
            f"teacher_logits have shape {tuple(teacher.shape)} and dtype {teacher.dtype} but the "
            f"student asks for floating point {tuple(student.shape)}"
        )
