"""Video transformers of transformers as temporal encoders, random and from folders."""

import dataclasses

import pytest
import torch
from transformers import BertConfig, VideoMAEForPreTraining

from coefvq.modules.motion.encoder import MotionConfig, open_motion

SMALL = MotionConfig(
    kind="videomae", frames=8, size=32, hidden=24, layers=2, heads=2, feedforward=48, patch_size=16
)
KINDS = ["videomae", "vjepa2"]


def chunks(count=3, pictures=8, size=32):
    generator = torch.Generator().manual_seed(0)
    shape = (count, pictures, 3, size, size)
    return torch.randint(256, shape, generator=generator, dtype=torch.uint8)


def make(kind, seed=0, **changes):
    torch.manual_seed(seed)
    return open_motion(dataclasses.replace(SMALL, kind=kind, **changes)).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_mean_of_what_transformers_gives(kind):
    network = make(kind)
    pixels = chunks().float() / 255
    mean, std = torch.tensor(network.mean), torch.tensor(network.std)
    pixels = (pixels - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    options = {"skip_predictor": True} if kind == "vjepa2" else {}
    want = network.model(pixels, **options).last_hidden_state.mean(1)
    torch.testing.assert_close(network(chunks()), want, rtol=1e-5, atol=1e-5)
    assert network.width == 24 and want.shape == (3, 24)


@pytest.mark.parametrize("kind", KINDS)
def test_other_numbers_and_sizes_of_pictures_are_brought_to_its_own(kind):
    network = make(kind)
    assert network(chunks(2, 5, 40)).shape == (2, 24)
    # Sixteen pictures: the middles of eight pairs, counted up.
    many = chunks(2, 16)
    assert torch.equal(network(many), network(many[:, 1::2]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_is_opened_with_its_own_shape(kind, tmp_path):
    made = make(kind)
    made.model.save_pretrained(tmp_path)
    again = open_motion(MotionConfig(kind=kind, model_name_or_path=str(tmp_path))).eval()
    assert torch.equal(made(chunks()), again(chunks()))
    assert again.config == made.config and again.config.model_name_or_path is None
    rebuilt = open_motion(again.config)
    assert {k: v.shape for k, v in rebuilt.state_dict().items()} == {
        k: v.shape for k, v in made.state_dict().items()
    }


def test_a_pretraining_checkpoint_is_opened_too(tmp_path):
    made = make("videomae")
    whole = VideoMAEForPreTraining(made.model.config)
    whole.save_pretrained(tmp_path)
    again = open_motion(MotionConfig(kind="videomae", model_name_or_path=str(tmp_path)))
    ours, theirs = again.model.state_dict(), whole.videomae.state_dict()
    shared = [name for name in ours if name in theirs]
    assert len(shared) > 20 and all(torch.equal(ours[n], theirs[n]) for n in shared)


def test_another_model_is_refused(tmp_path):
    BertConfig().save_pretrained(tmp_path)
    for source in (tmp_path, tmp_path / "gone"):
        with pytest.raises(ValueError, match="could not be opened as videomae"):
            open_motion(MotionConfig(kind="videomae", model_name_or_path=str(source)))
