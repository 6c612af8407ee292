import dataclasses

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from coefvq.evaluation.operating_point import OperatingPoint, choose_operating_point


def drawn(n=4000, seed=0):
    """Logits that are 2·z + 1 where the truth follows z."""
    draw = torch.Generator().manual_seed(seed)
    z = torch.randn(n, generator=draw) * 2 - 1
    labels = (torch.rand(n, generator=draw) < z.sigmoid()).float()
    return 2 * z + 1, labels


def test_it_undoes_a_scale_and_a_bias():
    logits, labels = drawn()
    point = choose_operating_point(logits, labels, 0.8)
    # z = (logit − 1) / 2
    assert point.scale == pytest.approx(0.5, abs=0.05) and point.bias == pytest.approx(
        -0.5, abs=0.1
    )
    fitted = LogisticRegression(C=1e9).fit(logits[:, None].numpy(), labels.numpy())
    assert point.scale == pytest.approx(fitted.coef_.item(), abs=0.01)
    assert point.bias == pytest.approx(fitted.intercept_.item(), abs=0.01)


def test_the_threshold_has_the_precision_and_no_other_has_more_recall():
    logits, labels = drawn(500)
    point = choose_operating_point(logits, labels, 0.9)
    score = point.score(logits)
    taken = score >= point.threshold
    assert labels[taken].mean() >= 0.9
    assert labels[taken].mean().item() == pytest.approx(point.val_precision)
    assert (labels[taken].sum() / labels.sum()).item() == pytest.approx(point.val_recall)
    best = max(
        float(labels[score >= cut].sum() / labels.sum())
        for cut in score
        if labels[score >= cut].mean() >= 0.9
    )
    assert point.val_recall == pytest.approx(best)


def test_ties_are_taken_together():
    logits = torch.tensor([2.0, 2.0, 2.0, 2.0, 0.0])
    labels = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0])
    point = choose_operating_point(logits, labels, 0.9)
    assert point.threshold > 1 and point.val_recall == 0  # 3 of 4, or nothing
    assert choose_operating_point(logits, labels, 0.75).val_recall == 1


def test_perfect_separation_stays_finite():
    logits = torch.cat([torch.full((20,), 5.0), torch.full((20,), -5.0)])
    point = choose_operating_point(logits, (logits > 0).float(), 0.95)
    assert 0 < point.scale < 10 and abs(point.bias) < 1 and point.val_recall == 1
    # Platt's targets for 20 of each: 21/22 and 1/22.
    assert point.score(logits)[0].item() == pytest.approx(21 / 22, abs=1e-3)


def test_plain_values_are_the_way_back():
    logits, labels = drawn(200)
    point = choose_operating_point(logits, labels, 0.8)
    assert OperatingPoint.from_dict(point.to_dict()) == point


def test_unlabelled_examples_are_left_out():
    logits, labels = drawn(200)
    mask = torch.arange(200) < 150
    masked = torch.where(mask, labels, torch.nan)
    found = choose_operating_point(logits, masked, 0.8, label_mask=mask)
    assert found == choose_operating_point(logits[:150], labels[:150], 0.8)


@pytest.mark.parametrize(
    ("labels", "precision", "message"),
    [
        ([1.0, 1.0], 0.8, "2 of 2 labelled validation examples are positive"),
        ([0.0, 0.0], 0.8, "0 of 2"),
        ([0.0, 1.0], 1.0, "between 0 and 1, got 1"),
        ([0.0, 1.0], 80, "between 0 and 1, got 80"),
    ],
)
def test_errors(labels, precision, message):
    with pytest.raises(ValueError, match=message):
        choose_operating_point(torch.zeros(2), torch.tensor(labels), precision)


def one_of(n, positives):
    """A single positive stands above everything; below it nothing can be told apart."""
    logits = torch.cat([torch.tensor([9.0]), torch.zeros(n - 1)])
    return logits, torch.cat([torch.ones(positives), torch.zeros(n - positives)])


def test_a_precision_that_rests_on_one_example_is_doubted():
    point = choose_operating_point(*one_of(640, 160), 0.8)
    assert point.val_precision == 1 and point.taken == 1
    assert point.val_recall == pytest.approx(1 / 160)
    # Wilson for 1 of 1: 1 / (1 + z²) = 0.2065.
    assert point.interval == (pytest.approx(1 / (1 + 1.959964**2)), pytest.approx(1.0))
    assert "rests on the 1 validation example that it calls positive (precision 1.00, 95 % int" in (
        point.doubt
    )
    assert "(data.val) or a lower at_precision" in point.doubt


def test_many_examples_are_not_doubted_and_few_or_uneven_ones_are():
    base = OperatingPoint(1.0, 0.0, 0.5, 0.8, 0.8, 0.5, 200, 500)
    doubts = {n: dataclasses.replace(base, taken=n).doubt for n in (0, 10, 19, 30, 100, 200)}
    # Of 80 % right: the interval of 30 begins at 0.63, that of 100 at 0.71.
    assert [n for n, doubt in doubts.items() if doubt] == [10, 19, 30]
    assert dataclasses.replace(base, taken=19, val_precision=1.0).doubt
    assert not dataclasses.replace(base, taken=20, val_precision=1.0).doubt


def test_test_examples_that_speak_against_the_threshold_are_heard():
    point = OperatingPoint(1.0, 0.0, 0.5, 0.8, 0.8, 0.5, 200, 500, taken=200)
    logits = torch.tensor([2.0] * 300 + [-2.0] * 100)
    for right, doubted in ((211, True), (240, False)):
        labels = torch.tensor([1.0] * right + [0.0] * (400 - right))
        found = point.tested(logits, labels)
        assert (found.test_precision, found.test_taken) == (pytest.approx(right / 300), 300)
        assert OperatingPoint.from_dict(found.to_dict()) == found
        assert ((found.doubt or "").startswith("the threshold for a precision of 80%")) == doubted
    assert (
        "it had 0.70 (95 % interval 0.65 to 0.75)"
        in point.tested(logits, torch.tensor([1.0] * 211 + [0.0] * 189)).doubt
    )
    none = point.tested(logits - 9, labels)
    assert (none.test_precision, none.test_taken, none.doubt) == (None, 0, None)


def test_points_saved_before_this_was_counted_can_be_read():
    values = choose_operating_point(*drawn(200), 0.8).to_dict()
    del values["taken"]
    old = OperatingPoint.from_dict(values)
    assert old.taken is None and old.interval is None and old.doubt is None
