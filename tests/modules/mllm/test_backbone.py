"""What all families share: opening, padding, refusals."""

import pytest
import torch
from small_mllm import small_backbone
from transformers import BertConfig

from coefvq.modules.mllm.backbone import Piece, families, open_backbone


def test_a_checkpoint_folder_is_opened_with_its_own_shape(tmp_path):
    torch.manual_seed(0)
    made = open_backbone(small_backbone()).eval()
    made.model.save_pretrained(tmp_path)
    opened = open_backbone(small_backbone(model_name_or_path=str(tmp_path), width=64)).eval()
    assert opened.plain_config() == made.plain_config()
    pixels = torch.randn(2, 3, 24, 24)
    ours, theirs = (b([b.encode_frames(pixels, [2])])[0] for b in (made, opened))
    assert torch.equal(ours, theirs)


def test_plain_values_make_the_same_shape():
    made = open_backbone(small_backbone())
    again = open_backbone(small_backbone(architecture=made.plain_config(), width=64))
    assert again.plain_config() == made.plain_config()
    assert again.width == 16


def test_padding_changes_nothing():
    torch.manual_seed(0)
    backbone = open_backbone(small_backbone()).eval()
    short, long = torch.randn(3, 16), torch.randn(9, 16)
    both, mask = backbone([[Piece(short)], [Piece(long[:4]), Piece(long[4:])]])
    alone, _ = backbone([[Piece(short)]])
    assert mask.sum(1).tolist() == [3, 9]
    torch.testing.assert_close(both[:1, :3], alone)


def test_names_of_families_are_those_of_the_config():
    from typing import get_args

    from coefvq.modules.mllm.config import Family

    assert {family.family for family in families()} == set(get_args(Family))


def test_checkpoints_that_are_not_there_or_of_no_family_are_refused(tmp_path):
    with pytest.raises(ValueError, match="could not be opened; give a folder"):
        open_backbone(small_backbone(model_name_or_path=str(tmp_path / "nowhere")))
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a bert; models here are llava_onevision"):
        open_backbone(small_backbone(model_name_or_path=str(tmp_path)))


def test_a_family_without_an_audio_tower_says_so():
    with pytest.raises(ValueError, match="llava_onevision has no audio tower"):
        open_backbone(small_backbone()).encode_audio(torch.zeros(1, 8, 4), torch.ones(1, 4).bool())
