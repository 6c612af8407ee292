"""What `import coefvq.losses` costs more than the `import torch` in it.

    pytest -m benchmark -s tests/benchmarks/test_import_cost.py

Each import runs in a fresh process, the two in turns. Compared is the processor time (user and
system) of the whole process up to the end of the import, which a busy machine disturbs less than
the time on the clock; the median of the ratios of neighbours must stay below 1.05.
"""

import subprocess
import sys
from statistics import median

import pytest

pytestmark = pytest.mark.benchmark
ROUNDS, LIMIT = 15, 1.05
PROGRAM = "import {module}, time; print(time.process_time())"


def seconds(module):
    command = [sys.executable, "-c", PROGRAM.format(module=module)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_losses_cost_little_more_than_torch(capsys):
    modules = ("torch", "coefvq.losses")
    for module in modules:  # files into memory, byte code to disk
        seconds(module)
    ratios, torch_alone = [], []
    for turn in range(ROUNDS):
        order = modules[::-1] if turn % 2 else modules
        taken = {module: seconds(module) for module in order}
        ratios.append(taken["coefvq.losses"] / taken["torch"])
        torch_alone.append(taken["torch"])
    with capsys.disabled():
        print(
            f"\nimport coefvq.losses / import torch: {median(ratios):.3f} "
            f"({min(ratios):.3f}-{max(ratios):.3f}) of {median(torch_alone):.2f} s processor time"
        )
    assert median(ratios) <= LIMIT
