import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from coefvq.losses import Confidence, CPFDLoss, LogitKDLoss, SupervisedLoss, confidence
from coefvq.objective import Objective
from coefvq.schedules import Schedule
from coefvq.types import Batch, StudentOutput, TeacherOutput

CONF = Path(__file__).parents[1] / "conf" / "objective"
OPTIONS = [
    "cpfd",
    "feature_kd",
    "ha_pfd",
    "label_smoothing",
    "logit_kd",
    "matchlm2lite",
    "pair_supervised",
    "pfd",
    "relational_kd",
    "supervised",
]
# Held by tests of their own: of scores, and of a light model that knows when it is wrong.
ELSEWHERE = ["gatekeeper", "level_kd", "score_cpfd", "score_feature_kd", "score_kd"]


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
    logits = torch.randn(4, generator=draw).requires_grad_()
    teacher_logits = torch.randn(4, generator=draw)
    features = torch.randn(4, 3, generator=draw).requires_grad_()
    student = StudentOutput(logits, features, torch.randn(4, 2, generator=draw).requires_grad_())
    return student, TeacherOutput(teacher_logits, torch.randn(4, 5, generator=draw)), batch


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
    cfg = OmegaConf.create({"runtime": {"task": task, "student_width": 3, "teacher_width": 5}})
    cfg.objective = OmegaConf.merge(OmegaConf.load(CONF / f"{option}.yaml"), changes)
    return cfg.objective


def test_terms_that_learn_from_a_teacher_are_known_without_one():
    task, distill = SupervisedLoss(task="binary"), LogitKDLoss(task="binary")
    Objective({"task": task}, {"task": 1.0}).check_without_teacher()
    both = Objective({"task": task, "distill": distill}, {"task": 1.0, "distill": 0.5})
    with pytest.raises(
        ValueError, match=r"^teacher=none, but the term distill of the objective le"
    ):
        both.check_without_teacher()


@pytest.mark.parametrize(
    ("option", "terms"),
    [
        ("score_kd", "the terms score, rank, plcc of"),
        ("score_cpfd", "the terms cpfd, rank, plcc of"),
        ("level_kd", "the terms level_kd, rank, plcc of"),
    ],
)
def test_scores_in_points_are_no_way_around_it(option, terms):
    words = OmegaConf.create({"runtime": {"task": "regression", "label_range": [1, 5]}})
    words.objective = OmegaConf.load(CONF / f"{option}.yaml")
    objective = Objective(
        instantiate(words.objective.terms, _convert_="all"), words.objective.weights
    )
    with pytest.raises(ValueError, match=f"^teacher=none, but {terms}"):
        objective.check_without_teacher()


def test_every_option_is_known_here():
    assert sorted(path.stem for path in CONF.glob("*.yaml")) == sorted(OPTIONS + ELSEWHERE)


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


def scheduled(schedules, weights=None, **options):
    trust = Confidence(confidence.margin)
    terms = {
        "cpfd": CPFDLoss(task="binary", distill_weight=0.8, confidence=trust, **options),
        "distill": LogitKDLoss(task="binary"),
    }
    return Objective(terms, weights or {"cpfd": 1.0, "distill": 0.0}, schedules)


def test_a_schedule_sets_an_option_of_one_term():
    objective = scheduled({"cpfd.temperature": Schedule("linear", start=1.0, end=3.0, until=10)})
    assert objective.set_step(5, 100, 0) == {"cpfd.temperature": 2.0}
    assert (objective.terms["cpfd"].temperature, objective.terms["distill"].temperature) == (2, 1)


def test_a_schedule_without_a_term_sets_every_term_that_has_the_option():
    objective = scheduled({"temperature": Schedule("linear", start=1.0, end=3.0, until=10)})
    assert objective.set_step(5, 100, 0) == {"temperature": 2.0}
    assert [term.temperature for term in objective.terms.values()] == [2.0, 2.0]


def test_a_schedule_reaches_into_a_confidence():
    for name in ("cpfd.confidence.strength", "confidence.strength"):
        objective = scheduled({name: Schedule("linear", until=10)})
        before = objective.terms["cpfd"].confidence
        assert before.strength == 0.0  # open end: the configured strength, 1
        objective.set_step(5, 100, 0)
        assert objective.terms["cpfd"].confidence.strength == 0.5
        assert objective.terms["cpfd"].confidence.function is confidence.margin


def test_an_open_end_is_the_configured_value():
    objective = scheduled({"distill_weight": Schedule("linear", until=0.5)})
    assert objective.terms["cpfd"].distill_weight == 0.0  # the first step's, from the start
    assert objective.set_step(25, 100, 0) == {"distill_weight": 0.4}
    assert objective.set_step(50, 100, 0) == {"distill_weight": 0.8}


