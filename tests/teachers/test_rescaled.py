import dataclasses

import numpy as np
import pytest
import torch
from small_models import random_batch
from torch import nn

from coefvq.data.privileged import PrivilegedNormalizer
from coefvq.teachers.rescaled import RescaledTeacher
from coefvq.types import TeacherOutput

NAMES = ("a", "b", "c")


class Echo(nn.Module):
    """Answers with what it was given."""

    def forward(self, batch):
        return TeacherOutput(batch.privileged, batch.privileged)


def rows(seed, scale):
    rng = np.random.default_rng(seed)
    values = rng.lognormal(size=(20, 3)) * scale
    values[3, 1] = np.nan
    return [dict(zip(NAMES, row, strict=True)) for row in values]


def test_the_teacher_sees_what_its_own_statistics_would_have_given():
    here, there = rows(0, 1.0), rows(1, 7.0)
    ours, own = (PrivilegedNormalizer.fit(r, NAMES, log1p=("a",)) for r in (here, there))
    values, mask = ours.transform(here)
    expected, _ = own.transform(here)
    assert not torch.allclose(values, expected, atol=0.1)
    teacher = RescaledTeacher(
        Echo(), mean=ours.mean, std=ours.std, own_mean=own.mean, own_std=own.std
    )
    batch = dataclasses.replace(random_batch(3), privileged=values, privileged_mask=mask)
    torch.testing.assert_close(teacher(batch).logits, expected, atol=1e-5, rtol=1e-5)
    assert teacher(batch).logits[3, 1] == 0


def test_a_batch_without_privileged_features_is_refused():
    teacher = RescaledTeacher(Echo(), mean=[0.0], std=[1.0], own_mean=[0.0], own_std=[1.0])
    with pytest.raises(ValueError, match="has none"):
        teacher(random_batch(2).public())
