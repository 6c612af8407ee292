import dataclasses
import math

import pytest
import torch
from toys import toy_batches

from coefvq.teachers.table import EPSILON, TableTeacher
from coefvq.types import TaskSpec

BINARY = TaskSpec("degraded", "binary", ("clean", "degraded"))
MULTICLASS = TaskSpec("kind", "multiclass", ("a", "b", "c"))
MULTILABEL = TaskSpec("flaws", "multilabel", ("blur", "noise"))
REGRESSION = TaskSpec("quality", "regression")
CLIPS = ["clip0", "clip1", "clip2"]


def ask(teacher, *ids):
    batch = toy_batches(n=len(ids), batch_size=len(ids))[0]
    return teacher(dataclasses.replace(batch, ids=ids))


def make(task=BINARY, **columns):
    options = {k: columns.pop(k) for k in ("kind", "wanted", "id_column", "source") if k in columns}
    return TableTeacher.from_columns({"id": CLIPS, **columns}, task, **options)


def test_probabilities_become_logits_by_id_in_any_order():
    # logit(0.8) = ln 4, logit(0.5) = 0
    teacher = make(probability=[0.8, 0.5, 0.2])
    output = ask(teacher, "clip2", "clip0", "clip2")
    expected = torch.tensor([-math.log(4), math.log(4), -math.log(4)])
    assert torch.allclose(output.logits, expected)
    assert output.logits.dtype == torch.float32 and output.features is None
    assert len(teacher) == 3 and not isinstance(teacher, torch.nn.Module)


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        ({"score": [0.8, 0.5, 0.2]}, "probabilities"),
        ({"clean": [0.2, 0.5, 0.8], "degraded": [0.8, 0.5, 0.2]}, "probabilities"),
        ({"degraded": ["0.8", "0.5", "0.2"], "clean": ["0.2", "0.5", "0.8"]}, "probabilities"),
        ({"logit": [math.log(4), 0.0, -math.log(4)]}, "logits"),
        ({"clean": [1.0, 2.0, 3.0], "degraded": [1 + math.log(4), 2, 3 - math.log(4)]}, "logits"),
    ],
)
def test_all_forms_of_a_binary_table_say_the_same(columns, kind):
    logits = ask(make(kind=kind, **columns), *CLIPS).logits
    assert torch.allclose(logits, torch.tensor([math.log(4), 0.0, -math.log(4)]), atol=1e-6)


def test_classes_come_in_the_order_of_the_task():
    rows = {"c": [0.7, 0.1, 0.2], "a": [0.1, 0.2, 0.3], "b": [0.2, 0.7, 0.5], "title": ["x"] * 3}
    logits = ask(make(MULTICLASS, **rows), *CLIPS).logits
    expected = torch.tensor([[0.1, 0.2, 0.7], [0.2, 0.7, 0.1], [0.3, 0.5, 0.2]])
    assert torch.allclose(logits.softmax(-1), expected)
    raw = ask(make(MULTICLASS, kind="logits", **rows), *CLIPS).logits
    assert torch.allclose(raw, expected)


def test_labels_are_independent_and_scores_are_taken_as_they_are():
    logits = ask(make(MULTILABEL, noise=[0.9, 0.9, 0.9], blur=[0.8, 0.5, 0.2]), *CLIPS).logits
    assert logits.shape == (3, 2)
    assert torch.allclose(logits.sigmoid()[:, 0], torch.tensor([0.8, 0.5, 0.2]))
    for kind in ("probabilities", "logits"):
        scores = ask(make(REGRESSION, kind=kind, score=[71.5, -3.0, 0.0]), *CLIPS).logits
        assert scores.tolist() == [71.5, -3.0, 0.0]


def test_certainty_is_clipped_to_something_finite():
    logits = ask(make(probability=[0.0, 1.0, EPSILON / 10]), *CLIPS).logits
    assert torch.allclose(logits, torch.tensor([-13.8155, 13.8155, -13.8155]), atol=1e-3)
    certain = ask(make(MULTICLASS, a=[1, 0, 0], b=[0, 1, 0], c=[0, 0, 1]), *CLIPS).logits
    assert certain.isfinite().all() and torch.allclose(certain.softmax(-1), torch.eye(3), atol=1e-5)


def test_rounded_rows_are_normalised():
    rows = {"a": [0.33] * 3, "b": [0.33] * 3, "c": [0.33] * 3}
    assert torch.allclose(ask(make(MULTICLASS, **rows), "clip0").logits.exp(), torch.tensor(1 / 3))


