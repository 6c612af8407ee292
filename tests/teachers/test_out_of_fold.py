import dataclasses

import pytest
import torch
from small_models import random_batch

from coefvq.teachers.out_of_fold import OutOfFoldTeacher
from coefvq.types import TeacherOutput


class Member:
    """Says its number plus something that only this clip's own fields decide."""

    def __init__(self, number, shape=()):
        self.number, self.shape, self.asked = number, shape, []

    def __call__(self, batch):
        self.asked += batch.ids
        for field in dataclasses.fields(batch):
            value = getattr(batch, field.name)
            assert value is None or len(value) == len(batch.ids)
        own = torch.tensor([float(name.removeprefix("clip")) for name in batch.ids])
        own = own + batch.privileged[:, 0]
        return TeacherOutput((own + 100 * self.number).reshape(-1, *self.shape), own[:, None])


FOLDS = {"clip0": 1, "clip1": 0, "clip3": 1, "clip4": 2}


def test_each_clip_is_answered_by_who_has_not_seen_it():
    members = [Member(k) for k in range(3)]
    batch = dataclasses.replace(random_batch(6), views=tuple("abcdef"))
    output = OutOfFoldTeacher(members, FOLDS, "regression")(batch)
    own = torch.arange(6.0) + batch.privileged[:, 0]
    # clips 2 and 5 are outside all folds: (0 + 100 + 200) / 3 = 100
    expected = own + torch.tensor([100.0, 0.0, 100.0, 100.0, 200.0, 100.0])
    torch.testing.assert_close(output.logits, expected)
    assert output.features is None
    torch.testing.assert_close(output.score_std, torch.full((6,), (20000 / 3) ** 0.5))
    # All see the same batch, so that no clip's arithmetic depends on the fold of its neighbours.
    assert all(member.asked == list(batch.ids) for member in members)


def test_outside_the_folds_probabilities_are_averaged():
    class Sure:
        def __init__(self, p):
            self.p = p

        def __call__(self, batch):
            return TeacherOutput(torch.full((len(batch),), self.p).logit())

    output = OutOfFoldTeacher([Sure(0.9), Sure(0.5)], {"clip0": 0, "clip1": 1}, "binary")(
        random_batch(3)
    )
    assert torch.allclose(output.logits.sigmoid(), torch.tensor([0.9, 0.5, 0.7]))


def test_the_batch_does_not_matter():
    teacher = OutOfFoldTeacher([Member(k, (1,)) for k in range(3)], FOLDS, "multilabel")
    logits = teacher(random_batch(6)).logits
    assert logits.shape == (6, 1)
    assert torch.equal(teacher(random_batch(6)).logits, logits)


def test_every_fold_needs_a_member():
    with pytest.raises(ValueError, match=r"got 2 teachers for the folds \[0, 1, 2\]"):
        OutOfFoldTeacher([Member(0), Member(1)], FOLDS, "binary")
    with pytest.raises(ValueError, match="at least two"):
        OutOfFoldTeacher([Member(0)], {}, "binary")
