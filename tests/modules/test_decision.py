import pytest
import torch

from coefvq.modules.decision import BasicBlock, DecisionConfig, DecisionModule, make_norm


def test_default_is_resnet_34():
    """21.28 M of torchvision's ResNet-34 without its classifier, with three channels."""
    module = DecisionModule(DecisionConfig(), 3)
    assert sum(p.numel() for p in module.parameters()) == 21_797_672 - 512 * 1000 - 1000
    assert module.config.features_width == 512
    assert module.eval()(torch.randn(2, 3, 32, 32)).shape == (2, 512)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_small_stem_keeps_the_size_of_the_map(norm):
    config = DecisionConfig(width=6, depths=(1, 1), norm=norm, stem="small")
    module = DecisionModule(config, 5).eval()
    maps = torch.randn(3, 5, 8, 8)
    assert module(maps).shape == (3, 12)
    torch.testing.assert_close(module(maps[1:2])[0], module(maps)[1])


def test_group_norm_is_the_same_in_training():
    module = DecisionModule(DecisionConfig(8, (1,), norm="group", stem="small"), 5)
    maps = torch.randn(3, 5, 8, 8)
    assert torch.equal(module.train()(maps), module.eval()(maps))


def test_groups_divide_the_channels():
    assert make_norm("group", 6).num_groups == 6
    assert make_norm("group", 7).num_groups == 7
    assert make_norm("group", 22).num_groups == 2
    assert BasicBlock(4, 4)(torch.randn(2, 4, 3, 3)).shape == (2, 4, 3, 3)


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match="norm 'layer' is unknown; choose one of batch, group"):
        DecisionConfig(norm="layer")
    with pytest.raises(ValueError, match="stem 'big' is unknown"):
        DecisionConfig(stem="big")
    with pytest.raises(ValueError, match=r"at least one block per stage, got \(\)"):
        DecisionConfig(depths=())
    with pytest.raises(ValueError, match="norm 'layer' is unknown"):
        make_norm("layer", 8)
