"""Both published projectors: how many tokens, of what, in which order."""

import dataclasses

import pytest
import torch

from coefvq.modules.quality_encoder import QualityFeatures
from coefvq.modules.spatiotemporal import ProjectorConfig, SpatioTemporalProjector

TOKENS, SPATIAL, MOTION, WIDTH = 5, 8, 6, 12


def make(kind="mean", motion=MOTION, seed=0):
    torch.manual_seed(seed)
    return SpatioTemporalProjector(
        ProjectorConfig(kind, heads=2, feedforward=16), SPATIAL, motion, WIDTH
    )


def features(clips=3, frames=4, motion=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    real = torch.arange(frames).expand(clips, -1) <= torch.arange(clips)[:, None]
    return QualityFeatures(
        torch.randn(clips, frames, TOKENS, SPATIAL, generator=generator),
        real,
        torch.randn(clips, frames, MOTION, generator=generator) if motion else None,
    )


def test_the_mean_has_one_token_more_than_a_frame():
    # 257 spatial tokens and one of motion are 258 at the published sizes.
    assert [len(clip) for clip in make()(features())] == [TOKENS + 1] * 3
    assert [len(clip) for clip in make(motion=None)(features(motion=False))] == [TOKENS] * 3


def test_the_mean_is_over_frames_before_the_transformer_layer():
    projector, given = make(), features()
    motion = projector.motion(given.motion[2, :3])
    want = torch.cat([given.spatial[2, :3].mean(0), motion.mean(0)[None]])
    torch.testing.assert_close(projector(given)[2], projector.out(projector.layer(want[None]))[0])
    # Averaged before, as a store keeps them, it is the same.
    count = given.frame_mask.sum(1).view(-1, 1, 1, 1)
    kept = (given.spatial * given.frame_mask[..., None, None]).sum(1, keepdim=True) / count
    averaged = dataclasses.replace(given, spatial=kept)
    for ours, theirs in zip(projector(averaged), projector(given), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_interleaved_tokens_are_frame_after_frame():
    projector, given = make("interleaved"), features()
    assert projector.layer is None
    clips = projector(given)
    assert [len(clip) for clip in clips] == [(TOKENS + 1) * count for count in (1, 2, 3)]
    second = clips[1][TOKENS + 1 :]
    torch.testing.assert_close(second[:TOKENS], projector.out(given.spatial[1, 1]))
    torch.testing.assert_close(second[TOKENS], projector.out(projector.motion(given.motion[1, 1])))


@pytest.mark.parametrize("kind", ["mean", "interleaved"])
def test_frames_that_are_not_real_are_not_read(kind):
    projector, given = make(kind), features()
    gone = ~given.frame_mask
    other = dataclasses.replace(
        given,
        spatial=given.spatial.masked_fill(gone[..., None, None], 9.0),
        motion=given.motion.masked_fill(gone[..., None], 9.0),
    )
    for ours, theirs in zip(projector(given), projector(other), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("kind", ["mean", "interleaved"])
def test_all_of_it_is_trained(kind):
    projector = make(kind)
    sum((clip * torch.randn_like(clip)).sum() for clip in projector(features())).backward()
    assert all(value.grad is not None for value in projector.parameters())


def test_refusals():
    with pytest.raises(ValueError, match="projector kind 'both' is unknown"):
        ProjectorConfig("both")
    with pytest.raises(ValueError, match="made with motion tokens, the features are the other way"):
        make()(features(motion=False))
    with pytest.raises(ValueError, match="got 1 groups of tokens for 4 frames"):
        given = features()
        make("interleaved")(dataclasses.replace(given, spatial=given.spatial[:, :1]))
    with pytest.raises(ValueError, match="heads=3 of the projector must divide the width 8"):
        SpatioTemporalProjector(ProjectorConfig(heads=3), SPATIAL, None, WIDTH)
