"""Distillation losses: pure functions of tensors, each with a thin module over it.

Loads torch and the standard library only, so that a loss can be used in anyone's loop:

    from coefvq.losses import cpfd_loss
    loss = cpfd_loss(student_logits, teacher_logits, labels, task="binary", temperature=2.0)
"""

from coefvq.losses import confidence
from coefvq.losses.confidence import Confidence
from coefvq.losses.cpfd import CPFDLoss, cpfd_loss
from coefvq.losses.logit_kd import LogitKDLoss, logit_kd_loss
from coefvq.losses.pfd import PFDLoss, pfd_loss
from coefvq.losses.supervised import SupervisedLoss, supervised_loss

__all__ = [
    "CPFDLoss",
    "Confidence",
    "LogitKDLoss",
    "PFDLoss",
    "SupervisedLoss",
    "confidence",
    "cpfd_loss",
    "logit_kd_loss",
    "pfd_loss",
    "supervised_loss",
]
