"""Scores in points: equal to the loss on brought-over scores, the same for every range."""

import pytest
import torch

from coefvq.losses import FidelityRankLoss, ScoreKDLoss, SupervisedLoss
from coefvq.losses._options import check_number, numbers_of, set_number
from coefvq.losses.in_points import InPoints
from coefvq.losses.quality_answers import LevelAnswerLoss
from coefvq.losses.regression_confidence import StdConfidence
from coefvq.losses.score_cpfd import ScoreCPFDLoss
from coefvq.types import Batch, StudentOutput, TeacherOutput

LOSSES = {
    "task": lambda: SupervisedLoss(task="regression"),
    "score": lambda: ScoreKDLoss(beta=10.0),
    "rank": lambda: FidelityRankLoss(student_std=10.0, teacher_std=10.0),
    "own rank": lambda: FidelityRankLoss(student_std=10.0, teacher_std=10.0, target="labels"),
    "cpfd": lambda: ScoreCPFDLoss(beta=10.0, confidence=StdConfidence(10.0)),
    "level": lambda: LevelAnswerLoss(0, 100),
}


def sides(low=0.0, high=100.0):
    """The same clips with scores on another range."""
    draw = torch.Generator().manual_seed(0)
    points = 100 * torch.rand(3, 6, generator=draw, dtype=torch.float64)
    spread = 20 * torch.rand(2, 6, generator=draw, dtype=torch.float64)
    levels = torch.randn(6, 5, generator=draw, dtype=torch.float64)
    unit = (high - low) / 100
    z, t, y = low + unit * points
    student = StudentOutput(z.requires_grad_(), level_logits=levels)
    teacher = TeacherOutput(t, score_std=unit * spread[0])
    batch = Batch(
        tuple("abcdef"), torch.zeros(6, 1), torch.ones(6, 1), labels=y,
        label_mask=torch.tensor([True, True, False, True, True, True]), label_std=unit * spread[1],
    )  # fmt: skip
    return student, teacher, batch


def value(loss, given):
    return loss(**loss.select(*given))


@pytest.mark.parametrize("name", LOSSES)
def test_every_range_gives_what_points_give(name):
    want = value(LOSSES[name](), sides())
    for ends in ((0.0, 100.0), (1.0, 5.0), (-1.0, 0.5)):
        found = value(InPoints(LOSSES[name](), ends), sides(*ends))
        torch.testing.assert_close(found, want)
        assert found > 0


def test_gradients_are_those_of_points_times_points_per_unit():
    one, other = sides(), sides(1.0, 5.0)
    value(LOSSES["score"](), one).backward()
    value(InPoints(LOSSES["score"](), (1, 5)), other).backward()
    torch.testing.assert_close(other[0].logits.grad, 25 * one[0].logits.grad)


def test_neither_teacher_nor_labels_are_needed_by_losses_that_read_none():
    student, teacher, batch = sides(1.0, 5.0)
    assert value(InPoints(LOSSES["task"](), (1, 5)), (student, None, batch)) > 0
    bare = Batch(batch.ids, batch.frames, batch.frame_mask)
    assert value(InPoints(LOSSES["score"](), (1, 5)), (student, teacher, bare)) > 0


def test_half_precision_is_widened_first():
    student, teacher, batch = sides(1.0, 5.0)
    half = StudentOutput(student.logits.detach().bfloat16())
    picked = InPoints(LOSSES["score"](), (1, 5)).select(half, teacher, batch)
    assert picked["student_scores"].dtype == torch.float32


def test_schedules_see_the_loss_inside():
    loss = InPoints(LOSSES["score"](), (1, 5))
    assert numbers_of(loss) == {"beta": 10.0}
    set_number(loss, "beta", 3.0)
    assert loss.loss.beta == 3.0
    with pytest.raises(ValueError, match="beta"):
        check_number(loss, "beta", -1.0)


@pytest.mark.parametrize("ends", [None, (5, 1), (1,), (0, float("inf"))])
def test_a_range_that_is_none_is_a_sentence(ends):
    with pytest.raises(ValueError, match=r"state the data's range.*data.label_range=\[0,100\]"):
        InPoints(LOSSES["task"](), ends)
