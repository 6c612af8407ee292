"""Adapters on the language model through peft, kept in peft's own file format."""

from __future__ import annotations

import logging
import re
import warnings
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel

from coefvq.modules.mllm.config import LoraSettings, MLLMConfig

ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"


_log = logging.getLogger(__name__)


def note_full_training(config: MLLMConfig) -> None:
    """Say once where all weights of a pretrained language model are going to be trained."""
    source = config.backbone.model_name_or_path
    if source is not None and config.train_language:
        _log.warning(
            "the language model %s is trained in full; at the learning rates of random weights "
            "(teacher.training.lr=7e-4 and more) it forgets what it knows: set lora={rank: 16} and "
            "train_language=false to adapt it, or a rate of about 1e-5",
            source,
        )


def target_pattern(language_path: str, settings: LoraSettings) -> str:
    r"""Name the linear layers of the language model's blocks, and of nothing else.

    Vision towers use the same names for their layers, so names alone would adapt those too.

    Example:
        >>> target_pattern("model.lm", LoraSettings(targets=("q_proj", "v_proj")))
        'model\\.lm\\.layers\\..*\\.(?:q_proj|v_proj)'
    """
    names = "|".join(re.escape(name) for name in settings.targets)
    return rf"{re.escape(language_path)}\.layers\..*\.(?:{names})"


def add_lora(model: PreTrainedModel, settings: LoraSettings, language_path: str) -> PeftModel:
    """Put adapters into a model, in place; everything else is frozen.

    Returns:
        peft's wrapper of the same model, which can save and merge.

    Raises:
        ValueError: no layer of the language model has one of the names.
    """
    pattern = target_pattern(language_path, settings)
    if not any(re.fullmatch(pattern, name) for name, _ in model.named_modules()):
        raise ValueError(
            f"no layer below {language_path} is named {', '.join(settings.targets)}; "
            "give the names of the language model's linear layers as lora.targets"
        )
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=pattern,
    )
    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5.23 for a property that has been renamed there.
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)
        return get_peft_model(model, config)


def save_adapter(adapted: PeftModel, folder: str | Path) -> None:
    """Write `adapter_model.safetensors` and `adapter_config.json`, as peft reads them."""
    # Not "auto", which looks the base model up on the network.
    adapted.save_pretrained(str(folder), save_embedding_layers=False)
    (Path(folder) / "README.md").unlink(missing_ok=True)


def load_adapter(adapted: PeftModel, folder: str | Path) -> None:
    """Load what `save_adapter` or peft wrote into the adapters.

    Raises:
        ValueError: no adapter there, or one for other layers or of another rank.
    """
    path = Path(folder) / ADAPTER
    if not path.is_file():
        raise ValueError(f"folder {folder} has no {ADAPTER}; save the model again")
    try:
        given = load_file(path)
        result = set_peft_model_state_dict(adapted, given)
    except (RuntimeError, KeyError) as error:
        raise ValueError(f"{path} does not fit the model: {error}") from None
    missing = [name for name in result.missing_keys if "lora_" in name]
    if missing or result.unexpected_keys:
        first = (missing or result.unexpected_keys)[0]
        raise ValueError(
            f"{path} does not fit the model: {first} is on one side only; "
            "give an adapter that was trained for these layers"
        )


def base_state(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The weights of a model as they were named before adapters were put in, without these."""
    return {
        name.replace(".base_layer.", "."): value
        for name, value in model.state_dict().items()
        if ".lora_" not in name
    }


def trainable_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """What an optimizer should be given, by name.

    Example:
        >>> layers = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        >>> _ = layers[0].requires_grad_(False)
        >>> list(trainable_parameters(layers))
        ['1.weight', '1.bias']
    """
    return {name: value for name, value in module.named_parameters() if value.requires_grad}


__all__ = [
    "ADAPTER",
    "ADAPTER_CONFIG",
    "add_lora",
    "base_state",
    "load_adapter",
    "note_full_training",
    "save_adapter",
    "target_pattern",
    "trainable_parameters",
]
