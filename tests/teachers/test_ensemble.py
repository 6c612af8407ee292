import dataclasses
import math

import pytest
import torch
from toys import toy_batches

from coefvq.losses.multi_teacher import multi_teacher_weights
from coefvq.teachers.ensemble import EnsembleTeacher, mix_logits
from coefvq.types import TeacherOutput

BATCH = toy_batches(n=4, batch_size=4)[0]


class Says:
    """Whatever it was told to."""

    def __init__(self, logits, features=None):
        self.output = TeacherOutput(torch.as_tensor(logits), features)

    def __call__(self, batch):
        return self.output


def logit(*p):
    return torch.tensor(p).logit()


def test_probabilities_are_averaged_not_logits():
    # (0.9 + 0.5) / 2 = 0.7, where the mean logit would give 0.75
    both = EnsembleTeacher([Says(logit(0.9, 0.2, 0.5, 0.5)), Says(logit(0.5, 0.2, 0.5, 0.1))],
                           "binary")  # fmt: skip
    assert torch.allclose(both(BATCH).logits.sigmoid(), torch.tensor([0.7, 0.2, 0.5, 0.3]))


def test_fixed_weights_are_shares():
    teacher = EnsembleTeacher(
        [Says(logit(0.9, 0.9, 0.9, 0.9)), Says(logit(0.1, 0.1, 0.1, 0.1))],
        "binary", weighting="fixed", weights=[3, 1],
    )  # fmt: skip
    assert torch.allclose(teacher(BATCH).logits.sigmoid(), torch.full((4,), 0.7))


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
@pytest.mark.parametrize("weighting", ["uniform", "entropy"])
def test_it_equals_a_plain_loop(task, weighting):
    torch.manual_seed(0)
    logits = torch.randn(3, 4, 5, dtype=torch.float64)
    members = [Says(z.float()) for z in logits]
    got = EnsembleTeacher(members, task, weighting=weighting)(BATCH).logits
    share = multi_teacher_weights(logits.float(), task=task, method=weighting)
    turn = (lambda z: z.softmax(-1)) if task == "multiclass" else torch.sigmoid
    mixed = sum(share[k][:, None] * turn(logits[k]) for k in range(3))
    expected = mixed.log() if task == "multiclass" else mixed.logit()
    assert torch.allclose(got.double(), expected, atol=1e-5)


def test_one_member_passes_to_the_bit():
    for weighting in ("uniform", "entropy"):
        alone = Says(torch.randn(4), features=torch.randn(4, 3))
        assert EnsembleTeacher([alone], "binary", weighting=weighting)(BATCH) is alone.output


def test_labels_weigh_only_where_they_may_be_read():
    good, bad = BATCH.labels * 4 - 2, 2 - BATCH.labels * 4
    members = [Says(good), Says(bad * 2)]  # the wrong one is surer

    def shares(batch, **options):
        mixed = EnsembleTeacher(members, "binary", weighting="cross_entropy", **options)(batch)
        return mixed.logits

    by_doubt = EnsembleTeacher(members, "binary", weighting="entropy")(BATCH).logits
    told = shares(BATCH, labels_of=set(BATCH.ids))
    assert ((told - by_doubt) * (BATCH.labels * 2 - 1) > 0.5).all()
    untold = shares(BATCH, labels_of=[])
    assert torch.equal(untold, by_doubt)
    some = shares(BATCH, labels_of=BATCH.ids[:2])
    assert torch.equal(some[:2], told[:2]) and torch.equal(some[2:], by_doubt[2:])
    masked = dataclasses.replace(BATCH, label_mask=torch.tensor([False, True, False, True]))
    some = shares(masked, labels_of=BATCH.ids)
    assert torch.equal(some[::2], by_doubt[::2]) and torch.equal(some[1::2], told[1::2])
    assert torch.equal(shares(BATCH.public(), labels_of=BATCH.ids), by_doubt)


def test_scores_are_averaged():
    teacher = EnsembleTeacher(
        [Says([1.0, 2.0, 3.0, 4.0]), Says([3.0, 2.0, 1.0, 0.0])], "regression"
    )
    assert teacher(BATCH).logits.tolist() == [2.0] * 4


@pytest.mark.parametrize("task", ["binary", "multilabel", "multiclass"])
def test_large_logits_stay_finite(task):
    wide = (2,) if task != "binary" else ()
    logits = torch.stack([torch.full((4, *wide), 1e4), torch.full((4, *wide), 1e4)])
    logits[..., 0] = -1e4
    mixed = mix_logits(logits, torch.full((2, 4), 0.5), task)
    assert mixed.isfinite().all()
    torch.testing.assert_close(mixed, logits[0].log_softmax(-1) if task == "multiclass"
                               else logits[0])  # fmt: skip


def test_a_masked_class_stays_masked_and_halves_are_widened():
    logits = torch.tensor([[[0.0, 1.0, -math.inf]], [[1.0, 0.0, -math.inf]]])
    mixed = mix_logits(logits, torch.full((2, 1), 0.5), "multiclass")
    assert mixed.exp().tolist() == [[pytest.approx(0.5), pytest.approx(0.5), 0.0]]
    assert mix_logits(logits.half(), torch.full((2, 1), 0.5), "multiclass").dtype == torch.float32


def test_a_teacher_without_weight_does_not_speak():
    logits = torch.stack([logit(0.9, 0.8), torch.tensor([1e4, -1e4])])
    mixed = mix_logits(logits, torch.tensor([[1.0, 1.0], [0.0, 0.0]]), "binary")
    assert torch.allclose(mixed, logits[0])


@pytest.mark.parametrize(
    ("members", "task", "options", "message"),
    [
        (0, "binary", {}, "at least one teacher"),
        (2, "binary", {"weighting": "median"}, "weighting 'median' is unknown"),
        (2, "regression", {"weighting": "entropy"}, "choose uniform or fixed"),
        (2, "binary", {"weighting": "cross_entropy"}, "needs labels_of"),
        (2, "binary", {"weighting": "fixed"}, "one number per teacher"),
        (2, "multilabel", {"weighting": "fixed", "weights": [1.0]}, "one number per teacher"),
        (2, "regression", {"weighting": "fixed", "weights": [0.0, 0.0]}, "at least one above 0"),
    ],
)
def test_wrong_options_are_refused_at_once(members, task, options, message):
    with pytest.raises(ValueError, match=message):
        EnsembleTeacher([Says(torch.zeros(4))] * members, task, **options)


def test_teachers_of_other_tasks_are_refused():
    teacher = EnsembleTeacher([Says(torch.zeros(4)), Says(torch.zeros(4, 3))], "binary")
    with pytest.raises(ValueError, match=r"shapes \[\(4,\), \(4, 3\)\].*same classes"):
        teacher(BATCH)


def test_scores_that_lie_apart_say_so():
    members = [Says([1.0, 2.0, 3.0, 4.0]), Says([3.0, 2.0, 3.0, 0.0])]
    output = EnsembleTeacher(members, "regression")(BATCH)
    assert output.score_std.tolist() == [1.0, 0.0, 0.0, 2.0]
    # A quarter of the weight at a distance of 4: sqrt(3/16) of it
    fixed = EnsembleTeacher(members, "regression", weighting="fixed", weights=[3, 1])(BATCH)
    assert fixed.score_std[3].item() == pytest.approx(3**0.5)
    assert EnsembleTeacher(members, "binary")(BATCH).score_std is None
