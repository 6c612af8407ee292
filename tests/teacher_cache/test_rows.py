"""Between outputs and columns: what is kept, in which precision, and what is refused."""

import math

import numpy as np
import pytest
import torch

from coefvq.teacher_cache.rows import Rows, arrays_of, joined, output_of, stored_errors
from coefvq.types import TeacherOutput

WHOLE = torch.float32


def tokens(**columns):
    """A clip of two tokens."""
    return TeacherOutput(torch.zeros(1), token_mask=torch.ones(1, 2).bool(), **columns)


def close(ours, theirs):
    for name, value in vars(theirs).items():
        found = getattr(ours, name)
        assert (found is None) == (value is None), name
        if value is not None:
            torch.testing.assert_close(found, value, rtol=0, atol=0, msg=name)


def test_columns_of_some_rows_come_back_as_these_rows(outputs):
    output = outputs(6, ragged=True)
    order = [4, 1, 3]
    columns = arrays_of(output, order, WHOLE)
    assert set(columns) == {
        "logits", "features", "token_features", "topk_indices", "topk_logprobs", "topk_tail",
    }  # fmt: skip
    assert [len(row) for row in columns["token_features"]] == [1, 2, 4]
    found, mask = output_of(columns), output.token_mask[order]
    assert torch.equal(found.logits, output.logits[order])
    assert torch.equal(found.token_mask, mask)
    for name in ("token_features", "topk_indices", "topk_logprobs"):
        value = getattr(found, name)
        assert torch.equal(value[mask], getattr(output, name)[order][mask])
        assert (value[~mask] == 0).all()
    assert found.topk_indices.dtype == torch.int64 and columns["topk_indices"][0].dtype == np.int32


def test_rows_are_padded_to_the_longest_of_the_batch_and_no_further(outputs):
    columns = arrays_of(outputs(6, ragged=True), [0, 4, 5], WHOLE)  # of 1, 1 and 2 tokens
    assert output_of(columns).token_features.shape == (3, 2, 2)


def test_every_column_of_scores_comes_back():
    output = TeacherOutput(
        torch.tensor([40.0, 60.0]), level_logits=torch.randn(2, 5), score_std=torch.tensor([1.0, 2])
    )
    close(output_of(arrays_of(output, [0, 1], WHOLE)), output)
    assert output_of(arrays_of(output, [1], WHOLE)).score_std.tolist() == [2.0]


def test_without_a_mask_every_token_counts():
    output = TeacherOutput(torch.zeros(2), token_features=torch.randn(2, 3, 4))
    found = output_of(arrays_of(output, [1, 0], WHOLE))
    assert torch.equal(found.token_features, output.token_features[[1, 0]])
    assert found.token_mask.all() and found.token_mask.shape == (2, 3)


def test_the_tail_is_what_top_k_leaves_and_stays_float32():
    logprobs = torch.tensor([[[0.5, 0.25], [0.999999, 1e-7]]]).log()
    output = tokens(topk_indices=torch.tensor([[[3, 1], [0, 2]]]), topk_logprobs=logprobs)
    columns = arrays_of(output, [0], torch.float16)
    (tail,) = columns["topk_tail"]
    assert tail.dtype == np.float32 and columns["topk_logprobs"][0].dtype == np.float16
    assert tail.tolist() == [pytest.approx(0.25), pytest.approx(1e-6, rel=0.2)]
    rounded = torch.full((1, 2, 1), 0.004)  # up to a little more than all of it
    above = tokens(topk_indices=torch.zeros(1, 2, 1).long(), topk_logprobs=rounded)
    assert arrays_of(above, [0], WHOLE)["topk_tail"][0].tolist() == [0.0, 0.0]


