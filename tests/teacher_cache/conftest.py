import pytest
import torch

from coefvq.teacher_cache import CacheIdentity, TeacherCache
from coefvq.types import TeacherOutput


def _outputs(n, seed=0, ragged=False):
    draw = torch.Generator().manual_seed(seed)
    output = {"logits": torch.randn(n, 3, generator=draw)}
    output["features"] = torch.randn(n, 5, generator=draw)
    if ragged:
        lengths = torch.arange(n) % 4 + 1
        output["token_mask"] = torch.arange(4) < lengths[:, None]
        output["token_features"] = torch.randn(n, 4, 2, generator=draw)
        logprobs = torch.randn(n, 4, 9, generator=draw).log_softmax(-1).topk(6, -1)
        output["topk_indices"], output["topk_logprobs"] = logprobs.indices, logprobs.values
    return TeacherOutput(**output)


@pytest.fixture
def outputs():
    """`outputs(n, seed, ragged)`: n rows of a made-up teacher."""
    return _outputs


@pytest.fixture
def identity():
    return CacheIdentity({"teacher": {"class": "Toy", "width": 3}, "dtype": "float32"})


@pytest.fixture
def cache(tmp_path, identity):
    return TeacherCache(tmp_path / "cache", identity)
