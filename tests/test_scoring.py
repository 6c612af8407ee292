"""One way to score both models of a run: on made-up answers whose numbers are known."""

import math
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from coefvq import scoring
from coefvq.evaluation.collect import Predictions
from coefvq.pairs import PairBatch
from coefvq.scoring import metrics_of, score, undefined_notes_of, vqa_lines, vqa_protocol
from coefvq.types import Batch, Clip, StudentOutput, TaskSpec, TeacherOutput

BINARY = TaskSpec("bad", "binary", ("good", "bad"))
MOS = TaskSpec("mos", "regression", (), (1.0, 5.0))
CPU = torch.device("cpu")
CFG = OmegaConf.create({"at_precision": None, "teacher": {"model": None}})


def batches(answers, labels, size=3):
    """Clips whose one pixel is what models answer with."""
    rows = list(zip(answers, labels, strict=True))
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        values = torch.tensor([answer for answer, _ in some])
        label = torch.tensor([math.nan if y is None else float(y) for _, y in some])
        yield Batch(
            tuple(f"clip{start + i}" for i in range(len(some))), values, torch.ones(len(some), 1),
            labels=label.nan_to_num(99.0), label_mask=~label.isnan(),
        )  # fmt: skip


class Data:
    """Prepared data of which the validation and the test split are known."""

    def __init__(self, task, val, test):
        self.task, self.val, self.test = task, val, test

    def val_dataloader(self):
        return batches(*self.val)

    def test_dataloader(self):
        return batches(*self.test)


class Student(nn.Module):
    """Says what stands in the clips, and remembers what else it was shown."""

    def __init__(self):
        super().__init__()
        self.labels = []

    def forward(self, batch):
        self.labels.append(batch.labels)
        return StudentOutput(batch.frames.clone())


def opposite(batch):
    assert batch.labels is not None  # a teacher sees the whole batch
    return TeacherOutput(-batch.frames)


# At 0 the first half of the validation clips would be taken for bad; at 1.5 none of them is.
VAL = ([1.0, 1.0, 2.0, 2.0], [0, 0, 1, 1])
TEST = ([1.0, 1.0, 2.0, 3.0, 9.0], [0, 0, 1, 1, None])


def test_the_threshold_comes_from_validation_and_meets_the_test_clips():
    student = Student()
    report, curves, held = score(CFG, Data(BINARY, VAL, TEST), None, student, CPU)
    low, high = torch.tensor([1.0, 2.0]).sigmoid()
    assert report["threshold"] == {"student": pytest.approx(((low + high) / 2).item())}
    assert report["test"]["student"]["f1"] == 1.0 and report["test"]["student"]["n"] == 4
    assert set(report) == {"test", "validation", "threshold", "compute"}
    assert set(report["test"]) == set(report["compute"]) == {"student"}
    assert curves["student"].ids == tuple(f"clip{n}" for n in range(5))
    assert held["student"].logits.tolist() == VAL[0]
    assert set(student.labels) == {None}  # only the public part, also where it is timed


def test_a_teacher_is_scored_alike_and_compared():
    teacher = SimpleNamespace(ask=opposite, folder=None)
    report, curves, _ = score(CFG, Data(BINARY, VAL, TEST), teacher, Student(), CPU)
    assert set(report["test"]) == {"teacher", "student", "agreement"}
    assert set(report["threshold"]) == set(curves) == {"teacher", "student"}
    assert report["test"]["teacher"]["auroc"] == 0.0 and report["test"]["student"]["auroc"] == 1.0
    # Each with its own threshold: the student calls the last three bad; its opposite, best off
    # where all validation clips are bad, cuts at σ(−2) / 2 and calls the first three bad.
    assert report["threshold"]["teacher"] == pytest.approx(torch.tensor(-2.0).sigmoid().item() / 2)
    assert report["test"]["agreement"]["equal_decisions"] == pytest.approx(1 / 5)
    alone, _, _ = score(CFG, Data(BINARY, VAL, TEST), teacher, None, CPU)
    assert set(alone["test"]) == {"teacher"}
    assert alone["test"]["teacher"] == pytest.approx(report["test"]["teacher"], nan_ok=True)


