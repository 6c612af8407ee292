from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from coefvq.losses import CPFDLoss, LogitKDLoss, SupervisedLoss
from coefvq.objective import Objective
from coefvq.types import Batch, StudentOutput, TeacherOutput

CONF = Path(__file__).parents[1] / "conf" / "objective"
OPTIONS = ["cpfd", "label_smoothing", "logit_kd", "pfd", "supervised"]


@pytest.fixture
def inputs():
    draw = torch.Generator().manual_seed(0)
    batch = Batch(
        ids=tuple("abcd"),
        frames=torch.zeros(4, 1, 3, 2, 2, dtype=torch.uint8),
        frame_mask=torch.ones(4, 1, dtype=torch.bool),
        labels=torch.tensor([0.0, 1.0, 1.0, torch.nan]),
        label_mask=torch.tensor([True, True, True, False]),
    )
    student = StudentOutput(torch.randn(4, generator=draw).requires_grad_())
    return student, TeacherOutput(torch.randn(4, generator=draw)), batch


class Constant(nn.Module):
    """A term whose value and gradient are known."""

    def __init__(self, factor, shape=()):
        super().__init__()
        self.factor = nn.Parameter(torch.full(shape, float(factor)))

    def select(self, student, teacher, batch):
        return {"logits": student.logits}

    def forward(self, logits):
        return self.factor * logits.sum()


def test_total_is_the_visible_sum(inputs):
    terms = {"task": SupervisedLoss(task="binary"), "distill": LogitKDLoss(task="binary")}
    total, values = Objective(terms, {"task": 0.5, "distill": 3.0})(*inputs)
    assert list(values) == ["task", "distill"]
    torch.testing.assert_close(total, 0.5 * values["task"] + 3.0 * values["distill"])
    # Unweighted: another weight, the same terms.
    _, again = Objective(terms, {"task": 7.0, "distill": 0.1})(*inputs)
    assert all(torch.equal(values[name], again[name]) for name in values)


def test_order_of_weights_does_not_matter(inputs):
    terms = {"a": Constant(1.0), "b": Constant(10.0)}
    total, _ = Objective(terms, {"b": 2.0, "a": 1.0})(*inputs)
    torch.testing.assert_close(total, 21 * inputs[0].logits.sum())


def test_weight_zero_leaves_the_other_terms_gradient_unchanged(inputs):
    student = inputs[0]
    alone, _ = Objective({"a": Constant(2.0)}, {"a": 1.0})(*inputs)
    (expected,) = torch.autograd.grad(alone, student.logits)
    objective = Objective({"a": Constant(2.0), "b": Constant(torch.nan)}, {"a": 1.0, "b": 0.0})
    total, values = objective(*inputs)
    total.backward()
    assert torch.equal(total, alone)
    assert torch.equal(student.logits.grad, expected)
    assert values["b"].isnan()  # watched, and not hidden
    assert not values["b"].requires_grad
    assert objective.terms["b"].factor.grad is None


def test_weights_may_change_between_steps(inputs):
    objective = Objective({"a": Constant(1.0), "b": Constant(10.0)}, {"a": 1.0, "b": 0.0})
    objective.weights["b"] = 1.0
    total, values = objective(*inputs)
    torch.testing.assert_close(total, 11 * inputs[0].logits.sum())
    assert values["b"].requires_grad
    objective.weights.update(a=0.0, b=0.0)
    assert objective(*inputs)[0].item() == 0


def test_evaluation_without_gradient(inputs):
    objective = Objective({"a": Constant(1.0)}, {"a": 1.0})
    with torch.no_grad():
        total, values = objective(*inputs)
    assert not total.requires_grad
    assert not values["a"].requires_grad


