import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import OmegaConf
from small_models import FRAMES, random_batch, small_swin, small_trunk

from coefvq.modules.checkpoints import Pretrained
from coefvq.modules.frames import FrameConfig, thin_frames
from coefvq.modules.pretrained import load_metadata
from coefvq.students.xvlm import XVLMStudent

CONF = Path(__file__).parents[2] / "conf" / "student"


def small_student(num_outputs=1, **changes):
    torch.manual_seed(0)
    return XVLMStudent(num_outputs, small_trunk(**changes), FRAMES)


def from_yaml(name, **runtime):
    config = {"runtime": runtime, "student": OmegaConf.load(CONF / f"{name}.yaml")}
    return instantiate(OmegaConf.create(config).student)


@pytest.mark.parametrize("num_outputs", [1, 4])
def test_shapes(num_outputs):
    output = small_student(num_outputs)(random_batch(3))
    assert output.logits.shape == ((3,) if num_outputs == 1 else (3, 4))
    assert output.features.shape == (3, 2 * 16 + 4 * 24)


def test_privileged_features_are_unreachable():
    student, batch = small_student().eval(), random_batch()
    other = dataclasses.replace(batch, privileged=batch.privileged + 9, labels=1 - batch.labels)
    served = dataclasses.replace(batch, privileged=None, privileged_mask=None, labels=None)
    logits = student(batch.public()).logits
    for changed in (batch, other, other.public(), served):
        assert torch.equal(student(changed).logits, logits)


def test_crops_are_random_in_training_only():
    student, batch = small_student().train(), random_batch()
    assert not torch.equal(student(batch).logits, student(batch).logits)
    student.eval()
    assert torch.equal(student(batch).logits, student(batch).logits)


@pytest.mark.parametrize("trunk", [small_trunk(), small_trunk(vision=small_swin(), sound=None)])
def test_save_and_load_to_the_bit(tmp_path, trunk):
    student = XVLMStudent(3, trunk, FrameConfig(size=32, mode="resize"), head_dropout=0.2).eval()
    folder = student.save_pretrained(tmp_path / "student", metadata={"threshold": 0.4})
    again, batch = XVLMStudent.from_pretrained(folder), random_batch()
    assert torch.equal(again(batch).logits, student(batch).logits)
    assert again.config == student.config
    assert load_metadata(folder) == {"threshold": 0.4}


def test_another_class_count_is_refused(tmp_path):
    folder = small_student(3).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"num_outputs=3 \(expected 5\)"):
        small_student(5).load_pretrained(folder)


