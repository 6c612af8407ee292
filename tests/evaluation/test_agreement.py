import math

import pytest
import torch
from scipy import stats
from scipy.special import rel_entr

from coefvq.evaluation.agreement import compute_agreement
from coefvq.types import TaskSpec

BINARY = TaskSpec("degraded", "binary", ("clean", "degraded"))
KINDS = TaskSpec("type", "multiclass", ("none", "blur", "noise"))
FAULTS = TaskSpec("faults", "multilabel", ("blur", "noise", "freeze"))
QUALITY = TaskSpec("quality", "regression")


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(3)
    return lambda *shape: (
        torch.randn(*shape, generator=generator),
        2 * torch.randn(*shape, generator=generator),
    )


@pytest.mark.parametrize("task", [BINARY, KINDS, FAULTS], ids=lambda task: task.kind)
def test_a_copy_agrees_fully(task, pair):
    logits, _ = pair(20, 3) if task is not BINARY else pair(20)
    same = compute_agreement(logits, logits.clone(), task)
    assert same == pytest.approx({"equal_decisions": 1.0, "kl": 0.0, "score_correlation": 1.0})


def test_binary_against_scipy(pair):
    student, teacher = pair(50)
    ours = compute_agreement(student, teacher, BINARY)
    s, t = (torch.stack([-x, x]).double().mul(0.5).softmax(0).numpy() for x in (student, teacher))
    assert ours["kl"] == pytest.approx(rel_entr(t, s).sum(0).mean())
    assert ours["score_correlation"] == pytest.approx(stats.pearsonr(s[1], t[1]).statistic)
    assert ours["equal_decisions"] == pytest.approx(((s[1] >= 0.5) == (t[1] >= 0.5)).mean())


def test_multiclass_and_multilabel_kl_against_scipy(pair):
    student, teacher = pair(50, 3)
    s, t = (x.double().softmax(-1).numpy() for x in (student, teacher))
    ours = compute_agreement(student, teacher, KINDS)["kl"]
    assert ours == pytest.approx(rel_entr(t, s).sum(-1).mean())
    single = [compute_agreement(student[:, k], teacher[:, k], BINARY)["kl"] for k in range(3)]
    ours = compute_agreement(student, teacher, FAULTS)["kl"]
    assert ours == pytest.approx(sum(single) / 3)


def test_kl_runs_from_the_teacher():
    # A student that is sure, a teacher that is not: KL(teacher ‖ student) = ln ½ − ½ ln(p(1−p)).
    p = torch.tensor([0.99], dtype=torch.float64)
    ours = compute_agreement(p.logit(), torch.zeros(1), BINARY)["kl"]
    assert ours == pytest.approx(math.log(0.5) - 0.5 * math.log(0.99 * 0.01))


def test_each_model_decides_at_its_own_threshold():
    p = torch.tensor([0.3, 0.7], dtype=torch.float64).logit()
    q = torch.tensor([0.6, 0.9], dtype=torch.float64).logit()
    assert compute_agreement(p, q, BINARY)["equal_decisions"] == 0.5
    ours = compute_agreement(p, q, BINARY, student_threshold=0.5, teacher_threshold=0.8)
    assert ours["equal_decisions"] == 1.0


def test_huge_logits_stay_finite():
    ours = compute_agreement(torch.tensor([-1e4, 1e4]), torch.tensor([1e4, 1e4]), BINARY)
    assert ours["kl"] == pytest.approx(5e3)


def test_regression_has_a_correlation_only(pair):
    student, teacher = pair(30)
    ours = compute_agreement(student, teacher, QUALITY)
    assert ours == pytest.approx(
        {"score_correlation": stats.pearsonr(student.double(), teacher.double()).statistic}
    )


def test_what_is_undefined_is_nan():
    assert math.isnan(
        compute_agreement(torch.ones(3), torch.arange(3.0), BINARY)["score_correlation"]
    )
    assert all(
        math.isnan(v) for v in compute_agreement(torch.ones(0), torch.ones(0), BINARY).values()
    )


def test_different_clips_are_refused():
    with pytest.raises(ValueError, match=r"\(3,\) and teacher_logits of shape \(4,\)"):
        compute_agreement(torch.zeros(3), torch.zeros(4), BINARY)
    with pytest.raises(ValueError, match="teacher_logits of 1 of 2 clips are NaN"):
        compute_agreement(torch.zeros(2), torch.tensor([0.0, math.nan]), BINARY)