def test_an_operating_point_is_chosen_where_a_precision_is_asked_for():
    cfg = OmegaConf.merge(CFG, {"at_precision": 0.9})
    teacher = SimpleNamespace(ask=opposite, folder=None)
    report, _, _ = score(cfg, Data(BINARY, VAL, TEST), teacher, Student(), CPU)
    point = report["operating_point"]
    assert (point["precision"], point["val_recall"], point["n"]) == (0.9, 1.0, 4)
    (note,) = report["notes"]
    assert point["taken"] == 2 and "rests on the 2 validation examples that it calls" in note
    many = Data(BINARY, ([1.0] * 60 + [2.0] * 60, [0] * 60 + [1] * 60), TEST)
    assert "notes" not in score(cfg, many, None, Student(), CPU)[0]
    assert "operating_point" not in score(cfg, Data(BINARY, VAL, TEST), teacher, None, CPU)[0]


def rising(count):
    labels = [1 + 4 * n / (count - 1) for n in range(count)]
    return [10 * y for y in labels], labels


def test_scores_of_a_known_range_get_a_unit_or_a_note_that_says_why_not():
    report, _, _ = score(CFG, Data(MOS, rising(20), rising(5)), None, Student(), CPU)
    unit = report["score_calibration"]
    assert unit["label_range"] == [1.0, 5.0] and unit["clips"] == 20 and "notes" not in report
    held = report["calibrated_scores"]
    assert held["n"] == 5 and held["rmse"] < 0.1 and held["coverage"] <= 1.0
    told = Data(MOS, rising(20), rising(5))
    told.source, told.splits = SimpleNamespace(labels_note="what labels mean"), {}
    told.inputs = None
    assert score(CFG, told, None, Student(), CPU)[0]["notes"] == ["what labels mean"]
    few, _, _ = score(CFG, Data(MOS, rising(19), rising(5)), None, Student(), CPU)
    (note,) = few["notes"]
    assert note.startswith("the student's scores get no unit: 19 labelled validation clips are few")
    assert "score_calibration" not in few
    plain = TaskSpec("mos", "regression")
    free, _, _ = score(CFG, Data(plain, rising(20), rising(5)), None, Student(), CPU)
    assert set(free) == {"test", "validation", "threshold", "notes", "compute"}
    assert free["threshold"] == {"student": None}
    assert "state no range" in free["notes"][0] and "data.label_range=[0,100]" in free["notes"][0]


def test_reports_of_scores_look_at_the_files_at_one_where_these_are_alike(monkeypatch):
    monkeypatch.setattr(
        scoring, "reading_notes", lambda paths, inputs, alike: [f"{len(paths)} {inputs} {alike}"]
    )
    data = Data(MOS, rising(20), rising(5))
    data.splits = {"train": [SimpleNamespace(path="a")], "val": [], "test": []}
    data.inputs = "read"
    data.source = SimpleNamespace()
    assert score(CFG, data, None, Student(), CPU)[0]["notes"][-1] == "1 read False"
    data.source.files_are_alike = True
    assert score(CFG, data, None, Student(), CPU)[0]["notes"][-1] == "1 read True"


class PairStudent(nn.Module):
    """Encodes each clip by itself; it would look features up if it were let."""

    def __init__(self):
        super().__init__()
        self.linear, self.store = nn.Linear(1, 8, bias=False), "features"

    def use_store(self, store):
        self.store = store

    def encode(self, clips):
        assert self.store is None
        return self.linear(clips.frames[:, None])

    def score(self, query, candidate):
        return StudentOutput((query * candidate).sum(1))

    def forward(self, pairs):
        if self.store is not None:  # in tests: what stands in the first clip
            return StudentOutput(pairs.query.frames.clone())
        return self.score(self.encode(pairs.query), self.encode(pairs.candidate))


class PairData(Data):
    sub_labels = ("crop", "flip")

    def val_dataloader(self):
        return self.pairs(super().val_dataloader())

    def test_dataloader(self):
        return self.pairs(super().test_dataloader())

    def pairs(self, clips):
        for batch in clips:
            yield PairBatch(batch.ids, batch, batch, batch.labels, batch.label_mask)

    def whole_split(self, split):
        assert split == "test"
        marks = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        return SimpleNamespace(sub_labels=marks, sub_label_mask=torch.ones(5, 2).bool())


def test_pairs_are_also_seen_by_kind_of_change_and_have_a_cost():
    data = PairData(BINARY, VAL, TEST)
    report, _, _ = score(CFG, data, None, PairStudent(), CPU)
    kinds = report["pairs"]["student"]["by_sub_label"]
    assert {name: kind["n"] for name, kind in kinds.items()} == {"crop": 1, "flip": 1}
    assert set(report["compute"]) == {"student", "student_known_clips"}