def test_gradients_and_other_precisions_are_left_behind():
    output = TeacherOutput(torch.ones(2, 3, dtype=torch.bfloat16, requires_grad=True))
    assert arrays_of(output, [0], torch.float16)["logits"].dtype == np.float16
    assert output_of(arrays_of(output, [0], torch.float16)).logits.dtype == torch.float32


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        (TeacherOutput(torch.tensor([1e5])), r"logits hold 100000, which is too large for float16"),
        # What is masked by a large number of one's own is no −inf, and must not become one.
        (
            TeacherOutput(torch.tensor([-1e9])),
            r"logits hold -1e\+09, .* write the cache in float32 \(teacher.cache_dtype=float32\)",
        ),
        (TeacherOutput(torch.tensor([torch.nan])), "logits hold nan, and a number was expected"),
        (TeacherOutput(torch.tensor([torch.inf])), "logits hold inf, and a number was expected"),
        (TeacherOutput(torch.zeros(1), torch.tensor([[0, 1e5]])), "features hold 100000, which"),
        (TeacherOutput(torch.zeros(1), torch.tensor([[-torch.inf]])), "features hold -inf, and a"),
        (TeacherOutput(torch.zeros(1), score_std=torch.tensor([torch.nan])), "score_std hold nan"),
        (tokens(token_features=torch.tensor([[[1.0], [1e6]]])), r"token_features hold 1e\+06, whi"),
        (tokens(token_features=torch.tensor([[[torch.nan], [1.0]]])), "token_features hold nan"),
        (
            tokens(
                topk_indices=torch.zeros(1, 2, 1).long(),
                topk_logprobs=torch.full((1, 2, 1), torch.nan),
            ),
            "topk_logprobs hold nan",
        ),
    ],
)
def test_what_is_no_number_is_refused(output, sentence):
    with pytest.raises(ValueError, match=sentence):
        arrays_of(output, [0], torch.float16)


def test_rows_that_are_not_written_are_not_looked_at():
    output = TeacherOutput(torch.tensor([1.0, torch.nan]))
    assert arrays_of(output, [0], WHOLE)["logits"].tolist() == [1.0]


def test_minus_infinity_is_kept_where_it_has_a_meaning():
    logits = torch.tensor([[1.0, -torch.inf, 0.0]])
    output = TeacherOutput(logits, sub_logits=logits, level_logits=logits)
    for dtype in (torch.float16, WHOLE):
        close(output_of(arrays_of(output, [0], dtype)), output)


def test_errors_are_the_largest_of_each_column():
    output = TeacherOutput(torch.tensor([1.0, 1.0 + 2**-12]), torch.tensor([[2.0, 2.0 + 2**-13]]))
    # float16 keeps 11 bits: 1 + 2⁻¹² becomes 1, and 2 + 2⁻¹³ becomes 2.
    assert stored_errors(output, torch.float16) == {"logits": 2**-12, "features": 2**-13}
    assert stored_errors(output, WHOLE) == {"logits": 0.0, "features": 0.0}
    masked = TeacherOutput(torch.tensor([[1.0 + 2**-12, -torch.inf]]))
    assert stored_errors(masked, torch.float16) == {"logits": 2**-12}
    nothing = TeacherOutput(torch.tensor([[-torch.inf]]))
    assert stored_errors(nothing, torch.float16) == {"logits": 0.0}


def test_padding_has_no_error(outputs):
    output = outputs(10, ragged=True)
    output.token_features[~output.token_mask] = 1000.3  # off by 0.2, and nobody reads it
    errors = stored_errors(output, torch.float16)
    assert set(errors) == {"logits", "features", "token_features", "topk_logprobs"}
    assert all(0 < error < 0.01 for error in errors.values())


def part(ids, contents, first, error):
    """Rows with one plain and one ragged column."""
    arrays = {
        "logits": np.arange(first, first + len(ids), dtype=np.float32),
        "token_features": [np.full((1 + n, 2), first + n) for n in range(len(ids))],
    }
    return Rows(list(ids), ["v"] * len(ids), contents, arrays, {"logits": error})


def test_parts_are_joined_in_their_order():
    whole = joined([part("ab", ["A", "B"], 0, 0.1), part("c", ["C"], 7, 0.3)])
    assert (whole.ids, whole.views, whole.contents) == (["a", "b", "c"], ["v"] * 3, ["A", "B", "C"])
    assert whole.arrays["logits"].tolist() == [0.0, 1.0, 7.0]
    assert [row.shape for row in whole.arrays["token_features"]] == [(1, 2), (2, 2), (1, 2)]
    assert whole.arrays["token_features"][2].tolist() == [[7, 7]]
    assert whole.errors == {"logits": 0.3}


def test_contents_are_known_of_all_rows_or_of_none():
    assert joined([part("ab", ["A", "B"], 0, 0.0), part("c", None, 7, 0.0)]).contents is None


def test_logits_of_any_task_are_a_row_each():
    for shape in ((3,), (3, 4)):
        output = TeacherOutput(torch.arange(math.prod(shape)).float().view(shape))
        close(output_of(arrays_of(output, [0, 1, 2], WHOLE)), output)