def test_loads_in_a_process_that_knows_nothing_else(tmp_path):
    """The folder is all that serving needs."""
    student, batch = small_student().eval(), random_batch()
    student.save_pretrained(tmp_path)
    code = (
        "import sys, torch; from coefvq.students.xvlm import XVLMStudent\n"
        "from coefvq.types import Batch\n"
        "student = XVLMStudent.from_pretrained(sys.argv[1])\n"
        "frames = torch.full((1, 2, 3, 24, 24), 7, dtype=torch.uint8)\n"
        "batch = Batch(ids=('a',), frames=frames, frame_mask=torch.ones(1, 2).bool())\n"
        "print(student(batch).logits.item())\n"
        "assert 'lightning' not in sys.modules and 'hydra' not in sys.modules\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    frames = torch.full((1, 2, 3, 24, 24), 7, dtype=torch.uint8)
    silent = {"input_ids": None, "text_mask": None, "audio": None, "audio_mask": None}
    batch = dataclasses.replace(batch, frames=frames, frame_mask=torch.ones(1, 2).bool(), **silent)
    assert float(run.stdout) == pytest.approx(student(batch).logits.item(), abs=1e-6)


def test_pretrained_weights_arrive(tmp_path):
    torch.manual_seed(1)
    source = small_swin().build()
    source.swin.save_pretrained(tmp_path)
    trunk = small_trunk(vision=small_swin())
    student = XVLMStudent(1, trunk, FRAMES, pretrained=Pretrained(vision=str(tmp_path)))
    weight = student.trunk.vision.swin.encoder.layers[0].blocks[0].mlp.fc1.weight
    assert torch.equal(weight, source.swin.encoder.layers[0].blocks[0].mlp.fc1.weight)


def learn(student, batch, steps, lr=3e-3):
    optimizer = torch.optim.AdamW(student.train().parameters(), lr)
    for _ in range(steps):
        loss = F.binary_cross_entropy_with_logits(student(batch).logits, batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return student.eval()


def right(student, batch):
    with torch.no_grad():
        return ((student(batch).logits > 0) == (batch.labels > 0)).float().mean().item()


def test_overfits_16_samples():
    batch = random_batch(16)
    student = small_student()
    assert 1 <= batch.labels.sum() <= 15
    assert right(learn(student, batch, 60), batch) == 1.0


def planted(kind, clips=256, seed=0):
    """A batch whose label is in one modality, and nothing of it in the others."""
    torch.manual_seed(seed)
    batch = random_batch(clips, size=20)
    labels = (torch.rand(clips) < 0.5).float()
    frames, ids, audio = batch.frames.float(), batch.input_ids % 20 + 5, batch.audio * 0.3
    if kind == "blur":
        blurred = F.avg_pool2d(frames.flatten(0, 2)[:, None], 3, 1, 1).view_as(frames)
        frames = torch.where(labels.view(-1, 1, 1, 1, 1) > 0, blurred, frames * 0.3 + 85)
    elif kind == "loudness":
        audio = audio + 0.5 * labels.view(-1, 1, 1)
    else:
        ids[:, 1] = torch.where(labels > 0, 30, ids[:, 1])
    return dataclasses.replace(
        batch,
        frames=frames.byte(),
        input_ids=ids,
        text_mask=torch.ones_like(batch.text_mask),
        audio=audio,
        audio_mask=torch.ones_like(batch.audio_mask),
        labels=labels,
    )


@pytest.mark.parametrize("kind", ["blur", "loudness", "word"])
def test_learns_from_each_modality(kind):
    student = learn(small_student(), planted(kind, clips=128), 40)
    assert right(student, planted(kind, seed=1)) > 0.9


def test_tiny_is_built_from_its_yaml():
    student = from_yaml("xvlm_tiny", num_outputs=5, vocab_size=300)
    assert student.head.num_outputs == 5
    assert student.trunk.config.vocab_size == 300
    assert sum(p.numel() for p in student.parameters()) < 1e6


def test_base_is_built_from_its_yaml():
    with torch.device("meta"):
        student = from_yaml("xvlm_base", num_outputs=1, vocab_size=30_522)
    assert student.trunk.config.pool == "text"
    assert student.trunk.sound is None
    assert sum(p.numel() for p in student.parameters()) == pytest.approx(216e6, rel=0.02)


def test_a_light_student_reads_some_of_the_frames(tmp_path):
    whole, batch = small_student().eval(), random_batch()
    light = XVLMStudent(1, small_trunk(), FRAMES, num_frames=1).eval()
    light.load_state_dict(whole.state_dict())
    frames, mask = thin_frames(batch.frames, batch.frame_mask, 1)
    fewer = dataclasses.replace(batch, frames=frames, frame_mask=mask)
    assert torch.equal(light(batch).logits, whole(fewer).logits)
    assert not torch.equal(light(batch).logits, whole(batch).logits)
    assert torch.equal(light(fewer).logits, whole(fewer).logits)
    light.save_pretrained(tmp_path)
    again = XVLMStudent.from_pretrained(tmp_path)
    assert again.num_frames == 1 and torch.equal(again(batch).logits, light(batch).logits)


def test_a_student_saved_before_it_could_read_fewer_frames_comes_back(tmp_path):
    student, batch = small_student().eval(), random_batch()
    student.save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    del content["config"]["num_frames"]
    (tmp_path / "config.json").write_text(json.dumps(content))
    again = XVLMStudent.from_pretrained(tmp_path)
    assert torch.equal(again(batch).logits, student(batch).logits)
    small_student().load_pretrained(tmp_path)


def test_no_frames_at_all_is_refused():
    with pytest.raises(ValueError, match="num_frames must be at least 1, or None for all, got 0"):
        XVLMStudent(1, small_trunk(), FRAMES, num_frames=0)
