import pytest
import torch

from coefvq.modules.fragments import FragmentConfig
from coefvq.modules.frames import FrameConfig
from coefvq.modules.vision import ConvEncoderConfig, SwinEncoderConfig
from coefvq.students.blind_quality import BlindQuality
from coefvq.students.load import load_student
from coefvq.types import Batch

CONV = ConvEncoderConfig(widths=(8, 8), width=8, residual_scales=2)
SWIN = SwinEncoderConfig(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=2)


def small(vision=CONV, frames=None, **options):
    torch.manual_seed(0)
    frames = frames or FragmentConfig(patch=4)
    return BlindQuality(vision, frames, width=8, label_range=(1, 5), **options)


def make_batch(clips=6, frames=4, side=42, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(
        0, 255, (clips, frames, 3, side, side), generator=generator, dtype=torch.uint8
    )
    mask = torch.arange(frames).expand(clips, frames) < 1 + torch.arange(clips)[:, None] % frames
    return Batch(tuple("abcdefgh"[:clips]), pixels, mask)


def part(batch, rows):
    return Batch(tuple(batch.ids[r] for r in rows), batch.frames[rows], batch.frame_mask[rows])


@pytest.mark.parametrize("vision", [CONV, SWIN], ids=["conv", "swin"])
def test_a_score_depends_on_its_clip_alone(vision):
    model, batch = small(vision).eval(), make_batch()
    with torch.no_grad():
        whole = model(batch).logits
        for rows in ([0], [5], [3, 1], [2, 4, 0]):
            assert torch.allclose(model(part(batch, rows)).logits, whole[rows], atol=1e-6, rtol=0)
        # Padding with frames that are not real, whatever is in them.
        more = torch.full((6, 3, 3, 42, 42), 77, dtype=torch.uint8)
        padded = Batch(
            batch.ids,
            torch.cat([batch.frames, more], 1),
            torch.cat([batch.frame_mask, torch.zeros(6, 3).bool()], 1),
        )
        assert torch.allclose(model(padded).logits, whole, atol=1e-6, rtol=0)
        assert torch.equal(model(batch).logits, whole)  # and the same every time
    assert len(set(whole.tolist())) == 6


def test_clips_of_any_length():
    model = small().eval()
    for frames in (1, 2, 9):
        assert torch.isfinite(model(make_batch(2, frames)).logits).all()


def test_bfloat16_says_nearly_the_same():
    model, batch = small().eval(), make_batch()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = model(batch).logits
    with torch.no_grad():
        full = model(batch).logits
    assert (half - full).abs().max() < 0.02 * 4


def test_an_untrained_model_is_near_the_middle_of_the_range():
    scores = small().eval()(make_batch()).logits
    assert ((scores > 0) & (scores < 6)).all()
    unbounded = BlindQuality(CONV, FragmentConfig(patch=4), width=8).eval()
    assert unbounded(make_batch()).logits.abs().max() < 3


def test_only_frames_are_read():
    import dataclasses

    model, batch = small().eval(), make_batch()
    told = dataclasses.replace(
        batch, privileged=torch.ones(6, 2), labels=torch.ones(6), input_ids=torch.ones(6, 2).long()
    )
    assert torch.equal(model(batch).logits, model(told).logits)


@pytest.mark.parametrize("vision", [CONV, SWIN], ids=["conv", "swin"])
@pytest.mark.parametrize("frames", [FragmentConfig(patch=4), FrameConfig(size=32, mode="resize")])
def test_a_saved_model_gives_the_same_scores(vision, frames, tmp_path):
    model = small(vision, frames, head_dropout=0.1, motion=False).eval()
    model.save_pretrained(tmp_path / "m")
    again = load_student(tmp_path / "m")
    assert isinstance(again, BlindQuality) and again.config == model.config
    assert torch.equal(again(make_batch()).logits, model(make_batch()).logits)


def test_it_learns_what_blur_looks_like():
    model = small().train()
    generator = torch.Generator().manual_seed(0)
    sharp = torch.randint(0, 255, (8, 2, 3, 28, 28), generator=generator, dtype=torch.uint8)
    blurred = torch.nn.functional.avg_pool2d(sharp.flatten(0, 1).float(), 3, 1, 1)
    frames = torch.cat([sharp, blurred.to(torch.uint8).unflatten(0, (8, 2))])
    batch = Batch(tuple(str(i) for i in range(16)), frames, torch.ones(16, 2).bool())
    labels = torch.tensor([5.0] * 8 + [1.0] * 8)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(40):
        loss = (model(batch).logits - labels).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.3


def test_other_tasks_are_refused():
    with pytest.raises(ValueError, match="one score per clip, but the task has 3 outputs"):
        small(num_outputs=3)


def test_pretrained_swin(tmp_path):
    other = small(SWIN)
    other.vision.swin.save_pretrained(tmp_path / "swin")
    torch.manual_seed(7)
    model = BlindQuality(SWIN, FragmentConfig(patch=4), width=8, pretrained=str(tmp_path / "swin"))
    expected = other.vision.swin.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in model.vision.swin.state_dict().items())


@pytest.mark.parametrize(("name", "most"), [("tiny", 0.5e6), ("small", 10e6), ("base", 30e6)])
def test_sizes(name, most):
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    from coefvq import config

    cfg = OmegaConf.load(config.folder("conf") / "student" / f"blind_{name}.yaml")
    runtime = {"num_outputs": 1, "label_range": [1, 5]}
    model = instantiate(OmegaConf.create({"runtime": runtime, "student": cfg}).student)
    count = sum(p.numel() for p in model.parameters())
    assert 0.2 * most < count <= most


def test_a_score_by_levels_is_their_expectation(tmp_path):
    model, batch = small(levels=5).eval(), make_batch()
    output = model(batch)
    assert output.level_logits.shape == (6, 5)
    want = output.level_logits.softmax(-1) @ torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0])
    torch.testing.assert_close(output.logits, want)
    assert small()(make_batch()).level_logits is None
    model.save_pretrained(tmp_path / "m")
    again = BlindQuality.from_pretrained(tmp_path / "m").eval()
    assert torch.equal(again(batch).logits, output.logits)
    for options in ({"levels": 1, "label_range": (1, 5)}, {"levels": 5}):
        with pytest.raises(ValueError, match="two or more levels are worth"):
            BlindQuality(CONV, FragmentConfig(patch=4), width=8, **options)


def test_the_same_file_has_the_same_score_ten_times_and_in_three_batch_sizes():
    model, batch = small().eval(), make_batch(8)
    with torch.no_grad():
        whole = model(batch).logits
        for _ in range(10):
            assert torch.equal(model(batch).logits, whole)
        for size in (1, 3, 4):
            rows = [list(range(8))[i : i + size] for i in range(0, 8, size)]
            scores = torch.cat([model(part(batch, r)).logits for r in rows])
            assert torch.allclose(scores, whole, atol=4e-6, rtol=0)
