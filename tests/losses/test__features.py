import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from coefvq.losses._features import (
    cosine_distance,
    make_projection,
    need_features,
    project,
    rows_of_all_ranks,
    shares,
    unit,
)


def test_unit_has_length_one_at_any_size():
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0], [3e30, -4e30], [3e-30, 4e-30]], requires_grad=True)
    expected = torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.6, -0.8], [0.6, 0.8]])
    torch.testing.assert_close(unit(x), expected)
    unit(x)[:3].sum().backward()
    assert x.grad.isfinite().all()


def test_unit_gradient():
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.autograd.gradcheck(unit, x.requires_grad_())


def test_cosine_distance_is_one_minus_the_cosine():
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.randn(5, 3, generator=draw, dtype=torch.float64) for _ in range(2))
    expected = 1 - torch.nn.functional.cosine_similarity(a, b)
    torch.testing.assert_close(cosine_distance(a, b), expected)
    assert (cosine_distance(a, a) == 0).all()


def test_shares_add_up_to_one():
    rows = torch.zeros(4, 2)
    assert shares(None, rows).tolist() == [0.25] * 4
    assert shares(torch.tensor([1.0, 0.0, 3.0, 0.0]), rows).tolist() == [0.25, 0.0, 0.75, 0.0]
    assert shares(torch.zeros(4), rows).tolist() == [0.0] * 4


def test_a_projection_exists_at_once_or_not_at_all():
    assert make_projection(None, None) is None
    layer = make_projection(3, 2)
    assert layer.weight.shape == (2, 3)
    x = torch.ones(1, 3)
    assert project(None, x, x) is x
    assert torch.equal(project(layer, x, torch.ones(1, 2)), layer(x))
    with pytest.raises(ValueError, match=r"student_features have width 4 .* student_width=4"):
        project(layer, torch.ones(1, 4), torch.ones(1, 2))
    with pytest.raises(ValueError, match=r"teacher_features have width 5 .* teacher_width=2"):
        project(layer, x, torch.ones(1, 5))
    for widths in ((3, None), (None, 3)):
        with pytest.raises(ValueError, match="give both for a learned projection"):
            make_projection(*widths)


def test_features_of_both_sides_are_needed():
    has, none = SimpleNamespace(features=torch.ones(1)), SimpleNamespace()
    assert need_features(has, has, "X") == (has.features, has.features)
    for sides, message in (
        ((has, None), "X needs a teacher's features but the run has no teacher"),
        ((none, has), "X needs features of both sides and the student returns none"),
        ((has, none), "the teacher returns none; choose a teacher that fills in features"),
    ):
        with pytest.raises(ValueError, match=message):
            need_features(*sides, "X")


def test_one_process_is_the_whole_batch():
    x, y = torch.ones(2, 3), torch.zeros(2, 3)
    ours, theirs, weight, own = rows_of_all_ranks(x, y, None, True)
    assert ours is x
    assert theirs is y
    assert weight is None
    assert own == slice(None)


# Each loss, over a batch cut evenly or not; one process sees all of it. DDP averages gradients over
# ranks: right for a mean over equal shares; a sum over any shares has to be multiplied back.
SCRIPT = """
import sys, warnings
warnings.simplefilter("ignore")
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from coefvq.losses.cka import CKALoss
from coefvq.losses.contrastive_kd import ContrastiveKDLoss
from coefvq.losses.rkd import RKDLoss
from coefvq.losses.similarity_preserving import SimilarityPreservingLoss

LOSSES = {
    "rkd": lambda r: RKDLoss(reduction=r),
    "similarity": lambda r: SimilarityPreservingLoss(reduction=r),
    "cka": lambda r: CKALoss(),
    "contrast": lambda r: ContrastiveKDLoss(reduction=r),
    "symmetric": lambda r: ContrastiveKDLoss(symmetric=True, reduction=r),
    "projected": lambda r: ContrastiveKDLoss(3, 3, symmetric=True, reduction=r),
}

CUTS = (("mean", False, [4, 4]), ("sum", True, [7, 1]))

class Step(nn.Module):
    def __init__(self, loss):
        super().__init__()
        self.student, self.loss = nn.Linear(4, 3), loss

    def forward(self, x, teacher, weight):
        return self.loss(self.student(x), teacher, weight)

def train(name, shares, reduction, weighted):
    torch.manual_seed(0)
    module = Step(LOSSES[name](reduction)).double()
    draw = torch.Generator().manual_seed(1)
    x, teacher, weight = (torch.randn(8, n, generator=draw, dtype=torch.float64) for n in (4, 3, 1))
    weight = weight[:, 0].abs() if weighted else None
    start = sum(shares[:rank])
    own = slice(start, start + shares[rank])
    step = DistributedDataParallel(module) if ranks > 1 else module
    for _ in range(2):
        module.zero_grad()
        loss = step(x[own], teacher[own], None if weight is None else weight[own])
        scale = ranks if reduction == "sum" and name != "cka" else 1
        (scale * loss).backward()
        with torch.no_grad():
            for p in module.parameters():
                p -= 0.1 * p.grad
    with torch.no_grad():
        value = module(x[own], teacher[own], None if weight is None else weight[own])
    return value, {k: v.clone() for k, v in module.state_dict().items()}

if __name__ == "__main__":
    rank, ranks, folder = int(sys.argv[1]), 2, sys.argv[2]
    meeting = f"file://{folder}/meeting"
    distributed.init_process_group("gloo", meeting, rank=rank, world_size=ranks)
    found = {}
    for name in LOSSES:
        for reduction, weighted, cut in CUTS:
            found[name, reduction] = train(name, cut, reduction, weighted)
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()
"""


@pytest.mark.distributed
def test_two_processes_equal_one(tmp_path):
    """Plain steps on purpose: Adam would hide a wrong scale. One rank has a single clip."""
    script = tmp_path / "step.py"
    script.write_text(SCRIPT)
    commands = [[sys.executable, str(script), str(rank), str(tmp_path)] for rank in range(2)]
    pipe = subprocess.PIPE
    root = Path(__file__).parents[2]
    running = [subprocess.Popen(c, stdout=pipe, stderr=pipe, cwd=root) for c in commands]
    whole = {}  # meanwhile, in this process
    exec(compile(SCRIPT, script, "exec"), space := {"__name__": "step", "rank": 0, "ranks": 1})
    for name in space["LOSSES"]:
        for reduction, weighted, _ in space["CUTS"]:
            whole[name, reduction] = space["train"](name, [8], reduction, weighted)
    for process in running:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error.decode()
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert len(whole) == 12
    for key, (value, weights) in whole.items():
        parts = torch.stack([first[key][0], second[key][0]])
        total = parts.sum() if key[1] == "sum" and key[0] != "cka" else parts.mean()
        torch.testing.assert_close(total, value, msg=lambda m, key=key: f"{key}: {m}")
        for found in (first[key][1], second[key][1]):
            torch.testing.assert_close(found, weights, msg=lambda m, key=key: f"{key}: {m}")
