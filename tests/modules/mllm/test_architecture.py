"""Configs of transformers as plain values."""

import json

from small_mllm import small_backbone

from coefvq.modules.mllm.architecture import NOT_SHAPE, plain
from coefvq.modules.mllm.backbone import open_backbone


def test_only_the_shape_is_kept():
    config = open_backbone(small_backbone()).model.config
    values = plain(config)
    assert json.loads(json.dumps(values)) == values
    assert values["text_config"]["hidden_size"] == 16
    for part in (values, values["text_config"], values["vision_config"]):
        assert not part.keys() & set(NOT_SHAPE)
    assert plain(type(config).from_dict(values)) == values
