"""What models cost: on linear layers whose operations can be counted by hand."""

from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from coefvq import costs as module
from coefvq.costs import CLIPS, costs
from coefvq.pairs import PairBatch
from coefvq.types import Batch, StudentOutput, TeacherOutput

CPU = torch.device("cpu")


def config(inputs="public", model="test_costs.Saved"):
    return OmegaConf.create({"teacher": {"model": {"_target_": model}, "inputs": inputs}})


def clips(count=12, frames=3):
    return Batch(
        tuple(f"clip{n}" for n in range(count)), torch.ones(count, 4),
        torch.ones(count, frames, dtype=torch.bool), labels=torch.ones(count),
        privileged=torch.ones(count, 6),
    )  # fmt: skip


class Linear(nn.Module):
    """Reads 4 numbers of a clip (or its 6 privileged ones) through a layer."""

    def __init__(self, inputs=4, outputs=8, store=None):
        super().__init__()
        self.layer, self.seen, self.store = nn.Linear(inputs, outputs), [], store
        self.privileged = inputs == 6

    def use_store(self, store):
        self.store = store

    def forward(self, batch):
        assert self.store is None
        self.seen.append((len(batch), batch.labels is None))
        read = batch.privileged if self.privileged else batch.frames
        answer = TeacherOutput if self.privileged else StudentOutput
        return answer(self.layer(read).sum(1))


class Saved(Linear):
    @classmethod
    def from_pretrained(cls, folder):
        return cls(outputs=16)


def data(batch=None):
    return SimpleNamespace(test_dataloader=lambda: [clips() if batch is None else batch])


def supply(*live, folder=None):
    return SimpleNamespace(live=live, folder=folder)


def test_a_clip_of_the_student_and_of_a_live_teacher():
    student, teacher = Linear(store="features"), Linear(6, 20).eval()
    found = costs(config("whole"), data(), supply(teacher), student.eval(), CPU)
    small, large = found["student"], found["teacher"]
    assert round(1e9 * small["gflop"]) == 2 * 4 * 8 and small["parameters"] == 4 * 8 + 8
    assert round(1e9 * large["gflop"]) == 2 * 6 * 20 and large["parameters"] == 6 * 20 + 20
    assert (small["frames"], small["batch"], small["ms"] > 0) == (3, CLIPS, True)
    assert large["privileged"] is True and "privileged" not in small
    # A few calls of a few clips; only the teacher that may sees more than the public part.
    assert student.seen == [(CLIPS, True)] * 4 and teacher.seen == [(CLIPS, False)] * 4


def test_a_public_teacher_reads_what_is_public():
    teacher = Linear().eval()
    found = costs(config(), data(), supply(teacher), None, CPU)
    assert set(found) == {"teacher"} and found["teacher"]["privileged"] is False
    assert teacher.seen == [(CLIPS, True)] * 4


def test_a_small_teacher_is_opened_from_its_folder_and_a_large_one_is_not(tmp_path, monkeypatch):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/model.safetensors").write_bytes(bytes(100))
    found = costs(config(), data(), supply(folder=tmp_path), None, CPU)
    assert found["teacher"]["parameters"] == 4 * 16 + 16
    monkeypatch.setattr(module, "LIGHT", 99)
    assert costs(config(), data(), supply(folder=tmp_path), None, CPU) == {}


@pytest.mark.parametrize("live", [0, 2])
def test_tables_and_several_teachers_have_no_cost(live, tmp_path):
    cfg = OmegaConf.create({"teacher": {"model": None}})
    teacher = supply(*(Linear() for _ in range(live)), folder=tmp_path)
    assert costs(cfg, data(), teacher, None, CPU) == {}
    assert set(costs(cfg, data(), teacher, Linear().eval(), CPU)) == {"student"}


class PairStudent(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 8, bias=False)

    def encode(self, clip):
        return self.layer(clip.frames)

    def score(self, query, candidate):
        return StudentOutput((query * candidate).sum(1))

    def forward(self, pairs):
        return self.score(self.encode(pairs.query), self.encode(pairs.candidate))


def test_of_pairs_also_the_cost_of_clips_that_are_known():
    one = clips()
    pairs = data(PairBatch(one.ids, one, one, one.labels, None))
    pairs.sub_labels = ("crop",)
    found = costs(config(), pairs, None, PairStudent().eval(), CPU)
    # Each clip costs 2 · 4 · 8 operations; of clips that are known no encoder is asked.
    flop = {name: round(1e9 * cost["gflop"]) for name, cost in found.items()}
    assert flop == {"student": 128, "student_known_clips": 0}
    assert found["student"]["batch"] == 12 and found["student"]["frames"] == 3
