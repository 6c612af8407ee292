"""What an answer costs: operations by torch's own counter, and time on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Compute:
    """The cost of one example.

    Args:
        gflop: billions of floating-point operations, a multiplication and an addition being two;
            what torch's counter knows (matrix products, convolutions, attention).
        ms: milliseconds, the median of several calls with the batch, divided by its size.
        batch: examples per call.
    """

    gflop: float
    ms: float
    batch: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@torch.no_grad()
def measure_compute(call: Callable[[], Any], batch: int, *, repeats: int = 5) -> Compute:
    """Count and time a call that answers `batch` examples.

    Args:
        call: takes nothing; its model is in eval mode.
        batch: how many examples it answers.
        repeats: timed calls, after one that is counted.

    >>> left = torch.ones(4, 8)
    >>> round(measure_compute(lambda: left @ torch.ones(8, 2), 4).gflop * 1e9)  # 2 · 8 · 2
    32
    """
    with FlopCounterMode(display=False) as counter:
        call()
    times = []
    for _ in range(repeats):
        _wait()
        start = time.perf_counter()
        call()
        _wait()
        times.append(time.perf_counter() - start)
    seconds = sorted(times)[len(times) // 2]
    return Compute(counter.get_total_flops() / 1e9 / batch, 1000 * seconds / batch, batch)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


__all__ = ["Compute", "measure_compute"]
