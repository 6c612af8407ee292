"""What MatchLM costs at its published size, by torch's counter; nothing is computed.

pytest -m benchmark -s tests/benchmarks/test_matchlm.py
"""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from coefvq.modules.mllm.config import MLLMConfig
from coefvq.teachers.matchlm import MatchLM

pytestmark = pytest.mark.benchmark
FRAMES, TOKENS = 32, 196  # of both clips; of a frame after pooling 27 x 27 patches to 14 x 14


def counted(function, *args, **kwargs):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        function(*args, **kwargs)
    return counter.get_total_flops() / 1e12


def test_compute_of_the_published_size():
    """32 frames of a pair, 30 s of sound of each clip; 64 tokens of text."""
    with torch.device("meta"):
        model = MatchLM(MLLMConfig(lora=None), 12).eval()
        frames = torch.empty(FRAMES, 3, 384, 384)
        mel = torch.empty(2, 80, 3000)
        sequence = torch.empty(1, FRAMES * TOKENS + 64 + 2, 896)
        places = torch.arange(sequence.shape[1])[None]
    parts = {
        "vision": counted(model.mllm.backbone.tower, frames),
        "audio": counted(model.mllm.audio.tower.encoder, mel),
        "language": counted(
            model.mllm.backbone.language, inputs_embeds=sequence, position_ids=places
        ),
    }
    total = sum(parts.values())
    shares = ", ".join(f"{k} {v:.2f} ({v / total:.0%})" for k, v in parts.items())
    print(f"\nMatchLM: {total:.1f} TFLOP per pair: {shares}")
    assert 20 < total < 35
