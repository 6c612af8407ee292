from dataclasses import replace
from types import SimpleNamespace

import pytest
import reference_features
import torch

from coefvq.losses.feature_kd import FeatureKDLoss, feature_kd_loss
from coefvq.objective import Objective
from coefvq.optim import parameter_groups


@pytest.fixture(params=["mse", "smooth_l1", "cosine"])
def distance(request):
    return request.param


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 2


def tokens(masked=True):
    """(4, 3, 5) of both sides; the masked ones hold what must never be read."""
    student, teacher = draw(4, 3, 5), draw(4, 3, 5, seed=1)
    if not masked:
        return student, teacher, None
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0], [0, 1, 1]]).bool()
    student[~mask], teacher[~mask] = torch.nan, torch.inf
    return student, teacher, mask


def plain(x):
    return None if x is None else x.tolist()


def loss(case, **options):
    return feature_kd_loss(case.student, case.teacher, sample_weight=case.sample_weight, **options)


@pytest.fixture
def pooled(make_case):
    """(6, 3) of both sides, weighted."""
    return make_case("multilabel", weighted=True)


def test_closed_form():
    # Differences (3, −4) and (0.5, 0): squares 12.5 and 0.125; Huber (2.5 + 3.5) / 2 and 0.0625.
    student = torch.tensor([[3.0, 0.0], [0.5, 2.0]])
    teacher = torch.tensor([[0.0, 4.0], [0.0, 2.0]])
    for distance, expected in (("mse", [12.5, 0.125]), ("smooth_l1", [3.0, 0.0625])):
        value = feature_kd_loss(student, teacher, distance=distance, reduction="none")
        torch.testing.assert_close(value, torch.tensor(expected))
    # (3, 0) and (0, 4) are at right angles; (0.5, 2) and (0, 2) have the cosine 2 / √4.25.
    value = feature_kd_loss(student, teacher, distance="cosine", reduction="none")
    torch.testing.assert_close(value, torch.tensor([1.0, 1 - 2 / 4.25**0.5]))


@pytest.mark.parametrize("masked", [False, True])
def test_equals_reference(distance, weighted, masked, reduction):
    student, teacher, mask = tokens(masked)
    weight = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64) if weighted else None
    expected = reference_features.feature_kd(
        student.tolist(), teacher.tolist(), distance, plain(mask), plain(weight), reduction
    )
    value = feature_kd_loss(student, teacher, distance=distance, mask=mask, sample_weight=weight,
                            reduction=reduction)  # fmt: skip
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))


def test_pooled_is_one_token(distance, pooled, reduction):
    one = replace(pooled, student=pooled.student[:, None], teacher=pooled.teacher[:, None])
    options = {"distance": distance, "reduction": reduction}
    torch.testing.assert_close(loss(pooled, **options), loss(one, **options))


def test_kd_of_equal_features_is_zero__trl_5731(distance, pooled):
    assert loss(replace(pooled, teacher=pooled.student), distance=distance) == 0
    student, _, mask = tokens()
    assert feature_kd_loss(student, student, distance=distance, mask=mask) == 0


def test_cosine_leaves_lengths_free(pooled):
    longer = replace(pooled, student=pooled.student * torch.arange(1, 7)[:, None])
    torch.testing.assert_close(loss(longer, distance="cosine"), loss(pooled, distance="cosine"))


def test_the_mask_selects_and_does_not_rescale__mlkd(distance):
    """Masked tokens change nothing, whatever they hold and however many they are."""
    student, teacher = draw(2, 3, 5), draw(2, 3, 5, seed=1)
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[:, 3:] = False
    expected = feature_kd_loss(student, teacher, distance=distance)
    for filler in (0.0, 1e6, torch.nan):
        padding = torch.full((2, 6, 5), filler, dtype=torch.float64)
        value = feature_kd_loss(
            torch.cat([student, padding], 1), torch.cat([teacher, -padding], 1),
            distance=distance, mask=mask,
        )  # fmt: skip
        torch.testing.assert_close(value, expected)


def test_a_sample_without_tokens_is_left_out(distance):
    student, teacher, mask = tokens()
    kept = torch.tensor([0, 1, 3])
    value = feature_kd_loss(student, teacher, distance=distance, mask=mask)
    torch.testing.assert_close(
        value, feature_kd_loss(student[kept], teacher[kept], distance=distance, mask=mask[kept])
    )
    nobody = feature_kd_loss(student, teacher, mask=torch.zeros_like(mask))
    assert nobody == 0


def test_gradients(checks, distance, pooled, reduction):
    checks.gradients(lambda c: loss(c, distance=distance, reduction=reduction), pooled)


def test_masked_tokens_get_no_gradient_and_no_nan(distance):
    student, teacher, mask = tokens()
    student.requires_grad_()
    feature_kd_loss(student, teacher, distance=distance, mask=mask).backward()
    assert (student.grad[~mask] == 0).all()
    assert student.grad.isfinite().all()
    assert (student.grad[mask] != 0).any()


def test_no_direction_no_nan():
    """Features of 0 have no cosine."""
    student = torch.zeros(2, 3, requires_grad=True)
    value = feature_kd_loss(
        student, torch.tensor([[0.0, 0, 0], [0, 3, 4]]), distance="cosine", reduction="none"
    )
    assert value.tolist() == [0.0, 0.5]
    value.sum().backward()
    torch.testing.assert_close(student.grad, torch.tensor([[0.0, 0, 0], [0, -0.6, -0.8]]))


def test_permutation_and_micro_batches(checks, distance, pooled):
    checks.permutation(lambda c: loss(c, distance=distance, reduction="none"), pooled)
    checks.micro_batches(lambda c: loss(c, distance=distance, reduction="sum"), pooled)


