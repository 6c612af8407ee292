from dataclasses import replace

import pytest
import reference
import torch
import torch.nn.functional as F

from coefvq.losses import SupervisedLoss, supervised_loss

TASKS = ["binary", "multiclass", "multilabel", "regression"]


def loss(case, **options):
    return supervised_loss(
        case.student,
        case.labels,
        task=case.task,
        label_mask=case.label_mask,
        sample_weight=case.sample_weight,
        **options,
    )


@pytest.fixture(params=TASKS)
def task(request):
    """Here regression too."""
    return request.param


def test_closed_form():
    # Logits log 3 and 0 make probabilities 3/4 and 1/4: the labels cost log(4/3) and log 4.
    logits = torch.tensor([[3.0, 1.0], [3.0, 1.0]]).log()
    labels = torch.tensor([0, 1])
    values = supervised_loss(logits, labels, task="multiclass", reduction="none")
    torch.testing.assert_close(values, torch.tensor([4 / 3, 4.0]).log())
    # Binary with logit log 3 is the same; multilabel averages both: (log(4/3) + log 4) / 2.
    z, y = torch.tensor([3.0, 3.0]).log(), torch.tensor([1.0, 0.0])
    torch.testing.assert_close(supervised_loss(z, y, task="binary", reduction="none"), values)
    torch.testing.assert_close(supervised_loss(z[None], y[None], task="multilabel"), values.mean())
    # Regression: (3 − 1)² = 4.
    three, one = torch.tensor([3.0]), torch.tensor([1.0])
    assert supervised_loss(three, one, task="regression").item() == 4.0
    # Of two samples with losses 4 and 9 and weights 3 and 1, the mean is (12 + 9) / 4.
    weight = torch.tensor([3.0, 1.0])
    z, y = torch.tensor([2.0, 3.0]), torch.zeros(2)
    assert supervised_loss(z, y, task="regression", sample_weight=weight).item() == 5.25


def test_equals_reference(case, reduction):
    student, _, labels = case.lists()
    expected = reference.supervised(
        student, labels, case.task, reduction=reduction, **case.options()
    )
    value = loss(case, reduction=reduction)
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("binary", {"label_smoothing": 0.2, "positive_weight": 3.0}),
        ("multilabel", {"label_smoothing": 0.2, "positive_weight": 3.0}),
        ("multiclass", {"label_smoothing": 0.2, "class_weights": [1.0, 2.0, 0.5, 3.0]}),
    ],
)
def test_options_equal_reference(full, reduction, options):
    student, _, labels = full.lists()
    value = loss(full, reduction=reduction, **options)
    options = {**options, "smoothing": options["label_smoothing"]}
    del options["label_smoothing"]
    expected = reference.supervised(
        student, labels, full.task, reduction=reduction, **options, **full.options()
    )
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))


def test_equals_torch(make_case):
    case = make_case("multiclass")
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64)
    torch.testing.assert_close(
        loss(case, class_weights=weights), F.cross_entropy(case.student, case.labels, weights)
    )
    torch.testing.assert_close(
        loss(case, label_smoothing=0.1),
        F.cross_entropy(case.student, case.labels, label_smoothing=0.1),
    )
    case = make_case("multilabel")
    positive = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    expected = F.binary_cross_entropy_with_logits(case.student, case.labels, pos_weight=positive)
    torch.testing.assert_close(loss(case, positive_weight=positive), expected)


def test_mask_selects_samples__mlkd(full):
    """MLKD averaged before it applied the mask: the mask only rescaled."""
    kept = replace(full.rows(full.label_mask), label_mask=None)
    torch.testing.assert_close(loss(full), loss(kept))


def test_limits(make_case):
    # A certain right answer costs nothing; a binary logit z is two classes with logits 0 and z.
    assert supervised_loss(torch.tensor([[50.0, -50.0]]), torch.tensor([0]), task="multiclass") == 0
    case = make_case("binary")
    two = torch.stack([torch.zeros_like(case.student), case.student], -1)
    torch.testing.assert_close(
        loss(case), supervised_loss(two, case.labels.long(), task="multiclass")
    )


