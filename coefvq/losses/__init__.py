"""Distillation losses: pure functions of tensors, each with a thin module over it.

Loads torch and the standard library only, so that a loss can be used in anyone's loop:

    from coefvq.losses import cpfd_loss
    loss = cpfd_loss(student_logits, teacher_logits, labels, task="binary", temperature=2.0)
"""

from coefvq.losses import confidence
from coefvq.losses.confidence import Confidence
from coefvq.losses.cpfd import CPFDLoss, cpfd_loss
from coefvq.losses.dist import DISTLoss, dist_loss
from coefvq.losses.dkd import DKDLoss, dkd_loss
from coefvq.losses.fidelity_rank import FidelityRankLoss, fidelity_rank_loss
from coefvq.losses.gatekeeper import GatekeeperLoss, gatekeeper_loss
from coefvq.losses.ha_pfd import HAPFDLoss, ha_pfd_loss
from coefvq.losses.level_kd import LevelKDLoss, level_kd_loss
from coefvq.losses.logit_kd import LogitKDLoss, logit_kd_loss
from coefvq.losses.margin_kd import MarginKDLoss, margin_kd_loss
from coefvq.losses.multi_teacher import (
    MultiTeacherKDLoss,
    multi_teacher_kd_loss,
    multi_teacher_weights,
)
from coefvq.losses.nkd import NKDLoss, nkd_loss
from coefvq.losses.pfd import PFDLoss, pfd_loss
from coefvq.losses.plcc import PLCCLoss, plcc_loss
from coefvq.losses.score_kd import ScoreKDLoss, score_kd_loss
from coefvq.losses.similarity_kd import SimilarityKDLoss, similarity_kd_loss
from coefvq.losses.standardized_kd import StandardizedKDLoss, standardized_kd_loss
from coefvq.losses.supervised import SupervisedLoss, supervised_loss
from coefvq.losses.wsld import WSLDLoss, wsld_loss
from coefvq.losses.wttm import WTTMLoss, wttm_loss

__all__ = [
    "CPFDLoss",
    "Confidence",
    "DISTLoss",
    "DKDLoss",
    "FidelityRankLoss",
    "GatekeeperLoss",
    "HAPFDLoss",
    "LevelKDLoss",
    "LogitKDLoss",
    "MarginKDLoss",
    "MultiTeacherKDLoss",
    "NKDLoss",
    "PFDLoss",
    "PLCCLoss",
    "ScoreKDLoss",
    "SimilarityKDLoss",
    "StandardizedKDLoss",
    "SupervisedLoss",
    "WSLDLoss",
    "WTTMLoss",
    "confidence",
    "cpfd_loss",
    "dist_loss",
    "dkd_loss",
    "fidelity_rank_loss",
    "gatekeeper_loss",
    "ha_pfd_loss",
    "level_kd_loss",
    "logit_kd_loss",
    "margin_kd_loss",
    "multi_teacher_kd_loss",
    "multi_teacher_weights",
    "nkd_loss",
    "pfd_loss",
    "plcc_loss",
    "score_kd_loss",
    "similarity_kd_loss",
    "standardized_kd_loss",
    "supervised_loss",
    "wsld_loss",
    "wttm_loss",
]
