"""One training step of MatchLM with LoRA against the same step with all weights trained.

    pytest -m benchmark -s tests/benchmarks/test_matchlm_step.py

Both in one process, rounds interleaved, so that a machine that slows down slows both. Printed:
milliseconds and peak memory of the tensors of a step (weights, gradients, AdamW's moments and what
backward keeps, counted by torch's profiler, not the process's), and the ratios LoRA / all. The
second size is there because at the tiny one most of the memory is activations, which LoRA keeps.
"""

import time
from statistics import median

import pytest
import torch
from small_mllm import random_pairs, small_audio, small_backbone, small_mllm
from torch.profiler import ProfilerActivity, profile

from coefvq.modules.mllm.config import LoraSettings
from coefvq.teachers.matchlm import MatchLM

pytestmark = pytest.mark.benchmark
ROUNDS, PAIRS = 9, 4


def shape(width, layers):
    sides = {"width": width, "layers": layers, "heads": 4, "feedforward": 2 * width}
    return {**sides, **{f"vision_{name}": value for name, value in sides.items()}}


SIZES = {"tiny": shape(64, 2), "larger": shape(256, 8)}
ALL = {"lora": None, "train_vision": True, "train_audio": True, "train_language": True}


class Step:
    """A model, its optimizer and a batch; calling it takes one step."""

    def __init__(self, size, **changes):
        torch.manual_seed(0)
        backbone = small_backbone(**size)
        audio = small_audio(mode="saliency")
        config = small_mllm(backbone=backbone, audio=audio, features_width=64, **changes)
        self.model = MatchLM(config, 3).train()
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-4)
        self.pairs = random_pairs(PAIRS, frames=4)

    def __call__(self):
        output = self.model(self.pairs)
        (output.logits.square().mean() + output.sub_logits.square().mean()).backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def seconds(self):
        start = time.perf_counter()
        self()
        return time.perf_counter() - start

    def peak(self):
        """Bytes of tensors at the fullest moment of a step, those that stay included."""
        stay = sum(p.nbytes for p in self.model.parameters())
        moments = (state for p in self.trained for state in self.optimizer.state[p].values())
        stay += sum(state.nbytes for state in moments if torch.is_tensor(state))
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            self()
        changes = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
        held = highest = 0
        for event in sorted(changes, key=lambda event: event.start_ns()):
            held += event.nbytes()
            highest = max(highest, held)
        return stay + highest


@pytest.mark.parametrize("name", SIZES)
def test_a_lora_step(name):
    size = SIZES[name]
    steps = {"LoRA": Step(size, lora=LoraSettings(dropout=0.0)), "all": Step(size, **ALL)}
    times = {kind: [] for kind in steps}
    for step in steps.values():
        step()  # AdamW makes its moments in the first step
    for _ in range(ROUNDS):
        for kind, step in steps.items():
            times[kind].append(step.seconds())
    ratio = median(a / b for a, b in zip(*times.values(), strict=True))
    spent = {kind: median(some) for kind, some in times.items()}
    held = {kind: step.peak() / 2**20 for kind, step in steps.items()}
    trained = {kind: sum(p.numel() for p in step.trained) for kind, step in steps.items()}
    whole = sum(p.numel() for p in steps["all"].model.parameters())
    print(
        f"\n{name} ({whole / 1e6:.2f} M weights, {PAIRS} pairs): "
        + "; ".join(
            f"{kind} trains {trained[kind] / 1e6:.2f} M, {1e3 * spent[kind]:.0f} ms, "
            f"{held[kind]:.1f} MiB"
            for kind in steps
        )
        + f"; LoRA / all: time {ratio:.2f}, memory {held['LoRA'] / held['all']:.2f}"
    )
    assert trained["LoRA"] < trained["all"] > 0.99 * whole
    assert held["LoRA"] < held["all"]  # counted, not timed
