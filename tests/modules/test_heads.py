import pytest
import torch
from torch import nn

from coefvq.modules.heads import TaskHead


def test_is_the_published_head():
    head, x = TaskHead(6, 3), torch.randn(4, 6)
    published = nn.Sequential(head.hidden, head.norm, nn.GELU(), head.output)
    torch.testing.assert_close(head(x), published(x))
    assert head.hidden.out_features == 12


def test_one_output_is_squeezed_even_for_one_clip():
    assert TaskHead(6, 1)(torch.zeros(1, 6)).shape == (1,)
    assert TaskHead(6, 2)(torch.zeros(1, 6)).shape == (1, 2)


def test_no_output_is_refused():
    with pytest.raises(ValueError, match="num_outputs=0"):
        TaskHead(6, 0)
