"""What `teacher.…` may say of a teacher of pairs."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from coefvq.teacher_supply.numbers import is_number


def check_frames(cfg: DictConfig) -> None:
    """Refuse a split of frames that would change nothing.

    Args:
        cfg: a config of `conf/train.yaml`.

    Raises:
        ValueError: with one sentence.
    """
    budget = OmegaConf.select(cfg, "teacher.model.frame_budget")
    frames = OmegaConf.select(cfg, "data.num_frames")
    split = OmegaConf.select(cfg, "teacher.model.frame_split")
    if split == "static" and budget is not None and budget >= 2 * frames:
        raise ValueError(
            f"teacher.model.frame_split=static changes nothing: twice data.num_frames={frames} are "
            f"within teacher.model.frame_budget={budget}; set a budget below {2 * frames}, "
            "or compare teacher=matchlm_static with teacher=matchlm_dynamic"
        )


def check_pretraining(words: Any) -> None:
    """Refuse `teacher.pretraining` that would end in another library's words, or do nothing.

    Args:
        words: what it is set to; None: there is none.

    Raises:
        ValueError: with one sentence.
    """
    if words is None:
        return
    if not isinstance(words, DictConfig) or set(words) != {"max_steps", "lr", "clips"}:
        found = sorted(map(str, words)) if isinstance(words, DictConfig) else words
        raise ValueError(f"teacher.pretraining is null or max_steps, lr and clips, got {found}")
    for key, least in (("max_steps", 1), ("clips", 2)):
        if not isinstance(words[key], int) or words[key] < least:
            raise ValueError(
                f"teacher.pretraining.{key} is a whole number from {least}, got {words[key]!r}"
            )
    if not is_number(words.lr, 0.0, 1e9) or words.lr == 0:
        raise ValueError(f"teacher.pretraining.lr is a number above 0, got {words.lr!r}")


__all__ = ["check_frames", "check_pretraining"]
