"""What a confidence function is, and what it may return."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from coefvq.losses._arguments import check_tensor, settled
from coefvq.losses._contract import readable


class ConfidenceFunction(Protocol):
    """What `cpfd_loss` takes as `confidence`."""

    def __call__(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor | None,
        /,
        *,
        task: str,
        label_mask: Tensor | None = None,
    ) -> Tensor:
        """Return the confidence of each sample (multilabel: or of each label)."""
        ...


def check_trust(trust: Tensor, student: Tensor, logits: Tensor, task: str) -> Tensor:
    """Check what a confidence function returned; return it detached.

    (B,), or (B, L) for multilabel; floating point, not negative, finite. The numbers are looked at
    on CPU tensors outside `torch.compile` only, and NaN is let through where the logits of
    either side are no distribution.
    """
    check_tensor("what the confidence function returns", trust)
    if not trust.is_floating_point():
        raise ValueError(
            f"the confidence must be floating point, got {trust.dtype}; return it with .float()"
        )
    shapes = [logits.shape[:1]] + [logits.shape] * (task == "multilabel")
    if trust.shape not in shapes:
        raise ValueError(
            f"the confidence has shape {tuple(trust.shape)} for logits of shape "
            f"{tuple(logits.shape)}; return one number per sample (multilabel: or per label)"
        )
    trust = settled(trust)
    if trust.numel() > 0 and readable(trust):
        low, high = trust.aminmax()  # NaN if there is one
        if not (bool(low >= 0) and bool(high < torch.inf)):
            _refuse(trust, student, logits)
    return trust


def _refuse(trust: Tensor, *logits: Tensor) -> None:
    bad = ~(trust >= 0) | trust.isinf()
    for z in logits:  # where they make no distribution, neither makes a confidence
        of_classes = z.ndim > trust.ndim
        unknown = z.log_softmax(-1).isnan().any(-1) if of_classes else z.isnan()
        bad &= ~unknown
    if bool(bad.any()):
        where = tuple(bad.nonzero()[0])
        raise ValueError(
            f"a confidence must be finite and not negative, got {trust[where].item()} in row "
            f"{int(where[0])}"
        )
