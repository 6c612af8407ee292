import dataclasses
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import OmegaConf
from small_models import FRAMES, random_batch, small_swin, small_trunk

from coefvq.modules.checkpoints import Pretrained
from coefvq.students.xvlm import XVLMStudent
from coefvq.teachers.df_xvlm import DFXVLM

CONF = Path(__file__).parents[2] / "conf"
FUSIONS = ["late_concat", "gated", "token", None]


def small_teacher(fusion, num_outputs=1, **changes):
    torch.manual_seed(0)
    if fusion is None:
        return DFXVLM(num_outputs, 5, **changes)
    return DFXVLM(num_outputs, 5, small_trunk(), FRAMES, fusion=fusion, **changes)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_dense_features_reach_the_logits(fusion):
    teacher, batch = small_teacher(fusion, 3).eval(), random_batch()
    other = dataclasses.replace(batch, privileged=batch.privileged + 3)
    logits = teacher(batch).logits
    assert logits.shape == (3, 3)
    assert (logits != teacher(other).logits).all()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_rest_reaches_them_where_there_is_a_trunk(fusion):
    teacher, batch = small_teacher(fusion).eval(), random_batch()
    other = dataclasses.replace(batch, frames=255 - batch.frames)
    assert torch.equal(teacher(batch).logits, teacher(other).logits) == (fusion is None)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_missing_values_and_neighbours_do_not_matter(fusion):
    teacher, batch = small_teacher(fusion).eval(), random_batch(4)
    junk = batch.privileged.masked_fill(~batch.privileged_mask, torch.nan)
    assert not batch.privileged_mask.all()
    logits = teacher(batch).logits
    assert torch.equal(logits, teacher(dataclasses.replace(batch, privileged=junk)).logits)
    alone = batch._map(lambda tensor: tensor[1:2])
    torch.testing.assert_close(logits[1:2], teacher(alone).logits)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_parameter_learns(fusion):
    teacher = small_teacher(fusion).train()
    teacher(random_batch()).logits.sum().backward()
    assert not [name for name, p in teacher.named_parameters() if p.grad is None]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_save_and_load_to_the_bit(tmp_path, fusion):
    teacher = small_teacher(fusion, 2, dropout=0.3, trunk_dropout=0.2).eval()
    again = DFXVLM.from_pretrained(teacher.save_pretrained(tmp_path / "teacher"))
    batch = random_batch()
    assert torch.equal(teacher(batch).logits, again(batch).logits)
    assert again.config == teacher.config
    assert again.config["num_privileged"] == 5


def test_fusions_in_closed_form():
    batch = random_batch()
    for fusion in ("late_concat", "gated"):
        teacher = small_teacher(fusion).eval()
        student = XVLMStudent(1, small_trunk(), FRAMES).eval()
        student.trunk.load_state_dict(teacher.trunk.state_dict())
        x = student(batch).features
        e = teacher.dense(batch.privileged, batch.privileged_mask)
        expected = torch.cat([x, e], -1)
        if fusion == "gated":
            expected = x + torch.sigmoid(teacher.gate(expected)) * e
        torch.testing.assert_close(teacher(batch).features, expected)


def test_trunk_dropout_hides_the_trunk_in_training_only():
    teacher, batch = small_teacher("late_concat", trunk_dropout=0.9), random_batch()
    width = teacher.trunk.features_width
    assert (teacher.train()(batch).features[:, :width] == 0).float().mean() > 0.7
    assert (teacher.train()(batch).features[:, width:] == 0).float().mean() < 0.1
    # The first clip has all its frames and sound; others have no deviation or are silent.
    assert (teacher.eval()(batch).features[0] != 0).all()


def test_learns_from_dense_features_alone():
    torch.manual_seed(0)
    values, teacher = torch.randn(300, 5), small_teacher(None)
    batch = dataclasses.replace(
        random_batch(300, size=16),
        privileged=values,
        privileged_mask=torch.ones(300, 5).bool(),
        labels=(values[:, 0] * values[:, 1] > 0).float(),
    )
    optimizer = torch.optim.AdamW(teacher.parameters(), 1e-2)
    for _ in range(150):
        loss = F.binary_cross_entropy_with_logits(teacher.train()(batch).logits, batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert ((teacher.eval()(batch).logits > 0) == (batch.labels > 0)).float().mean() > 0.95


def test_starts_from_pretrained_weights(tmp_path):
    torch.manual_seed(1)
    source = small_swin().build()
    source.swin.save_pretrained(tmp_path)
    trunk = small_trunk(vision=small_swin())
    teacher = DFXVLM(1, 5, trunk, FRAMES, pretrained=Pretrained(vision=str(tmp_path)))
    assert torch.equal(teacher.trunk.vision.swin.layernorm.weight, source.swin.layernorm.weight)
    name = "encoder.layers.1.blocks.1.attention.q_proj.weight"
    theirs, ours = source.swin.get_parameter(name), teacher.trunk.vision.swin.get_parameter(name)
    assert torch.equal(theirs, ours)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: small_teacher("late_concat")(random_batch().public()), "this batch has none"),
        (lambda: small_teacher(None)(random_batch().public()), "this batch has none"),
        (lambda: small_teacher("early"), "fusion 'early' is unknown; choose one of late_concat"),
        (lambda: DFXVLM(1, 0), "needs privileged features, got num_privileged=0"),
        (lambda: DFXVLM(1, 5, small_trunk()), "with a trunk needs frames"),
        (
            lambda: small_teacher(None)(random_batch(privileged=4)),
            "clips have 4 privileged features, the model reads 5",
        ),
    ],
)
def test_sentences(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def from_yaml(name, student="xvlm_tiny"):
    config = OmegaConf.create(
        {
            "runtime": {"num_outputs": 3, "num_privileged": 5, "vocab_size": 40},
            "student": OmegaConf.load(CONF / "student" / f"{student}.yaml"),
            "teacher": OmegaConf.merge(
                OmegaConf.load(CONF / "teacher" / "_common.yaml"),
                OmegaConf.load(CONF / "teacher" / f"{name}.yaml"),
            ),
        }
    )
    assert config.teacher.name == name
    assert config.teacher.checkpoint is None
    return config.teacher.inputs, instantiate(config.teacher.model)


def test_teachers_are_built_from_their_yaml():
    inputs, teacher = from_yaml("df_xvlm")
    assert inputs == "whole"
    assert isinstance(teacher, DFXVLM)
    assert teacher.trunk is not None
    assert teacher.config["num_outputs"] == 3
    inputs, teacher = from_yaml("dense")
    assert inputs == "whole"
    assert teacher.trunk is None
    inputs, teacher = from_yaml("xvlm")
    assert inputs == "public"
    assert isinstance(teacher, XVLMStudent)
    assert from_yaml("none") == ("public", None)


def test_base_teacher_is_built_from_its_yaml():
    with torch.device("meta"):
        _, teacher = from_yaml("df_xvlm", "xvlm_base")
    assert type(teacher.trunk.vision).__name__ == "SwinEncoder"
