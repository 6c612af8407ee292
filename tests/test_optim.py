from itertools import pairwise

import pytest
import torch
from torch import nn

from coefvq.optim import constant, linear_warmup, one_cycle, parameter_groups, scale_learning_rates


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(3, 3)
        self.norm = nn.LayerNorm(3)
        self.head = nn.Linear(3, 1)
        self.head.lr_scale = 2.0
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def test_every_trainable_parameter_is_in_one_group():
    net = Net()
    groups = parameter_groups(net, nn.Sequential(net.body))  # shared: counted once
    listed = [id(p) for group in groups for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in net.parameters() if p.requires_grad)


def test_vectors_are_not_decayed_and_new_layers_learn_faster():
    net = Net()
    optimizer = torch.optim.AdamW(parameter_groups(net), lr=0.1, weight_decay=0.5)
    scale_learning_rates(optimizer)
    by_id = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    assert by_id[id(net.body.weight)]["weight_decay"] == 0.5
    assert by_id[id(net.body.bias)]["weight_decay"] == 0.0
    assert by_id[id(net.norm.weight)]["weight_decay"] == 0.0
    assert by_id[id(net.body.weight)]["lr"] == pytest.approx(0.1)
    assert by_id[id(net.head.weight)]["lr"] == pytest.approx(0.2)


def rates(make, steps, **options):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make(optimizer, total_steps=steps, **options)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_one_cycle_rises_and_falls():
    seen = rates(one_cycle, 100, warmup=0.3)
    assert seen[0] == pytest.approx(0.04)
    assert seen[30] == pytest.approx(1.0) and max(seen) == seen[30]
    assert seen[65] == pytest.approx(0.5, abs=0.01)  # half-way down a cosine
    assert seen[-1] < 0.01
    assert all(a < b for a, b in pairwise(seen[:31]))


def test_linear_warmup_rises_and_falls():
    seen = rates(linear_warmup, 100, warmup=0.1)
    assert seen[0] == pytest.approx(1 / 11) and seen[10] == pytest.approx(1.0)
    assert seen[55] == pytest.approx(0.5) and seen[-1] == pytest.approx(1 / 90)


def test_constant_is_constant():
    assert rates(constant, 5) == [1.0] * 5


@pytest.mark.parametrize("make", [one_cycle, linear_warmup])
def test_warmup_outside_its_range_is_refused(make):
    with pytest.raises(ValueError, match=r"share of all steps in \[0, 1\), got 1.5"):
        rates(make, 10, warmup=1.5)
