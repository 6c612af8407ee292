"""Configs of transformers as plain values that can be compared and saved."""

from __future__ import annotations

import json
from typing import Any

from transformers import PreTrainedConfig

NOT_SHAPE = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version")
"""What a config also says, and what two models of one shape may differ in."""


def plain(config: PreTrainedConfig) -> dict[str, Any]:
    """Give a config as values for JSON, without what does not say the shape."""
    return _strip(json.loads(config.to_json_string(use_diff=False)))


def _strip(values: Any) -> Any:
    if isinstance(values, dict):
        return {name: _strip(value) for name, value in values.items() if name not in NOT_SHAPE}
    return values


__all__ = ["plain"]
