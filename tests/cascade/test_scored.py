import numpy as np
import pytest

from coefvq.cascade.scored import scored_clips


def test_weights_bring_the_prevalence(rare):
    c = rare(5000, prevalence=0.3)
    clips = scored_clips(c.light, c.heavy, c.labels, task="binary", serving_prevalence=0.02)
    share = (clips.weight * c.labels).sum() / clips.weight.sum()
    assert share == pytest.approx(0.02) and clips.weight.mean() == pytest.approx(1)


def test_classes_too(shaped):
    z, y = shaped("multiclass")
    wanted = [0.1, 0.2, 0.3, 0.4]
    clips = scored_clips(z, z, y, task="multiclass", serving_prevalence=wanted)
    shares = np.bincount(y, weights=clips.weight) / clips.weight.sum()
    np.testing.assert_allclose(shares, wanted)


def test_halves_share_nothing_and_hold_half_of_each_kind(rare):
    c = rare(5000)
    mask = np.arange(5000) % 5 != 0
    clips = scored_clips(c.light, c.heavy, c.labels, task="binary", label_mask=mask)
    first, second = clips.halves(3)
    np.testing.assert_array_equal(first ^ second, mask)
    positives = [c.labels[rows].sum() for rows in (first, second)]
    assert abs(positives[0] - positives[1]) <= 1
    assert (clips.halves(4)[0] != first).any()
    np.testing.assert_array_equal(clips.halves(3)[0], first)


def test_an_unlabelled_row_is_never_read():
    clips = scored_clips([0.0, 1.0], [0.0, 1.0], [np.nan, 1], task="binary", label_mask=[0, 1])
    assert clips.labelled.tolist() == [False, True] and clips.labels.tolist() == [0, 1]


def test_several_models_are_answered_by_their_mean():
    clips = scored_clips([[0.0, 1.0], [2.0, 3.0]], [0.0, 1.0], None, task="binary",
                         several_models=True)  # fmt: skip
    assert clips.mean.tolist() == [1.0, 2.0] and len(clips.light) == 2


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        (([0.0], [0.0, 1.0], None), {}, "must be of the same clips"),
        (([[0.0]], [0.0], None), {}, "must be of the same clips"),
        (([0.0], [0.0], None), {"several_models": True}, "M light models first"),
        (([], [], None), {}, "no clip to fit a policy on"),
        (([np.nan], [0.0], None), {}, "light_logits of 1 of 1 clips are NaN"),
        (([0.0], [np.nan], None), {}, "heavy_logits of 1 of 1 clips are NaN"),
        (([0.0], [0.0], None), {"serving_prevalence": 0.1}, "labels are missing"),
        (([0.0], [0.0], [1]), {"serving_prevalence": 0.1}, "no labelled clip of class 0"),
        (([0.0], [0.0], [1]), {"serving_prevalence": 2}, "must be one share between"),
        (([0.0], [0.0], [1]), {"label_mask": [1, 0]}, "label_mask must have shape"),
    ],
)
def test_errors(args, options, message):
    with pytest.raises(ValueError, match=message):
        scored_clips(*args, task="binary", **options)
