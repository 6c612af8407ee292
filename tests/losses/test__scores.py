import pytest
import torch

from coefvq.losses import _scores


def test_masked_scores_are_replaced_before_anything_reads_them():
    teacher = torch.tensor([1.0, torch.nan, 3.0], dtype=torch.bfloat16, requires_grad=True)
    mask = torch.tensor([True, False, True])
    student, safe = _scores.check_scores(torch.zeros(3, dtype=torch.bfloat16), teacher, mask)
    assert safe.tolist() == [1.0, 0.0, 3.0]
    assert student.dtype == safe.dtype == torch.float32
    assert not safe.requires_grad


def test_a_comparison_is_weighted_by_the_partner():
    # Sample 0 has the partners 1 (weight 1, value 2) and 2 (weight 3, value 6): (2 + 18) / 4.
    elements = torch.tensor([[9.0, 2.0, 6.0], [2.0, 9.0, 0.0], [6.0, 0.0, 9.0]])
    weight = torch.tensor([1.0, 1.0, 3.0])
    value = _scores.reduce_pairs(elements, "none", weight, None)
    # Samples 1 and 2: 2/4 and 6/2; the last one times its own weight.
    assert value.tolist() == [5.0, 0.5, 9.0]
    mean = _scores.reduce_pairs(elements, "mean", weight, None)
    torch.testing.assert_close(mean, torch.tensor(14.5 / 5))


def test_queries_are_numbered_in_the_order_of_their_ids():
    clips = type("Clips", (), {"ids": ("b", "a", "b")})
    pairs = type("Pairs", (), {"query": clips, "device": torch.device("cpu")})
    assert _scores.query_groups(pairs).tolist() == [0, 1, 0]
    assert _scores.query_groups(clips) is None


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_numbers_above_zero(value):
    with pytest.raises(ValueError, match="spread must be a finite number above 0"):
        _scores.check_above_zero("spread", value)