def test_parameters_of_terms_are_registered():
    """Sub-losses in a plain dict: their projections were never trained, never saved."""
    objective = Objective({"a": Constant(1.0), "b": Constant(2.0)}, {"a": 1.0, "b": 1.0})
    assert {name for name, _ in objective.named_parameters()} == {
        "terms.a.factor",
        "terms.b.factor",
    }
    assert set(objective.state_dict()) == {"terms.a.factor", "terms.b.factor"}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"task": 1.0}, r"terms are named \['pfd', 'task'\] but weights \['task'\]"),
        ({"task": 1.0, "cpfd": 1.0}, r"\['pfd', 'task'\] but weights \['cpfd', 'task'\]"),
        ({"task": 1.0, "pfd": -1.0}, "weight of term 'pfd' .* got -1.0"),
        ({"task": 1.0, "pfd": float("nan")}, "weight of term 'pfd' .* got nan"),
        ({"task": 1.0, "pfd": float("inf")}, "weight of term 'pfd' .* got inf"),
        ({"task": 0.0, "pfd": 0.0}, "nothing would be trained"),
    ],
)
def test_errors(weights, message):
    with pytest.raises(ValueError, match=message):
        Objective({"task": Constant(1.0), "pfd": Constant(1.0)}, weights)


def test_a_term_must_be_a_scalar(inputs):
    with pytest.raises(ValueError, match=r"term 'a' has shape \(2,\) but an objective sums"):
        Objective({"a": Constant(1.0, (2,))}, {"a": 1.0})(*inputs)


def test_a_missing_teacher_is_named(inputs):
    student, _, batch = inputs
    with pytest.raises(ValueError, match="LogitKDLoss needs a teacher's logits"):
        Objective({"a": LogitKDLoss(task="binary")}, {"a": 1.0})(student, None, batch)


def compose(option, task="binary", **changes):
    cfg = OmegaConf.create({"runtime": {"task": task}})
    cfg.objective = OmegaConf.merge(OmegaConf.load(CONF / f"{option}.yaml"), changes)
    return cfg.objective


def test_every_option_is_known_here():
    assert sorted(path.stem for path in CONF.glob("*.yaml")) == OPTIONS


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("convert", ["none", "all"])
def test_configs_instantiate(option, convert, inputs):
    cfg = compose(option)
    objective = Objective(instantiate(cfg.terms, _convert_=convert), cfg.weights)
    total, values = objective(*inputs)
    total.backward()
    assert set(values) == set(cfg.weights)
    assert inputs[0].logits.grad.isfinite().all()
    assert all(value.isfinite() for value in values.values())


def test_watched_terms_of_a_config_do_not_count(inputs):
    cfg = compose("cpfd")
    total, values = Objective(instantiate(cfg.terms, _convert_="all"), cfg.weights)(*inputs)
    assert torch.equal(total, values["cpfd"])
    assert set(values) == {"cpfd", "task", "distill"}


def test_short_paths_reach_the_loss(inputs):
    """What a sweep changes: objective.distill_weight, .temperature, .confidence."""
    cfg = compose(
        "cpfd",
        distill_weight=0.8,
        temperature=3.0,
        confidence="margin",
        confidence_exponent=2.0,
        confidence_floor=0.1,
        confidence_normalize=True,
        hard_weight="complement",
    )
    terms = instantiate(cfg.terms, _convert_="all")
    loss = terms["cpfd"]
    assert isinstance(loss, CPFDLoss)
    assert (loss.distill_weight, loss.temperature, loss.hard_weight) == (0.8, 3.0, "complement")
    trust = loss.confidence
    assert trust.function.__name__ == "margin"
    assert (trust.exponent, trust.floor, trust.normalize) == (2.0, 0.1, True)
    assert terms["distill"].temperature == 3.0
    smooth = instantiate(compose("label_smoothing").terms, _convert_="all")["task"]
    assert smooth.label_smoothing == 0.1


def test_every_task_of_the_losses_can_be_configured():
    for task in ("binary", "multiclass", "multilabel"):
        terms = instantiate(compose("cpfd", task).terms, _convert_="all")
        assert {term.task for term in terms.values()} == {task}
    with pytest.raises(Exception, match="no class probabilities"):
        instantiate(compose("pfd", "regression").terms, _convert_="all")


def test_outputs_are_duck_typed(inputs):
    student, teacher, batch = (SimpleNamespace(**vars(part)) for part in inputs)
    total, _ = Objective({"a": CPFDLoss(task="binary")}, {"a": 1.0})(student, teacher, batch)
    assert torch.equal(total, Objective({"a": CPFDLoss(task="binary")}, {"a": 1.0})(*inputs)[0])