@pytest.mark.parametrize(
    ("task", "columns", "message"),
    [
        (BINARY, {"probability": [0.1, math.nan, 0.2]}, r"row 2 \('clip1'\) has probability=nan"),
        (BINARY, {"probability": [0.1, None, 0.2]}, r"row 2 \('clip1'\) has nothing in column"),
        (BINARY, {"probability": ["0.1", "0.2", "no"]}, r"row 3 .* has probability='no'"),
        (BINARY, {"probability": [0.1, 1.5, 0]}, r"row 2 .* has probability=1.5, .*numbers=logits"),
        (BINARY, {"clean": [0.5, 0.5, 0.1], "degraded": [0.5] * 3}, r"row 3 .*sum to 0.6"),
        (MULTICLASS, {"a": [0.5] * 3, "b": [0.5] * 3}, r"lacks the columns \['c'\]"),
        (MULTICLASS, {"a": [0] * 3, "b": [0] * 3, "c": [0] * 3}, r"row 1 .*sum to 0, expected 1"),
        (MULTICLASS, {"A": [0.5] * 3}, r"one for each class: \['a', 'b', 'c'\]; found \['A'\]"),
        (BINARY, {"clean": [0.5] * 3}, r"lacks the columns \['degraded'\]"),
        (BINARY, {"p": [0.5] * 3}, r"expects 'probability' or 'score', or one for each"),
        (BINARY, {"score": [0.5] * 3, "probability": [0.5] * 3}, "keep one of them"),
        (REGRESSION, {"quality": [0.5] * 3}, r"expects 'score'; found \['quality'\]"),
        (REGRESSION, {"score": [0.5, math.inf, 1]}, r"row 2 .* has score=inf"),
        (BINARY, {"score": [0.5] * 3, "kind": "odds"}, "kind 'odds' is unknown"),
        (BINARY, {"score": [0.5] * 3, "id_column": "clip"}, r"no column 'clip'.*\['id', 'score'\]"),
    ],
)
def test_what_does_not_fit_is_named(task, columns, message):
    with pytest.raises(ValueError, match=message):
        make(task, **columns)


def test_ids_are_checked_as_a_whole():
    wanted = [f"clip{i}" for i in range(12)]
    with pytest.raises(ValueError, match=r"no row for 9 of 12 clips, the first: \['clip10'"):
        make(score=[0.5] * 3, wanted=wanted)
    make(score=[0.5] * 3, wanted=["clip1"])  # others may be there
    with pytest.raises(ValueError, match=r"'clip0' stands .* twice, in rows 1 and 4"):
        TableTeacher.from_columns({"id": [*CLIPS, "clip0"], "score": [0.5] * 4}, BINARY)
    with pytest.raises(ValueError, match="row 2 has no id"):
        TableTeacher.from_columns({"id": ["x", None], "score": [0.5] * 2}, BINARY)
    with pytest.raises(ValueError, match="no row for clip 'new'"):
        ask(make(score=[0.5] * 3), "clip0", "new")


def test_numbers_as_ids_are_text():
    teacher = TableTeacher.from_columns(
        {"id": [7, 8], "score": [0.5, 0.8]}, BINARY, wanted=["7", "8"]
    )
    assert ask(teacher, "8").logits.item() == pytest.approx(math.log(4))


def test_the_fingerprint_knows_content_not_order():
    first = make(score=[0.1, 0.2, 0.3])
    turned = TableTeacher.from_columns({"id": CLIPS[::-1], "score": [0.3, 0.2, 0.1]}, BINARY)
    assert first.fingerprint == turned.fingerprint
    assert first.fingerprint != make(score=[0.1, 0.2, 0.31]).fingerprint


def test_a_row_that_nobody_asks_about_cannot_stop_a_run():
    columns = {"id": ["a", "x", "b", "x"], "probability": [0.25, math.nan, 0.75, 7.0]}
    teacher = TableTeacher.from_columns(columns, BINARY, wanted=["a", "b"])
    assert len(teacher) == 2
    with pytest.raises(ValueError, match=r"row 4 \('x'\)|twice, in rows 2 and 4"):
        TableTeacher.from_columns(columns, BINARY)
    columns["probability"] = [0.25, 0.5, 7.0, 0.5]
    with pytest.raises(ValueError, match=r"row 3 \('b'\) has probability=7"):  # as the file counts
        TableTeacher.from_columns(columns, BINARY, wanted=["a", "b"])


def test_no_number_is_told_from_no_value():
    for value, said in [
        (None, "has nothing in column 'probability'"),
        ("NaN", "probability='NaN'"),
    ]:
        with pytest.raises(ValueError, match=said):
            TableTeacher.from_columns({"id": ["a"], "probability": [value]}, BINARY)
    with pytest.raises(ValueError, match="has no row; write one row per clip"):
        TableTeacher.from_columns({"id": [], "probability": []}, BINARY)
