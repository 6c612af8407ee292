"""Losses on features and relations against scipy and torchdistill, where these are installed.

Where a peer defines a loss otherwise, the test says how and compares what is left.
"""

import pytest
import torch
from torch.nn.functional import normalize

from coefvq.losses.attention_transfer import attention_transfer_loss
from coefvq.losses.cka import cka_loss
from coefvq.losses.contrastive_kd import contrastive_kd_loss
from coefvq.losses.feature_kd import feature_kd_loss
from coefvq.losses.rkd import rkd_loss
from coefvq.losses.similarity_preserving import similarity_preserving_loss


def close(value, expected):
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-7)


@pytest.fixture(params=range(3))
def features(request):
    draw = torch.Generator().manual_seed(request.param)
    return [torch.randn(8, width, generator=draw, dtype=torch.float64) for width in (5, 9)]


@pytest.fixture
def spatial():
    return pytest.importorskip("scipy.spatial.distance", reason="scipy is not installed")


@pytest.fixture
def losses():
    return pytest.importorskip(
        "torchdistill.losses.mid_level", reason="torchdistill is not installed"
    )


def io(features):
    """What torchdistill's hooks would have collected."""
    student, teacher = features
    return {"x": {"output": student}}, {"x": {"output": teacher}}


def test_distances_of_rkd_are_scipys(features, spatial):
    ours, theirs = (spatial.pdist(x.numpy()) for x in features)
    gap = torch.tensor(ours / ours.mean() - theirs / theirs.mean())
    each = torch.nn.functional.smooth_l1_loss(gap, torch.zeros_like(gap), reduction="sum")
    close(rkd_loss(*features, angle_weight=0.0), 2 * each / 64)


def test_cosine_is_scipys(features, spatial):
    student, teacher = features[0], features[1][:, :5]
    expected = [spatial.cosine(a, b) for a, b in zip(student.numpy(), teacher.numpy(), strict=True)]
    close(feature_kd_loss(student, teacher, distance="cosine", reduction="none"), expected)


def test_cka_of_width_one_is_scipys_squared_correlation(features):
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    ours, theirs = (x[:, :1] for x in features)
    r = stats.pearsonr(ours[:, 0].numpy(), theirs[:, 0].numpy()).statistic
    close(cka_loss(ours, theirs), 1 - r**2)


def test_infonce_is_scipys_log_softmax(features, spatial):
    special = pytest.importorskip("scipy.special", reason="scipy is not installed")
    student, teacher = features[0], features[1][:, :5]
    scores = (1 - spatial.cdist(student.numpy(), teacher.numpy(), "cosine")) / 0.2
    value = contrastive_kd_loss(student, teacher, temperature=0.2, reduction="none")
    close(value, -special.log_softmax(scores, axis=1).diagonal())


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0), (1.0, 2.0)])
def test_rkd_is_torchdistills(features, losses, weights):
    peer = losses.RKDLoss("x", "x", *weights, reduction="mean")
    value = rkd_loss(*features, distance_weight=weights[0], angle_weight=weights[1])
    close(value, peer(*io(features)))


def test_similarity_preserving_is_torchdistills(features, losses):
    """Theirs divides a row by the sum of its absolute values, the paper by its length: put right.

    `normalize(x, 1)` reads as dimension 1 and is the 1-norm.
    """

    class AsInThePaper(losses.SPKDLoss):
        def matmul_and_normalize(self, z):
            return normalize(z @ z.mT, dim=1)

    options = {"reduction": "batchmean"}
    value = similarity_preserving_loss(*features)
    close(value, AsInThePaper("x", "x", **options)(*io(features)))
    theirs = losses.SPKDLoss("x", "x", **options)(*io(features))
    rows = [(x @ x.mT) / (x @ x.mT).abs().sum(1, keepdim=True) for x in features]
    close(theirs, (rows[0] - rows[1]).square().sum() / 64)


@pytest.mark.parametrize("mode", ["paper", "code"])
def test_attention_transfer_is_torchdistills(losses, mode):
    """Theirs: "paper" is the norm and not its square, "code" a mean over positions, too."""
    draw = torch.Generator().manual_seed(0)
    maps = [torch.randn(4, c, 3, 5, generator=draw, dtype=torch.float64) for c in (2, 6)]
    where = {"io": "output", "path": "x"}
    peer = losses.ATLoss({"pair": {"student": where, "teacher": where, "weight": 1}}, mode=mode)
    value = attention_transfer_loss(*maps, reduction="none")
    close(value.sqrt().mean() if mode == "paper" else value.mean() / 15, peer(*io(maps)))
