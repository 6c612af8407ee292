"""The members of `teacher=ensemble`, each as if it stood alone."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from coefvq import config

_ALIASES = {"ca_mkd": "cross_entropy", "ebkd": "entropy"}
"""Names of the papers for ways of weighting."""

Member = str | dict[str, Any]
"""A word such as `df_xvlm:folder`, or a mapping with `teacher` and any of its options."""


def weighting_word(teacher: DictConfig) -> str:
    """`teacher.weighting` in the words of `coefvq.losses.multi_teacher`.

    >>> weighting_word(OmegaConf.create({"weighting": "ebkd"}))
    'entropy'
    """
    word = str(teacher.weighting)
    return _ALIASES.get(word, word)


def member_words(teacher: DictConfig) -> list[Member]:
    """`teacher.members` as a list; a single one is one member.

    >>> member_words(OmegaConf.create({"members": ["df_xvlm", {"teacher": "table", "path": "a"}]}))
    ['df_xvlm', {'teacher': 'table', 'path': 'a'}]
    """
    members = teacher.members
    if members is None:
        return []
    found: Any = OmegaConf.to_container(members) if OmegaConf.is_config(members) else members
    listed = found if isinstance(found, list) else [found]
    return [word if isinstance(word, dict) else str(word) for word in listed]


def member_config(cfg: DictConfig, word: Member) -> DictConfig:
    """The config in which a member of an ensemble stands alone.

    Args:
        cfg: the ensemble's. What its `training` sets holds for every member that is trained.
        word: a file of conf/teacher; behind a colon a checkpoint, or the path of a table or cache.
            Or a mapping: `teacher` names the file, the rest are words of it.

    Raises:
        ValueError: there is no such file, or it has no such word.
    """
    options: dict[str, Any] = {}
    if isinstance(word, dict):
        options = dict(word)
        name, path = str(options.pop("teacher", "")), ""
    else:
        name, _, path = word.partition(":")
    known = sorted(p.stem for p in config.folder("conf").joinpath("teacher").glob("[!_]*.yaml"))
    if name not in known or name == "ensemble":
        known.remove("ensemble")
        raise ValueError(
            f"teacher.members names {name!r}, which is unknown; choose from {', '.join(known)}"
        )
    own = _composed(name)
    inherited = {
        "model": ("cache", "cache_dtype", "views", "view_invariant"),
        "cached": ("views", "view_invariant", "other_versions"),
    }
    for key in inherited.get(own.kind, ()):
        own[key] = cfg.teacher[key]
    if own.kind == "model":
        for key, value in cfg.teacher.training.items():
            if value is not None:
                own.training[key] = value
    own["preflight"] = False  # the mixture is what the student hears, and is scored
    if path:
        own["path" if "path" in own else "checkpoint"] = path
    for key in options:
        if key not in own or key in ("name", "kind", "defaults"):
            known = ", ".join(str(k) for k in own if k not in ("name", "kind"))
            raise ValueError(f"teacher.members: {name} has no word {key!r}; choose from {known}")
    merged = OmegaConf.merge(own, options)
    assert isinstance(merged, DictConfig)
    own = merged
    alone = cfg.copy()
    with open_dict(alone):
        alone.teacher = own
    return alone


def _composed(name: str) -> DictConfig:
    folder = config.folder("conf") / "teacher"
    own = OmegaConf.load(folder / f"{name}.yaml")
    assert isinstance(own, DictConfig)
    for base in own.pop("defaults", []):
        if base != "_self_":
            own = OmegaConf.merge(_composed(base), own)
            assert isinstance(own, DictConfig)
    return own


__all__ = ["Member", "member_config", "member_words", "weighting_word"]
