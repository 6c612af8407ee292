import math

import pytest
import torch

from coefvq.teacher_cache import CacheIdentity, TeacherCache
from coefvq.teacher_supply.calibration import (
    CALIBRATION,
    COLDEST,
    HOTTEST,
    fit_calibration,
    store_calibration,
    stored_calibration,
)
from coefvq.teachers.calibrated import Calibration
from coefvq.types import TaskSpec

BINARY = TaskSpec("degraded", "binary", ("clean", "degraded"))
MULTICLASS = TaskSpec("kind", "multiclass", ("a", "b", "c"))
MULTILABEL = TaskSpec("flaws", "multilabel", ("blur", "noise"))


def test_closed_form():
    # logit ±3 and right in 3 of 4: p must be 0.75, so 3 / T = ln 3.
    logits = torch.tensor([3.0, 3.0, 3.0, 3.0, -3.0, -3.0, -3.0, -3.0])
    labels = torch.tensor([1.0, 1, 1, 0, 0, 0, 0, 1])
    calibration = fit_calibration(logits, labels, BINARY)
    assert calibration.temperatures == (pytest.approx(3 / math.log(3)),)
    assert calibration.nll_after == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert calibration.ece_after < 1e-9 < calibration.ece_before
    assert calibration.clips == 8


@pytest.mark.parametrize("task", [BINARY, MULTICLASS, MULTILABEL])
@pytest.mark.parametrize("scale", [0.4, 3.0])
def test_labels_that_were_drawn_from_it_give_the_scale_back(task, scale):
    generator = torch.Generator().manual_seed(0)
    wide = () if task.kind == "binary" else (task.num_outputs,)
    true = 2 * torch.randn(4000, *wide, generator=generator)
    if task.kind == "multiclass":
        labels = torch.multinomial(true.softmax(-1), 1, generator=generator)[:, 0]
    else:
        labels = torch.bernoulli(true.sigmoid(), generator=generator)
    calibration = fit_calibration(scale * true, labels, task)
    assert len(calibration.temperatures) == (2 if task.kind == "multilabel" else 1)
    assert all(t == pytest.approx(scale, rel=0.1) for t in calibration.temperatures)
    assert calibration.nll_after < calibration.nll_before
    assert calibration.ece_after < calibration.ece_before


def test_it_is_the_smallest_of_a_grid():
    generator = torch.Generator().manual_seed(1)
    logits = 5 * torch.randn(60, 3, generator=generator)
    labels = torch.randint(3, (60,), generator=generator)
    labels[:40] = logits[:40].argmax(-1)
    best = fit_calibration(logits, labels, MULTICLASS).nll_after
    for t in torch.logspace(-1, 1, 50).tolist():
        loss = torch.nn.functional.cross_entropy(logits.double() / t, labels)
        assert best <= loss.item() + 1e-9


def test_perfect_separation_and_its_opposite_stay_in_range():
    labels = torch.tensor([0.0, 0, 1, 1])
    assert fit_calibration(labels * 2 - 1, labels, BINARY).temperatures == (COLDEST,)
    wrong = fit_calibration(1 - labels * 2, labels, BINARY)
    assert wrong.temperatures == (HOTTEST,)
    assert fit_calibration(torch.zeros(4), labels, BINARY).nll_after == pytest.approx(math.log(2))


def test_a_label_with_one_answer_is_left_alone():
    logits = torch.tensor([[3.0, 1.0], [-3.0, -2.0], [3.0, -2.0], [-3.0, 2.0]])
    labels = torch.tensor([[1.0, 0], [0, 0], [0, 0], [0, 0]])
    assert fit_calibration(logits, labels, MULTILABEL).temperatures[1] == 1.0
    assert fit_calibration(torch.ones(3), torch.ones(3), BINARY).temperatures == (1.0,)


def test_masked_clips_are_not_read():
    logits = torch.tensor([3.0, 3.0, -3.0, -3.0, 3.0, 9.0])
    labels = torch.tensor([1.0, 1, 0, 0, 0, math.nan])
    mask = torch.tensor([True] * 5 + [False])
    masked = fit_calibration(logits, labels, BINARY, label_mask=mask)
    assert masked == fit_calibration(logits[:5], labels[:5], BINARY) and masked.clips == 5


def test_what_cannot_be_fitted_is_said():
    with pytest.raises(ValueError, match=r"is a regression; set teacher\.calibration=null"):
        fit_calibration(torch.ones(3), torch.ones(3), TaskSpec("quality", "regression"))
    with pytest.raises(ValueError, match="labelled validation clips and there are none"):
        fit_calibration(torch.ones(3), torch.ones(3), BINARY, label_mask=torch.zeros(3).bool())


def test_it_is_stored_beside_the_rows_it_was_fitted_to(tmp_path):
    cache = TeacherCache(tmp_path, CacheIdentity({"dtype": "float32"}))
    assert stored_calibration(cache) is None
    fitted = Calibration((1.5, 0.7), 20, 0.6, 0.5, 0.2, 0.1)
    store_calibration(cache, fitted, "data")
    assert stored_calibration(cache) == fitted
    other = TeacherCache(tmp_path, CacheIdentity({"dtype": "float16"}))
    with pytest.raises(ValueError, match=r"was fitted for another teacher cache; remove this file"):
        stored_calibration(other)
    edited = (tmp_path / CALIBRATION).read_text().replace("1.5", "7.0")
    for damaged in ("{", "[]", '{"cache": "x"}', edited):
        (tmp_path / CALIBRATION).write_text(damaged)
        with pytest.raises(ValueError, match=r"cannot be read .* fit again with teacher\.calibr"):
            stored_calibration(cache)
