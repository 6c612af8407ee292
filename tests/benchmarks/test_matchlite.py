"""Pairs per second of MatchLite once the features of its clips are kept.

    pytest -m benchmark -s tests/benchmarks/test_matchlite.py

Printed: pairs per second of the pair module alone (clips prepared), of `score` (clips mixed for
each pair), and of encoding: how many pairs cost as much as reading one clip. Random weights.
"""

import time
from statistics import median

import pytest
import torch
from small_matchlite import small_encoders
from torch.utils.flop_counter import FlopCounterMode

from coefvq.modules.clip_encoders import ClipEncoderConfig, ClipFeatures
from coefvq.modules.decision import DecisionConfig
from coefvq.modules.whisper import WhisperEncoderConfig
from coefvq.students.matchlite import MatchLite, MatchLiteConfig
from coefvq.students.pair_scorer import prepare_clips, score_pairs
from coefvq.types import Batch

pytestmark = pytest.mark.benchmark
ROUNDS = 3


def tiny():
    decision = DecisionConfig(width=16, depths=(1, 1), stem="small")
    return MatchLiteConfig(
        small_encoders(tokens=16, cells=2), width=32, heads=4, map_channels=8, decision=decision
    )


def random_features(model, clips):
    tokens = model.shape.encoders.tokens
    columns = {}
    for name, width in model.encoder.widths.items():
        columns[name] = torch.randn(clips, tokens, width)
        columns[f"{name}_mask"] = torch.ones(clips, tokens, dtype=torch.bool)
    return ClipFeatures(**columns)


def seconds(function):
    function()
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return median(times)


@pytest.mark.parametrize(("name", "config", "clips"), [("tiny", tiny(), 32), ("base", None, 8)])
def test_pairs_per_second(name, config, clips):
    model = MatchLite(config or MatchLiteConfig(), 12).eval()
    features = random_features(model, clips)
    pairs = clips**2
    with torch.no_grad():
        prepared = prepare_clips(model, features)
        ready = seconds(lambda: score_pairs(model, prepared, prepared)) / pairs
        anew = seconds(lambda: model.score(features, features)) / clips
        with FlopCounterMode(display=False) as counter:
            model.compare(prepared[:1], prepared[:1])
    print(
        f"\n{name}: {1 / ready:,.0f} pairs/s from prepared clips, {1 / anew:,.0f} pairs/s mixing "
        f"both clips for each pair; {counter.get_total_flops() / 1e9:.3f} GFLOP per pair, "
        f"{torch.get_num_threads()} threads"
    )
    assert ready < anew


def test_compute_of_the_published_size():
    """FLOPs by torch's counter: 16 frames, 64 tokens, 30 s of sound; 10 s cut short."""
    for window, mel_frames in (("full", 3000), ("clip", 1000)):
        encoders = ClipEncoderConfig(audio=WhisperEncoderConfig(window=window))
        with torch.device("meta"):
            model = MatchLite(MatchLiteConfig(encoders), 12).eval()
        counts = {}
        with torch.no_grad():
            for part, args in (
                ("vision", (torch.empty(16, 3, 224, 224, device="meta"),)),
                ("text", (torch.ones(1, 64, dtype=torch.long, device="meta"),)),
            ):
                with FlopCounterMode(display=False) as counter:
                    getattr(model.encoder, part)(*args)
                counts[part] = counter.get_total_flops()
            tokens = mel_frames // 2 if window == "clip" else 1500
            audio = torch.empty(1, tokens, 768, device="meta")
            with FlopCounterMode(display=False) as counter:
                whisper = model.encoder.audio.encoder
                whisper.conv2(whisper.conv1(torch.empty(1, 80, 2 * tokens, device="meta")))
                for layer in whisper.layers:
                    audio = layer(audio, None)
            counts["audio"] = counter.get_total_flops()
        total = 2 * sum(counts.values())
        shares = {part: f"{2 * value / 1e12:.3f}" for part, value in counts.items()}
        print(f"\n{window}: encoders of both clips {total / 1e12:.3f} TFLOP, {shares}")
        assert counts["audio"] > 0


def test_a_batch_is_what_is_timed():
    """The tiny size end to end, so that the figures above have something to stand beside."""
    model = MatchLite(tiny(), 12).eval()
    clips = 16
    batch = Batch(
        tuple(map(str, range(clips))),
        torch.randint(256, (clips, 8, 3, 64, 64), dtype=torch.uint8),
        torch.ones(clips, 8, dtype=torch.bool),
        torch.randint(5, 40, (clips, 12)),
        torch.ones(clips, 12, dtype=torch.bool),
        torch.randn(clips, 8, 200),
        torch.ones(clips, 200, dtype=torch.bool),
    )
    with torch.no_grad():
        encoding = seconds(lambda: model.encode(batch)) / clips
        features = model.encode(batch)
        prepared = prepare_clips(model, features)
        pair = seconds(lambda: score_pairs(model, prepared, prepared)) / clips**2
    print(f"\ntiny: reading a clip costs as much as {encoding / pair:.1f} pairs")
    assert encoding > 0