def test_a_watched_term_starts_to_train_with_its_schedule(inputs):
    student = inputs[0]
    terms = {"a": Constant(1.0), "b": Constant(10.0)}
    late = Schedule("step", end=2.0, epoch=1)
    objective = Objective(terms, {"a": 1.0, "b": 0.0}, {"weights.b": late})
    objective.set_step(0, 100, 0)
    total, values = objective(*inputs)
    torch.testing.assert_close(total, student.logits.sum())
    assert not values["b"].requires_grad
    objective.set_step(50, 100, 1)
    total, values = objective(*inputs)
    torch.testing.assert_close(total, 21 * student.logits.sum())
    total.backward()
    assert terms["b"].factor.grad is not None


def test_a_constant_schedule_is_no_schedule_to_the_bit(inputs):
    student = inputs[0]
    plain = scheduled(None)
    constant = scheduled(
        {
            "weights.cpfd": Schedule("constant"),
            "distill_weight": Schedule("constant"),
            "temperature": Schedule("constant", end=1.0),
            "confidence.strength": Schedule("constant"),
        }
    )
    constant.set_step(7, 100, 3)
    results = [(objective, objective(*inputs)[0]) for objective in (plain, constant)]
    grads = [torch.autograd.grad(total, student.logits)[0] for _, total in results]
    assert torch.equal(results[0][1], results[1][1])
    assert torch.equal(*grads)


def test_without_schedules_a_step_changes_nothing():
    objective = scheduled(None)
    objective.weights["distill"] = 0.3
    assert objective.set_step(5, 10, 0) == {}
    assert objective.weights == {"cpfd": 1.0, "distill": 0.3}


def test_a_copy_of_an_objective_has_schedules_of_its_own():
    objective = scheduled({"distill_weight": Schedule("linear", until=10)})
    other = copy.deepcopy(objective)
    other.set_step(10, 100, 0)
    assert other.terms["cpfd"].distill_weight == 0.8
    assert objective.terms["cpfd"].distill_weight == 0.0


@pytest.mark.parametrize(
    ("schedules", "message"),
    [
        ({"temprature": Schedule("linear", end=2.0)},
         r"'temprature' names no number .* choose one of cpfd.confidence.exponent, .*"
         r"cpfd.temperature, distill.beta, distill.temperature, weights.cpfd, weights.distill, "
         r"or leave out"),
        ({"cpfd": Schedule("linear")}, "'cpfd' names no number"),
        ({"weights.task": Schedule("linear")}, "'weights.task' names no number"),
        ({"cpfd.task": Schedule("linear")}, "'cpfd.task' names no number"),
        ({"distill_weight": Schedule("linear", end=1.5)},
         r"'distill_weight' takes cpfd.distill_weight to 1.5: distill_weight must be .*\[0, 1\]"),
        ({"temperature": Schedule("linear")},
         "'temperature' takes cpfd.temperature to 0: temperature must be .* change its start"),
        ({"distill.temperature": Schedule("step", epoch=2, start=-1.0)}, "temperature to -1"),
        ({"confidence.strength": Schedule("constant", end=2.0)}, "strength to 2: confidence stren"),
        ({"weights.cpfd": Schedule("linear", start=1.0, end=-1.0)},
         "takes weights.cpfd to -1: weight of term 'cpfd' must be a finite number from 0"),
        ({"weights.distill": Schedule("linear")},
         "'weights.distill' stays at 0, .* configured with; give the schedule an end"),
        ({"temperature": Schedule("constant", end=2.0), "cpfd.temperature": Schedule("constant")},
         "cpfd.temperature has two schedules, one of them 'cpfd.temperature'"),
        ({"weights.cpfd": Schedule("linear")}, "every weight of .* is 0 at step 0"),
        ({"weights.cpfd": Schedule("linear", start=1.0, end=0.0)}, "is 0 in the end"),
    ],
)  # fmt: skip
def test_errors_of_schedules(schedules, message):
    with pytest.raises(ValueError, match=message):
        scheduled(schedules)


def test_an_open_end_needs_one_configured_value():
    with pytest.raises(
        ValueError, match=r"no end, and cpfd.temperature is 2, distill.temperature is 1"
    ):
        scheduled({"temperature": Schedule("linear", start=4.0)}, temperature=2.0)


def test_weights_that_are_all_zero_for_a_while_are_refused_there():
    crossing = {
        "weights.cpfd": Schedule("linear", start=1.0, end=0.0, until=10),
        "weights.distill": Schedule("step", end=1.0, epoch=3),
    }
    objective = scheduled(crossing)
    objective.set_step(9, 100, 0)
    with pytest.raises(ValueError, match=r"every weight .* is 0 at step 10"):
        objective.set_step(10, 100, 1)
    objective.set_step(40, 100, 3)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_number_of_every_option_can_be_held_constant(option, inputs):
    cfg = compose(option)

    def total(schedules):
        torch.manual_seed(0)  # projections are drawn
        objective = Objective(instantiate(cfg.terms, _convert_="all"), cfg.weights, schedules)
        objective.set_step(3, 10, 0)
        return objective(*inputs)[0], objective

    plain, objective = total(None)
    every = dict.fromkeys(objective._numbers(), Schedule("constant"))
    assert len(every) >= len(cfg.weights)
    assert torch.equal(plain, total(every)[0])
