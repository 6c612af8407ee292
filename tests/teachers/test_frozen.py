import pytest
import torch
from small_models import FRAMES, random_batch, small_trunk
from torch import nn

from coefvq.students.xvlm import XVLMStudent
from coefvq.teachers.df_xvlm import DFXVLM
from coefvq.teachers.frozen import FrozenTeacher
from coefvq.types import TeacherOutput


@pytest.fixture(params=["student", "privileged"])
def module(request):
    torch.manual_seed(0)
    if request.param == "student":
        return XVLMStudent(1, small_trunk(dropout=0.5), FRAMES).train()
    return DFXVLM(1, 5, small_trunk(dropout=0.5), FRAMES).train()


def test_answers_alike_each_time_without_gradients(module):
    teacher, batch = FrozenTeacher(module), random_batch()
    output = teacher(batch)
    assert isinstance(output, TeacherOutput)
    assert torch.equal(output.logits, teacher(batch).logits)
    assert torch.equal(output.features, teacher(batch).features)
    assert not output.logits.requires_grad
    assert not output.features.requires_grad
    assert not any(p.requires_grad for p in module.parameters())


def test_outputs_can_stand_in_a_product_that_is_differentiated(module):
    """Tensors made under inference_mode cannot."""
    output, x = FrozenTeacher(module)(random_batch()), torch.ones(3, requires_grad=True)
    (x * output.logits).square().sum().backward()
    assert x.grad.isfinite().all()


def test_its_weights_belong_to_no_module(module):
    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.teacher = FrozenTeacher(module)

    assert not list(Holder().parameters())
    assert not Holder().state_dict()


def test_follows_the_device_of_the_batch():
    class Echo(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, batch):
            return TeacherOutput(self.weight * batch.frames.float().mean((1, 2, 3, 4)))

    batch = random_batch()
    teacher = FrozenTeacher(Echo())
    output = teacher(batch)
    assert output.logits.device.type == "cpu"
    assert output.features is None
    assert teacher(batch.to("meta")).logits.device.type == "meta"
