"""Distillation losses: pure functions of tensors, each with a thin module over it.

Loads torch and the standard library only, so that a loss can be used in anyone's loop:

    from coefvq.losses import cpfd_loss
    loss = cpfd_loss(student_logits, teacher_logits, labels, task="binary", temperature=2.0)
"""

from coefvq.losses import confidence, regression_confidence
from coefvq.losses.attention_transfer import AttentionTransferLoss, attention_transfer_loss
from coefvq.losses.cka import CKALoss, cka_loss
from coefvq.losses.confidence import Confidence
from coefvq.losses.contrastive_kd import ContrastiveKDLoss, contrastive_kd_loss
from coefvq.losses.cpfd import CPFDLoss, cpfd_loss
from coefvq.losses.dist import DISTLoss, dist_loss
from coefvq.losses.dkd import DKDLoss, dkd_loss
from coefvq.losses.feature_kd import FeatureKDLoss, feature_kd_loss
from coefvq.losses.fidelity_rank import FidelityRankLoss, fidelity_rank_loss
from coefvq.losses.gatekeeper import GatekeeperLoss, gatekeeper_loss
from coefvq.losses.ha_pfd import HAPFDLoss, ha_pfd_loss
from coefvq.losses.in_points import InPoints
from coefvq.losses.level_kd import LevelKDLoss, level_kd_loss
from coefvq.losses.linear_kd import LinearKDLoss, linear_kd_loss
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
from coefvq.losses.quality_answers import LevelAnswerLoss, NumberAnswerLoss, answer_loss
from coefvq.losses.rkd import RKDLoss, rkd_loss
from coefvq.losses.score_cpfd import ScoreCPFDLoss, score_cpfd_loss
from coefvq.losses.score_kd import ScoreKDLoss, score_kd_loss
from coefvq.losses.similarity_kd import SimilarityKDLoss, similarity_kd_loss
from coefvq.losses.similarity_preserving import SimilarityPreservingLoss, similarity_preserving_loss
from coefvq.losses.standardized_kd import StandardizedKDLoss, standardized_kd_loss
from coefvq.losses.sub_labels import SubLabelLoss, sub_label_loss
from coefvq.losses.supervised import SupervisedLoss, supervised_loss
from coefvq.losses.token_kd import TokenKDLoss, token_kd_loss
from coefvq.losses.wsld import WSLDLoss, wsld_loss
from coefvq.losses.wttm import WTTMLoss, wttm_loss

__all__ = [
    "AttentionTransferLoss",
    "CKALoss",
    "CPFDLoss",
    "Confidence",
    "ContrastiveKDLoss",
    "DISTLoss",
    "DKDLoss",
    "FeatureKDLoss",
    "FidelityRankLoss",
    "GatekeeperLoss",
    "HAPFDLoss",
    "InPoints",
    "LevelAnswerLoss",
    "LevelKDLoss",
    "LinearKDLoss",
    "LogitKDLoss",
    "MarginKDLoss",
    "MultiTeacherKDLoss",
    "NKDLoss",
    "NumberAnswerLoss",
    "PFDLoss",
    "PLCCLoss",
    "RKDLoss",
    "ScoreCPFDLoss",
    "ScoreKDLoss",
    "SimilarityKDLoss",
    "SimilarityPreservingLoss",
    "StandardizedKDLoss",
    "SubLabelLoss",
    "SupervisedLoss",
    "TokenKDLoss",
    "WSLDLoss",
    "WTTMLoss",
    "answer_loss",
    "attention_transfer_loss",
    "cka_loss",
    "confidence",
    "contrastive_kd_loss",
    "cpfd_loss",
    "dist_loss",
    "dkd_loss",
    "feature_kd_loss",
    "fidelity_rank_loss",
    "gatekeeper_loss",
    "ha_pfd_loss",
    "level_kd_loss",
    "linear_kd_loss",
    "logit_kd_loss",
    "margin_kd_loss",
    "multi_teacher_kd_loss",
    "multi_teacher_weights",
    "nkd_loss",
    "pfd_loss",
    "plcc_loss",
    "regression_confidence",
    "rkd_loss",
    "score_cpfd_loss",
    "score_kd_loss",
    "similarity_kd_loss",
    "similarity_preserving_loss",
    "standardized_kd_loss",
    "sub_label_loss",
    "supervised_loss",
    "token_kd_loss",
    "wsld_loss",
    "wttm_loss",
]
