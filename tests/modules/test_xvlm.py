import dataclasses
import json

import pytest
import torch
from small_models import random_batch, small_swin, small_trunk

from coefvq.modules.xvlm import XVLM, XVLMConfig


def encode(trunk, batch, **changes):
    batch = dataclasses.replace(batch, **changes)
    return trunk(
        batch.frames.float() / 128 - 1,
        batch.frame_mask,
        batch.input_ids,
        batch.text_mask,
        batch.audio,
        batch.audio_mask,
    )


@pytest.fixture
def batch():
    return random_batch(4, frames=3, size=32)


@pytest.fixture(params=["text", "all", "swin", "silent"])
def trunk(request):
    torch.manual_seed(0)
    kinds = {
        "text": {"pool": "text"},
        "all": {},
        "swin": {"vision": small_swin(), "pool": "text"},
        "silent": {"sound": None},
    }
    config = small_trunk(**kinds[request.param])
    trunk = XVLM(config).eval()
    torch.nn.init.normal_(trunk.frame_position)
    return trunk


def test_published_size():
    with torch.device("meta"):
        trunk = XVLM(XVLMConfig())
    parameters = {
        name: sum(p.numel() for p in part.parameters()) / 1e6
        for name, part in trunk.named_children()
    }
    # Swin-B 86.7 M; BERT-base's embeddings 23.8 M and 12 layers of 7.09 M; each of the six
    # cross-attentions 2.76 M (keys and values read 1024 channels).
    assert parameters["vision"] == pytest.approx(86.7, rel=0.005)
    assert parameters["text"] == pytest.approx(23.8 + 6 * 7.09, rel=0.005)
    assert parameters["cross_modal"] == pytest.approx(6 * (7.09 + 2.76), rel=0.005)
    # The published 216 M count the pretraining heads, too.
    assert sum(parameters.values()) == pytest.approx(216, rel=0.03)


def test_width_of_the_features(trunk, batch):
    assert encode(trunk, batch).shape == (4, trunk.features_width)


def test_padding_invariance(trunk, batch):
    """What lies under any of the masks does not matter."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randint(256, batch.frames.shape, generator=generator, dtype=torch.uint8)
    other = dataclasses.replace(
        batch,
        frames=torch.where(batch.frame_mask[:, :, None, None, None], batch.frames, noise),
        input_ids=torch.where(batch.text_mask, batch.input_ids, 39),
        audio=torch.where(batch.audio_mask[:, None], batch.audio, 77.0),
    )
    assert not torch.equal(other.frames, batch.frames)
    torch.testing.assert_close(encode(trunk, batch), encode(trunk, other))


def test_padding_can_be_left_out(trunk, batch):
    """One clip with its padding, and the same clip without it."""
    padded = encode(trunk, batch)[1]
    bare = encode(
        trunk,
        batch,
        frames=batch.frames[1:2, :2],
        frame_mask=batch.frame_mask[1:2, :2],
        input_ids=batch.input_ids[1:2, :3],
        text_mask=batch.text_mask[1:2, :3],
        audio=batch.audio[1:2],
        audio_mask=batch.audio_mask[1:2],
    )[0]
    assert batch.text_mask[1].sum() == 3
    torch.testing.assert_close(padded, bare)


def test_batch_invariance(trunk, batch):
    together = encode(trunk, batch)
    for i in range(4):
        alone = encode(trunk, batch._map(lambda tensor, i=i: tensor[i : i + 1]))
        torch.testing.assert_close(together[i : i + 1], alone)


def test_silent_clips_equal_clips_without_sound(trunk, batch):
    silent = encode(trunk, batch, audio_mask=torch.zeros_like(batch.audio_mask))
    assert silent.isfinite().all()
    torch.testing.assert_close(silent, encode(trunk, batch, audio=None, audio_mask=None))


def test_every_input_reaches_the_features(trunk, batch):
    before = encode(trunk, batch)[0]
    frames, ids = batch.frames.clone(), batch.input_ids.clone()
    frames[0, 0] = 255 - frames[0, 0]
    ids[0, 1] = (ids[0, 1] - 4) % 35 + 5
    assert not torch.allclose(before, encode(trunk, batch, frames=frames)[0])
    assert not torch.allclose(before, encode(trunk, batch, input_ids=ids)[0])
    louder = encode(trunk, batch, audio=batch.audio + 1)[0]
    assert torch.allclose(before, louder) == (trunk.sound is None)


def test_without_text_the_query_is_the_cls_token(trunk, batch):
    cls = torch.full((4, 1), trunk.config.cls_token_id)
    bare = encode(trunk, batch, input_ids=None, text_mask=None)
    torch.testing.assert_close(bare, encode(trunk, batch, input_ids=cls, text_mask=None))


def test_extra_tokens_join_the_memory(batch):
    trunk = XVLM(small_trunk(sound=None, pool="text")).eval()
    pixels = batch.frames.float() / 255
    extra = torch.randn(4, 1, trunk.memory_width)
    with_extra = trunk(pixels, batch.frame_mask, extra_tokens=extra)
    assert not torch.allclose(with_extra, trunk(pixels, batch.frame_mask))


def test_every_parameter_learns(batch):
    """Otherwise DDP waits for gradients that never come."""
    trunk = XVLM(small_trunk()).train()
    encode(trunk, batch).square().sum().backward()
    without = [name for name, p in trunk.named_parameters() if p.grad is None]
    assert not without


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_bf16_weights_and_autocast_stay_near_float32(trunk, batch, dtype):
    expected = encode(trunk, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.float32):
        trunk.to(dtype)
        given = trunk(
            (batch.frames.float() / 128 - 1).to(trunk.dtype),
            batch.frame_mask,
            batch.input_ids,
            batch.text_mask,
            batch.audio,
            batch.audio_mask,
        )
    assert (given.float() - expected).norm() < 0.03 * expected.norm()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inductor's own
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_equals_eager(batch, backend):
    trunk = XVLM(small_trunk()).eval()
    compiled = torch.compile(trunk, backend=backend)
    torch.testing.assert_close(encode(compiled, batch), encode(trunk, batch))


@pytest.mark.parametrize(
    "config",
    [small_trunk(), small_trunk(vision=small_swin(), sound=None), XVLMConfig()],
    ids=["conv", "swin", "base"],
)
def test_config_goes_through_json(config):
    assert XVLMConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_another_vision_encoder_can_be_plugged_in_but_not_saved(batch):
    @dataclasses.dataclass(frozen=True)
    class Mean:
        def build(self):
            encoder = torch.nn.Module()
            encoder.width = 3
            encoder.forward = lambda pixels: pixels.mean((2, 3))[:, None]
            return encoder

    config = small_trunk(vision=Mean())
    assert encode(XVLM(config), batch).shape == (4, 2 * 16 + 4 * 3)
    with pytest.raises(ValueError, match="vision Mean cannot be saved"):
        config.to_dict()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: small_trunk(pool="mean"), "pool 'mean' is unknown; choose one of text, all"),
        (lambda: small_trunk(heads=3), "heads=3 must divide width=16"),
        (lambda: small_trunk(cls_token_id=40), "cls_token_id=40 is outside the vocabulary of 40"),
        (
            lambda: encode(XVLM(small_trunk(max_frames=2)), random_batch(frames=3)),
            "clips have 3 frames, the model takes 2",
        ),
    ],
)
def test_sentences(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_no_text_at_all_needs_no_vocabulary():
    trunk = XVLM(small_trunk(vocab_size=0))
    assert encode(trunk, random_batch(), input_ids=None, text_mask=None).isfinite().all()