@pytest.mark.parametrize("scale", [1.0, 1e26])
def test_extremes(checks, distance, pooled, scale):
    if distance == "cosine":
        pooled = replace(pooled, student=pooled.student * scale, teacher=pooled.teacher / scale)
    checks.extremes(lambda c: loss(c, distance=distance), pooled)
    checks.half_precision(lambda c: loss(c, distance=distance), pooled)


def test_compiled(checks, distance, pooled):
    checks.compiled(lambda c: loss(c, distance=distance), pooled)


def test_module_equals_function(distance, reduction):
    student, teacher, mask = tokens()
    weight = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64)
    options = {"distance": distance, "reduction": reduction}
    expected = feature_kd_loss(student, teacher, mask=mask, sample_weight=weight, **options)
    assert torch.equal(FeatureKDLoss(**options)(student, teacher, mask, weight), expected)


def test_a_projection_is_learned_and_half_precision_may_enter_it():
    torch.manual_seed(0)
    module = FeatureKDLoss(4, 3)
    student, teacher = draw(64, 4, dtype=torch.float32), draw(64, 4, dtype=torch.float32)[:, 1:]
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    before = module(student, teacher).item()
    for _ in range(200):
        optimizer.zero_grad()
        module(student, teacher).backward()
        optimizer.step()
    assert module(student, teacher).item() < 1e-3 * before
    assert module(student.bfloat16(), teacher).dtype == torch.float32


def test_what_a_loss_learns_is_in_the_objective__sub_losses_in_a_plain_dict():
    objective = Objective({"feature": FeatureKDLoss(4, 3)}, {"feature": 1.0})
    listed = {id(p) for group in parameter_groups(objective) for p in group["params"]}
    projection = objective.terms["feature"].projection
    assert {id(p) for p in projection.parameters()} == listed
    assert not any(isinstance(p, torch.nn.UninitializedParameter) for p in objective.parameters())
    assert "terms.feature.projection.weight" in objective.state_dict()
    assert FeatureKDLoss().projection is None


def test_masked_tokens_never_reach_the_projection():
    """0 · NaN is NaN: the layer's gradient would be lost."""
    student, teacher, mask = tokens()
    module = FeatureKDLoss(5, 5).double()
    value = module(student, teacher, mask)
    value.backward()
    assert module.projection.weight.grad.isfinite().all()
    expected = feature_kd_loss(module.projection(student.nan_to_num()), teacher, mask=mask)
    torch.testing.assert_close(value, expected)


def test_select(pooled):
    outputs = [SimpleNamespace(features=x) for x in (pooled.student, pooled.teacher)]
    module = FeatureKDLoss()
    value = module(**module.select(*outputs, pooled))
    torch.testing.assert_close(value, loss(pooled))


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        (torch.ones(2, 3), None, "FeatureKDLoss needs a teacher's features but the run has no"),
        (None, torch.ones(2, 3), "the student returns none; choose a student"),
        (torch.ones(2, 3), SimpleNamespace(features=None), "the teacher returns none"),
    ],
)
def test_select_says_who_has_no_features(student, teacher, message):
    if isinstance(teacher, torch.Tensor):
        teacher = SimpleNamespace(features=teacher)
    with pytest.raises(ValueError, match=message):
        FeatureKDLoss().select(SimpleNamespace(features=student), teacher, None)


TWO, THREE = torch.zeros(2, 3), torch.zeros(2, 4, 3)


@pytest.mark.parametrize(
    ("student", "teacher", "options", "message"),
    [
        (TWO.int(), TWO, {}, "student_features must be floating point, got torch.int32"),
        (TWO[0], TWO, {}, r"shape \(3,\) but \(B, D\) or \(B, T, D\) is expected"),
        (TWO, TWO[:1], {}, r"\(2, 3\) and teacher_features \(1, 3\); both .* same B samples"),
        (TWO, THREE, {}, "of the same B samples"),
        (TWO[:, :2], TWO, {}, "student_width=2 and teacher_width=3"),
        (TWO[:, :0], TWO[:, :0], {}, r"shape \(2, 0\)"),
        (THREE[:, :2], THREE, {}, "needs the same T: pool both"),
        (TWO, TWO, {"distance": "l1"}, "distance 'l1' is unknown; choose one of mse, smooth_l1, c"),
        (TWO, TWO, {"reduction": "batch"}, "reduction 'batch' is unknown"),
        (TWO, TWO, {"mask": TWO.bool()}, r"mask is for tokens .* shape \(2, 3\).*sample_weight"),
        (THREE, THREE, {"mask": torch.ones(2, 4)}, "mask must be bool"),
        (THREE, THREE, {"mask": torch.ones(2, 3).bool()}, r"\(2, 3\) but the features .* \(2, 4\)"),
        (TWO, TWO, {"sample_weight": torch.tensor([1.0, -1.0])}, "sample_weight .* row 1"),
    ],
)  # fmt: skip
def test_errors(student, teacher, options, message):
    with pytest.raises(ValueError, match=message):
        feature_kd_loss(student, teacher, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"student_width": 3}, "teacher_width is None; give both"),
        ({"student_width": 3, "teacher_width": 0}, "widths must be at least 1"),
        ({"distance": "l1"}, "distance 'l1' is unknown"),
        ({"reduction": "avg"}, "reduction 'avg' is unknown"),
    ],
)
def test_module_errors(options, message):
    with pytest.raises(ValueError, match=message):
        FeatureKDLoss(**options)


def test_a_projection_of_another_width_is_refused():
    with pytest.raises(
        ValueError, match="width 3 but the projection was made with student_width=5"
    ):
        FeatureKDLoss(5, 3)(TWO, TWO)
