"""The data of a run, ready to be read by its models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from coefvq import engine
from coefvq.data.text import load_tokenizer
from coefvq.modules.mllm.config import MLLMConfig
from coefvq.modules.pretrained import read_config


def prepared_data(cfg: DictConfig, model: str | Path | None = None) -> Any:
    """Build and prepare the data of a config and fill in `cfg.runtime`.

    Args:
        cfg: a config of `conf/train.yaml`.
        model: a saved model that will read these data. If its tokenizer is another one than the
            data would be given, texts are read with the model's.

    Raises:
        ValueError: if the config names a tokenizer and the model needs another one.
    """
    data = engine.build(cfg.data)
    data.whole_words = answer_words(cfg)
    if data.tokenizer_name is None and model is None:
        data.tokenizer_name = own_tokenizer(cfg)
    data.prepare()
    wanted = None if model is None or data.tokenizer is None else tokenizer_of(model)
    if wanted is not None and wanted.get_vocab() != data.tokenizer.get_vocab():
        if data.tokenizer_name is not None:
            raise ValueError(
                f"data.tokenizer={data.tokenizer_name} reads text in another vocabulary than the "
                f"model in {model} was trained with; set it to null"
            )
        data = engine.build(cfg.data)
        data.tokenizer_name = str(model)
        data.prepare()
    fill_runtime(cfg, data)
    leave_out_sub_labels(cfg, data)
    return data


def answer_words(cfg: DictConfig) -> tuple[str, ...]:
    """The words that the teacher of a config answers with, each of which must be one token."""
    mllm = OmegaConf.select(cfg, "teacher.model.mllm")
    if mllm is None or mllm.get("read_out") != "yes_no":
        return ()
    return tuple(str(word) for word in mllm.get("answer_words") or MLLMConfig.answer_words)


def own_tokenizer(cfg: DictConfig) -> str | None:
    """Where the tokenizer of the config's language model is; None: it has none of its own.

    A folder without one is left to the model, which says what is missing.
    """
    named = OmegaConf.select(cfg, "teacher.model.mllm.backbone.model_name_or_path")
    if named is None or (Path(named).is_dir() and not (Path(named) / "tokenizer.json").is_file()):
        return None
    return str(named)


def leave_out_sub_labels(cfg: DictConfig, data: Any) -> None:
    """Take terms of kinds of change out of the objective where pairs say nothing of them."""
    if getattr(data, "sub_labels", None) != () or "objective" not in cfg:
        return
    for name, term in list(cfg.objective.terms.items()):
        if term["_target_"].rpartition(".")[2] == "SubLabelLoss":
            with open_dict(cfg):
                del cfg.objective.terms[name]
                cfg.objective.weights.pop(name, None)
                for number in list(cfg.objective.get("schedules") or {}):
                    if str(number).removeprefix("weights.").partition(".")[0] == name:
                        del cfg.objective.schedules[number]


def fill_runtime(cfg: DictConfig, data: Any) -> None:
    """Write what only the data know into `cfg.runtime`."""
    cfg.runtime.task = data.task.kind
    cfg.runtime.num_outputs = data.task.num_outputs
    cfg.runtime.num_privileged = data.num_privileged
    cfg.runtime.vocab_size = data.vocab_size
    cfg.runtime.num_sub_labels = len(getattr(data, "sub_labels", ()))
    limits = data.task.label_range
    cfg.runtime.label_range = None if limits is None else list(limits)
    cfg.runtime.text_fields = list(data.inputs.text_fields)


def tokenizer_of(folder: str | Path) -> Any:
    """The tokenizer that a saved model reads text with; None if it reads none."""
    folder = Path(folder)
    if not (folder / "tokenizer.json").exists():
        return None
    if read_config(folder)["config"].get("trunk", folder) is None:  # dense features alone
        return None
    return load_tokenizer(folder)
