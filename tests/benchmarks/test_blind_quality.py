"""What a blind quality model costs beside its teacher: `pytest -m benchmark -s`.

Clips of 4 s at 30 pictures a second, one thread, seconds of one core. Speed is that of the model's
own reading (fragments of so many frames, decode included) and of the model alone.
"""

import time

import av
import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaModel

from coefvq import config
from coefvq.data.reader import ClipReader, collate
from coefvq.modules.quality_encoder import QualityEncoder, QualityEncoderConfig
from coefvq.modules.spatiotemporal import ProjectorConfig, SpatioTemporalProjector
from coefvq.types import Batch, Clip, InputSpec

SIZES = {"540p": (960, 540), "1080p": (1920, 1080)}
STUDENTS = {"blind_tiny": (4, 126), "blind_small": (8, 224)}
"""Frames and `frame_size` of each."""
ROUNDS, CLIPS, QUESTION = 3, 4, 40


def write(path, width, height, pictures=120):
    """A moving pattern with grain, as x264 leaves it."""
    rng = np.random.default_rng(0)
    grain = rng.integers(0, 24, (height, width, 3), dtype=np.uint8)
    ramp = np.add.outer(np.arange(height), np.arange(width))[..., None]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for n in range(pictures):
            wave = ((ramp + 7 * n) // 3 % 200).astype(np.uint8)
            picture = av.VideoFrame.from_ndarray(wave + np.roll(grain, 5 * n, 1), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def student_of(name):
    cfg = config.OmegaConf.load(config.folder("conf") / "student" / f"{name}.yaml")
    cfg.num_outputs, cfg.label_range = 1, [1, 5]
    torch.manual_seed(0)
    return instantiate(cfg).eval()


def seconds(act):
    """Of a core; the least of a few."""
    found = []
    for _ in range(ROUNDS):
        start = time.process_time()
        act()
        found.append(time.process_time() - start)
    return min(found)


def cost(modules, act):
    """Millions of parameters, billions of multiplications and additions."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        act()
    parameters = sum(p.numel() for module in modules for p in module.parameters())
    return parameters / 1e6, counter.get_total_flops() / 1e9


def teacher_cost(frames=8):
    """LMM-VQA as published, without weights: on the meta device."""
    with torch.device("meta"):
        encoder = QualityEncoder(QualityEncoderConfig()).eval()
        llama = LlamaModel(LlamaConfig(
            vocab_size=128_256, hidden_size=4096, num_hidden_layers=32, num_attention_heads=32,
            num_key_value_heads=8, intermediate_size=14_336))  # fmt: skip
        projector = SpatioTemporalProjector(ProjectorConfig(), 1024, 2304, 4096)
        pixels = torch.zeros(frames, 3, 224, 224)
        chunks = torch.zeros(frames, 32, 3, 224, 224)
        tokens = torch.zeros(1, 258 + QUESTION, 4096)

        def act():
            encoder.spatial(pixels)
            encoder.motion.encode(chunks)
            llama(inputs_embeds=tokens)

        return cost([encoder, llama, projector], act)


@pytest.mark.benchmark
def test_a_blind_model_beside_its_teacher(tmp_path):
    torch.set_num_threads(1)
    for name, size in SIZES.items():
        write(tmp_path / f"{name}.mp4", *size)
    parameters, flops = teacher_cost()
    print(f"\nLMM-VQA, published size: {parameters:.0f} M parameters, {flops:.0f} GFLOP per clip")
    for name, (frames, side) in STUDENTS.items():
        model = student_of(name)
        reader = ClipReader(InputSpec(num_frames=frames, frame_size=side, fit="fragments",
                                      text_fields=(), audio=False))  # fmt: skip
        for size in SIZES:
            clip = Clip(size, tmp_path / f"{size}.mp4")
            batch = collate([reader.read(clip)])
            with torch.no_grad():
                read = seconds(lambda clip=clip, reader=reader: reader.read(clip))
                alone = seconds(lambda batch=batch, model=model: model(batch))
            both = f"{1 / (read + alone):.2f} clips/s, {1 / alone:.2f} without decoding"
            print(f"{name} {size}: {both}")
        own, work = cost([model], lambda batch=batch, model=model: model(batch))
        print(f"{name}: {own:.2f} M parameters, {work:.2f} GFLOP per clip")
        print(f"  the teacher has {parameters / own:.0f} and {flops / work:.0f} times as many")
        assert own < {"blind_tiny": 1, "blind_small": 10}[name] and flops > 100 * work


@pytest.mark.benchmark
@pytest.mark.parametrize("name", STUDENTS)
def test_the_same_clip_has_the_same_score(name):
    """Ten runs, three batch sizes, float32 and bfloat16."""
    model, (frames, side) = student_of(name), STUDENTS[name]
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (CLIPS, frames, 3, side, side), generator=draw, dtype=torch.uint8)
    batch = Batch(tuple("abcd"), pixels, torch.ones(CLIPS, frames, dtype=torch.bool))

    def scores(size):
        rows = [slice(i, i + size) for i in range(0, CLIPS, size)]
        parts = [Batch(batch.ids[r], batch.frames[r], batch.frame_mask[r]) for r in rows]
        return torch.cat([model(part).logits for part in parts])

    with torch.no_grad():
        full = {size: scores(size) for size in (1, 2, CLIPS)}
        runs = max((scores(2) - full[2]).abs().max().item() for _ in range(10))
        with torch.autocast("cpu", torch.bfloat16):
            half = {size: scores(size) for size in (1, 2, CLIPS)}
    points = 100 / 4
    sizes = max((s - full[1]).abs().max().item() for s in full.values()) * points
    halves = max((s - half[1]).abs().max().item() for s in half.values()) * points
    away = max((s - full[1]).abs().max().item() for s in half.values()) * points
    print(f"\n{name}, points of 100: ten runs {runs * points:g} apart, batch sizes {sizes:.1e}")
    print(f"  bf16: batch sizes {halves:.1e} apart, {away:.2f} from float32")
    assert runs == 0 and sizes < 1e-3 and away < 5
