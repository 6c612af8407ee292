"""SlowFast: pytorchvideo's names and shapes, what each pathway sees, loading by name."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from coefvq.modules.motion.encoder import MotionConfig, open_motion
from coefvq.modules.motion.slowfast import SlowFast, load_slowfast

TINY = MotionConfig(frames=8, size=32, width=16, depths=(1, 2, 1, 1))

# Of pytorchvideo's `slowfast_r50`; shapes and strides say all of an architecture.
PUBLISHED = {
    "blocks.0.multipathway_blocks.0.conv.weight": (64, 3, 1, 7, 7),
    "blocks.0.multipathway_blocks.1.conv.weight": (8, 3, 5, 7, 7),
    "blocks.0.multipathway_blocks.1.norm.running_mean": (8,),
    "blocks.0.multipathway_fusion.conv_fast_to_slow.weight": (16, 8, 7, 1, 1),
    "blocks.0.multipathway_fusion.norm.weight": (16,),
    "blocks.1.multipathway_blocks.0.res_blocks.0.branch1_conv.weight": (256, 80, 1, 1, 1),
    "blocks.1.multipathway_blocks.0.res_blocks.0.branch1_norm.weight": (256,),
    "blocks.1.multipathway_blocks.1.res_blocks.2.branch2.conv_a.weight": (8, 32, 3, 1, 1),
    "blocks.2.multipathway_blocks.0.res_blocks.0.branch2.conv_a.weight": (128, 320, 1, 1, 1),
    "blocks.3.multipathway_blocks.0.res_blocks.5.branch2.conv_a.weight": (256, 1024, 3, 1, 1),
    "blocks.3.multipathway_fusion.conv_fast_to_slow.weight": (256, 128, 7, 1, 1),
    "blocks.4.multipathway_blocks.0.res_blocks.0.branch2.conv_b.weight": (512, 512, 1, 3, 3),
    "blocks.4.multipathway_blocks.1.res_blocks.2.branch2.norm_c.bias": (256,),
}


def chunks(count=3, pictures=8, size=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (count, pictures, 3, size, size)
    return torch.randint(256, shape, generator=generator, dtype=torch.uint8)


def make(seed=0, config=TINY):
    torch.manual_seed(seed)
    network = open_motion(config).eval()
    with torch.no_grad():
        for name, value in network.named_buffers():
            if "running_var" in name:
                value.uniform_(0.5, 1.5)
            elif "running_mean" in name:
                value.normal_(0.0, 0.1)
    return network


def test_names_and_shapes_are_those_of_the_published_checkpoint():
    with torch.device("meta"):
        network = SlowFast(MotionConfig())
    own = network.state_dict()
    assert {name: tuple(own[name].shape) for name in PUBLISHED} == PUBLISHED
    # pytorchvideo's has two more, the classifier's.
    assert len(own) == 660 and network.width == 2304
    # 34.57 M with a classifier of 400 classes of 2304 numbers and a bias.
    parameters = sum(p.numel() for p in network.parameters())
    assert parameters == 33_644_488 and round((parameters + 400 * 2305) / 1e6, 2) == 34.57
    assert "blocks.4.multipathway_fusion.norm.weight" not in own


def test_it_gives_the_means_of_both_pathways():
    answer = make()(chunks())
    assert answer.shape == (3, 16 * 32 + 2 * 32) and (answer > 0).float().mean() > 0.1
    # Of another size of pictures and another number of them, too.
    assert make()(chunks(pictures=5, size=24)).shape == (3, 576)


def test_the_slow_pathway_sees_every_fourth_picture():
    network, seen = make(), []
    network.blocks[0].multipathway_blocks[0].register_forward_hook(lambda m, x, y: seen.append(x))
    network.blocks[0].multipathway_blocks[1].register_forward_hook(lambda m, x, y: seen.append(x))
    network(chunks())
    (slow,), (fast,) = seen
    assert torch.equal(slow, fast[:, :, [0, 7]])  # the ends of a straight line from 0 to 7


def test_motion_is_seen():
    network = make()
    still = chunks(1)[:, :1].expand(-1, 8, -1, -1, -1)
    moving = torch.stack([still[:, k].roll(3 * k, -1) for k in range(8)], dim=1)
    still, moving = network(still), network(moving)
    assert (still - moving).norm() > 0.01 * still.norm()


def test_a_chunk_is_the_same_in_any_batch():
    network, batch = make(), chunks(4)
    alone = torch.cat([network(row[None]) for row in batch])
    torch.testing.assert_close(network(batch), alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", ["published", "plain", "safetensors"])
def test_weights_are_loaded_by_name(form, tmp_path):
    source, classifier = make(1), {"blocks.6.proj.weight": torch.zeros(400, 576)}
    state = {**source.state_dict(), **classifier}
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pyth")
    if form == "safetensors":
        save_file(state, path)
    else:
        torch.save({"model_state": state} if form == "published" else state, path)
    network = make(0)
    report = load_slowfast(network, path)
    assert report.unused == ("blocks.6.proj.weight",)
    assert set(report.loaded) == source.state_dict().keys()
    assert torch.equal(network(chunks()), source(chunks()))
    named = open_motion(MotionConfig(**{**vars(TINY), "model_name_or_path": str(path)})).eval()
    assert torch.equal(named(chunks()), source(chunks()))
    assert named.config == TINY


def test_what_does_not_fit_is_refused(tmp_path):
    network = make()
    state = network.state_dict()
    torch.save({k: v for k, v in state.items() if "conv_c" not in k}, tmp_path / "less.pyth")
    with pytest.raises(ValueError, match=r"conv_c.weight has shape None, the network's is"):
        load_slowfast(network, tmp_path / "less.pyth")
    torch.save(make(config=MotionConfig(**{**vars(TINY), "width": 8})).state_dict(), tmp_path / "n")
    with pytest.raises(ValueError, match="make width, depths, alpha and beta those"):
        load_slowfast(network, tmp_path / "n")
    with pytest.raises(ValueError, match="is not a file"):
        load_slowfast(network, tmp_path / "gone.pyth")
    torch.save({"model_state": 3}, tmp_path / "three.pyth")
    with pytest.raises(ValueError, match="is not a table of tensors"):
        load_slowfast(network, tmp_path / "three.pyth")


class _Code:
    def __reduce__(self):
        return print, ("this must not run",)


def test_a_file_that_would_run_code_is_refused(tmp_path, capsys):
    (tmp_path / "bad.pyth").write_bytes(pickle.dumps({"model_state": _Code()}, protocol=2))
    with pytest.raises(ValueError, match="is not unpickled"):
        load_slowfast(make(), tmp_path / "bad.pyth")
    assert capsys.readouterr().out == ""
