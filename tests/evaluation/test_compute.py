import torch
from torch import nn

from coefvq.evaluation.compute import measure_compute


def test_operations_are_counted_for_one_example():
    layer = nn.Linear(16, 8)
    batch = torch.ones(4, 16)
    found = measure_compute(lambda: layer(batch), 4)
    assert found.gflop * 1e9 == 2 * 16 * 8
    assert found.batch == 4 and found.ms > 0
    assert set(found.to_dict()) == {"gflop", "ms", "batch"}


def test_it_is_called_without_gradients():
    seen = []

    def call():
        seen.append(torch.is_grad_enabled())

    measure_compute(call, 1, repeats=3)
    assert seen == [False] * 4
