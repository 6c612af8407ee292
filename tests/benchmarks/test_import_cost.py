"""What `import coefvq.losses` costs more than the `import torch` in it.

    pytest -m benchmark -s tests/benchmarks/test_import_cost.py

Each round is a fresh process that imports torch and then the losses, so that both are timed in the
same weather. Compared is processor time (user and system), which a busy machine disturbs less than
the time on the clock: up to the end of each import, from the start of the process. The median of
the ratios must stay below 1.05.
"""

import subprocess
import sys
from statistics import median

import pytest

pytestmark = pytest.mark.benchmark
ROUNDS, LIMIT = 15, 1.05
PROGRAM = """
import time
import torch
torch_alone = time.process_time()
import coefvq.losses
print(torch_alone, time.process_time())
"""


def seconds():
    """Of torch alone, and of torch and the losses."""
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


def test_losses_cost_little_more_than_torch(capsys):
    seconds()  # files into memory, byte code to disk
    times = [seconds() for _ in range(ROUNDS)]
    ratios = [both / torch_alone for torch_alone, both in times]
    with capsys.disabled():
        print(
            f"\nimport coefvq.losses / import torch: {median(ratios):.3f} "
            f"({min(ratios):.3f}-{max(ratios):.3f}) of {median(x for x, _ in times):.2f} s "
            "processor time"
        )
    assert median(ratios) <= LIMIT