@pytest.mark.parametrize("labels", ["none", "masked"])
def test_no_labelled_sample_gives_zero(make_case, task, labels):
    case = make_case(task, missing=True)
    nothing = torch.zeros(6, dtype=torch.bool)
    student = case.student.clone().requires_grad_()
    changes = {"labels": None} if labels == "none" else {"label_mask": nothing}
    if labels == "none":
        changes["label_mask"] = None
    value = loss(replace(case, student=student, **changes))
    value.backward()
    assert value.item() == 0
    assert (student.grad == 0).all()


def test_gradients(checks, full, reduction):
    checks.gradients(lambda c: loss(c, reduction=reduction), full)


def test_permutation(checks, full):
    checks.permutation(lambda c: loss(c, reduction="none"), full)


def test_micro_batches__axolotl_3271(checks, full):
    checks.micro_batches(lambda c: loss(c, reduction="sum"), full)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_softmax_invariances(checks, make_case, smoothing):
    case = make_case("multiclass", missing=True)
    checks.shift(lambda c: loss(c, label_smoothing=smoothing), case)
    checks.appended_classes(lambda c: loss(c, label_smoothing=smoothing), case)


@pytest.mark.parametrize("at", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_continuous_in_smoothing(checks, full, at):
    checks.continuous(lambda s: loss(full, label_smoothing=s), at)


def test_masked_classes_never_give_nan():
    # A label whose class is masked is impossible: 1e30, finite, without NaN in the gradient.
    logits = torch.tensor([[-torch.inf, 1.0, 2.0]], requires_grad=True)
    value = supervised_loss(logits, torch.tensor([0]), task="multiclass", label_smoothing=0.1)
    value.backward()
    assert 1e29 < value.item() < 1e31
    assert logits.grad.isfinite().all()
    masked = torch.tensor([[-torch.inf, 0.0]], requires_grad=True)
    value = supervised_loss(masked, torch.tensor([[0.0, 1.0]]), task="multilabel")
    value.backward()
    torch.testing.assert_close(value, torch.tensor(2.0).log() / 2)
    assert masked.grad.isfinite().all()


def test_extremes(checks, full):
    if full.task == "regression":  # 1e4² is finite, and a square has no logits to speak of
        full = replace(full, labels=torch.zeros(6))
    checks.extremes(lambda c: loss(c), full)


def test_half_precision(checks, full):
    checks.half_precision(lambda c: loss(c), full)


def test_compiled(checks, full):
    checks.compiled(lambda c: loss(c), full)


def test_module_equals_function(make_case):
    case = make_case("multiclass", missing=True, weighted=True)
    options = {"class_weights": [1.0, 2.0, 0.5, 3.0], "label_smoothing": 0.1, "reduction": "sum"}
    module = SupervisedLoss(task="multiclass", **options)
    value = module(case.student, case.labels, case.label_mask, case.sample_weight)
    assert torch.equal(value, loss(case, **options))
    assert module.state_dict() == {}
    assert module.to("meta").class_weights.is_meta


def test_select(make_case):
    case = make_case("binary", missing=True, weighted=True)
    module = SupervisedLoss(task="binary")
    student = type("Output", (), {"logits": case.student})
    assert torch.equal(module(**module.select(student, None, case)), loss(case))


ZEROS, INDEX = torch.zeros(3, 4), torch.zeros(3, dtype=torch.long)


@pytest.mark.parametrize(
    ("task", "logits", "labels", "options", "message"),
    [
        ("binry", ZEROS, INDEX, {}, "task 'binry' is unknown; choose one of binary, multiclass"),
        ("multiclass", ZEROS, INDEX, {"reduction": "avg"}, "reduction 'avg' is unknown"),
        ("multiclass", ZEROS, INDEX, {"label_smoothing": 1.5}, "label_smoothing .* got 1.5"),
        ("multiclass", ZEROS[:, :1], INDEX, {}, r"\(3, 1\) .* at least two classes"),
        ("multiclass", ZEROS[0], INDEX, {}, r"shape \(4,\) but task 'multiclass' expects \(B, C\)"),
        ("binary", ZEROS[:, :1], ZEROS[:, 0], {}, r"\(3, 1\) .* \(B,\); squeeze"),
        ("binary", ZEROS[:, 0], ZEROS, {}, r"labels have shape \(3, 4\) .* ask for \(3,\)"),
        ("multiclass", INDEX[:, None].expand(3, 4), INDEX, {}, "floating point, got torch.int64"),
        ("multiclass", ZEROS, INDEX.float(), {}, "integer class indices, got torch.float32"),
        ("multiclass", ZEROS, torch.tensor([0, 1, 4]), {}, r"label 4 in row 2 .* 0 to 3 \(C = 4\)"),
        ("multiclass", ZEROS, torch.tensor([0, -100, 1]), {}, "label -100 in row 1"),
        ("binary", ZEROS[:, 0], torch.tensor([0, 1, torch.nan]), {}, "label nan in row 2"),
        ("multilabel", ZEROS, ZEROS - 0.5, {}, r"label -0.5 in row 0 is not a number in \[0, 1\]"),
        ("regression", ZEROS[:, 0], ZEROS[:, 0] / 0, {}, "label nan in row 0 is not a finite"),
        ("regression", ZEROS[:, 0], ZEROS[:, 0], {"label_smoothing": 0.1}, "no meaning"),
        ("regression", ZEROS[:, 0], ZEROS[:, 0], {"positive_weight": 2.0}, "positive_weight is"),
        ("binary", ZEROS[:, 0], ZEROS[:, 0], {"class_weights": [1.0, 2.0]}, "class_weights are"),
        ("multiclass", ZEROS, INDEX, {"class_weights": [1.0, 2.0]}, r"\(2,\) but there are 4"),
        ("multilabel", ZEROS, ZEROS, {"positive_weight": [1.0, 2.0]}, "one per label"),
        ("binary", ZEROS[:, 0], ZEROS[:, 0], {"positive_weight": -2.0}, "positive_weight .* -2.0"),
        ("binary", ZEROS[:, 0], ZEROS[:, 0], {"positive_weight": torch.nan}, "negative, got nan"),
        ("multiclass", ZEROS, INDEX, {"class_weights": [1.0, 2, -3, 4]}, "class_weights .* -3.0"),
        ("multiclass", ZEROS, INDEX, {"class_weights": [1.0, 2, torch.inf, 4]}, "got inf"),
        ("multiclass", ZEROS, INDEX, {"label_mask": INDEX}, "must be bool .* torch.int64"),
        ("multiclass", ZEROS, INDEX, {"label_mask": INDEX[:2] > 0}, "label_mask has shape"),
        ("multilabel", ZEROS, ZEROS, {"label_mask": ZEROS == 0}, "missing sample by sample, not"),
        (
            "multilabel",
            ZEROS,
            ZEROS / 0,
            {},
            "label nan in row 0 .* which leaves out all its labels",
        ),
        ("multiclass", ZEROS, None, {"label_mask": INDEX == 0}, "labels is None but .* 3 of 3"),
        ("multiclass", ZEROS, INDEX, {"sample_weight": INDEX - 1.0}, "got -1.0 in row 0"),
        ("multiclass", ZEROS, INDEX, {"sample_weight": ZEROS}, "sample_weight has shape"),
    ],
)
def test_errors(task, logits, labels, options, message):
    with pytest.raises(ValueError, match=message):
        supervised_loss(logits, labels, task=task, **options)


def test_module_errors_come_at_construction():
    with pytest.raises(ValueError, match="task 'binry' is unknown"):
        SupervisedLoss(task="binry")
    with pytest.raises(ValueError, match="label_smoothing"):
        SupervisedLoss(task="binary", label_smoothing=-0.1)
    with pytest.raises(ValueError, match=r"positive_weight .* got -1\.0"):
        SupervisedLoss(task="binary", positive_weight=-1.0)
    with pytest.raises(ValueError, match=r"class_weights .* got nan"):
        SupervisedLoss(task="multiclass", class_weights=[1.0, torch.nan])