def found(logits, labels, mask=None):
    mask = torch.ones(len(labels), dtype=torch.bool) if mask is None else torch.tensor(mask)
    ids = tuple(f"clip{n}" for n in range(len(labels)))
    return Predictions(ids, torch.tensor(logits), torch.tensor(labels), mask)


def test_metrics_are_of_labelled_clips_at_the_given_threshold():
    some = found([1.0, 1.0, -1.0, 5.0], [1.0, 0.0, 0.0, 0.0], [True, True, True, False])
    assert metrics_of(some, BINARY, 0.5)["n"] == 3
    assert metrics_of(some, BINARY, 0.5)["f1"] == pytest.approx(2 / 3)
    assert metrics_of(some, BINARY, 0.9)["f1"] == 0.0


def contents(groups):
    clips = [Clip(f"clip{n}", None, group=group) for n, group in enumerate(groups)]
    return SimpleNamespace(task=MOS, splits={"test": clips})


def test_the_protocol_of_the_field_draws_whole_contents_and_looks_within_each():
    labels = [1.0, 2.0, 3.0, 1.5, 2.5, 4.0, 5.0, 3.5]
    scores = [1.0, 2.0, 3.0, 2.5, 1.5, 0.5, 5.0, 3.5]
    mask = [True] * 7 + [False]  # a clip that is not labelled has no say
    data = contents(["a", "a", "a", "b", "b", "b", None, "b"])
    result = vqa_protocol(found(scores, labels, mask), data, "test", 8)
    assert set(result["contents"]) == {"a", "b"}
    assert result["contents"]["a"]["srcc"] == pytest.approx(1.0)
    # Of 1.5 < 2.5 < 4 the model says 2.5 > 1.5 > 0.5.
    assert result["contents"]["b"]["srcc"] == pytest.approx(-1.0)
    assert result["subsets"]["srcc"].keys() == {"median", "low", "high", "n", "mean"}
    assert result["subsets"]["rmse_raw"]["n"] == 8
    alone = vqa_protocol(found(scores, labels, mask), contents([None] * 8), "test", 3)
    assert alone["contents"] == {}  # every clip is a content of its own
    assert "of 7 contents none has 3 labelled clips or more" in alone["contents_note"]
    assert "contents_note" not in result
    with pytest.raises(ValueError, match="need at least two contents, got 1"):
        vqa_protocol(found(scores, labels), contents(["a"] * 8), "test", 3)


FIELD = (
    "for splits that are also trained on anew, as the field reports them, run "
    "`python -m coefvq.compare` with recipes=[…] seeds=10 metric=srcc"
)


def test_what_is_printed_of_it():
    spread = {"median": 0.5, "low": 0.25, "high": 0.75, "n": 8, "mean": 0.5}
    subsets = dict.fromkeys(("srcc", "plcc", "krcc", "rmse", "rmse_raw"), spread)
    subsets["logistic_fit"] = spread | {"mean": 0.75}
    lines = list(vqa_lines({"vqa": {"student": {"subsets": subsets, "contents": {}}}}))
    assert lines[0].startswith("student: median [95 % range]") and "model fixed" in lines[0]
    assert lines[1:] == [
        f"  {name:<5} 0.500 [0.250, 0.750]  (8 subsets)"
        for name in ("SRCC", "PLCC", "KRCC", "RMSE")
    ] + ["  PLCC and RMSE leave out 2 of 8 subsets, in which the logistic was not fitted", FIELD]
    note = {"subsets": subsets, "contents": {}, "contents_note": "no content has numbers"}
    assert list(vqa_lines({"vqa": {"student": note}}))[-2:] == ["  no content has numbers", FIELD]
    assert list(vqa_lines({"test": {}})) == []


def test_notes_name_what_the_split_leaves_undefined_and_whose_curve_does_not_fit():
    curves = {"teacher": found([1.0, 2.0], [1.0, 1.0]), "student": found([2.0, 1.0], [1.0, 1.0])}
    notes = undefined_notes_of(curves, BINARY)
    assert notes and not any(note.startswith(("teacher:", "student:")) for note in notes)
    few = {"teacher": found([1.0, 2.0], [1.0, 2.0]), "student": found([2.0, 1.0], [1.0, 2.0])}
    said = undefined_notes_of(few, MOS)
    assert [note.partition(":")[0] for note in said] == ["teacher", "student"]
    assert all("the logistic was not fitted" in note for note in said)
