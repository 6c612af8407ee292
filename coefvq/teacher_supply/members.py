"""The members of `teacher=ensemble`, each as if it stood alone."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf, open_dict

from coefvq import config

_ALIASES = {"ca_mkd": "cross_entropy", "ebkd": "entropy"}
"""Names of the papers for ways of weighting."""


def weighting_word(teacher: DictConfig) -> str:
    """`teacher.weighting` in the words of `coefvq.losses.multi_teacher`.

    >>> weighting_word(OmegaConf.create({"weighting": "ebkd"}))
    'entropy'
    """
    word = str(teacher.weighting)
    return _ALIASES.get(word, word)


def member_words(teacher: DictConfig) -> list[str]:
    """`teacher.members` as a list; a single word is one member.

    >>> member_words(OmegaConf.create({"members": "df_xvlm"}))
    ['df_xvlm']
    """
    members = teacher.members
    if members is None:
        return []
    return [members] if isinstance(members, str) else [str(word) for word in members]


def member_config(cfg: DictConfig, word: str) -> DictConfig:
    """The config in which a member of an ensemble stands alone.

    Args:
        cfg: the ensemble's. What its `training` sets holds for every member that is trained.
        word: a file of conf/teacher; behind a colon a checkpoint, or the path of a table or cache.

    Raises:
        ValueError: there is no such file.
    """
    name, _, path = word.partition(":")
    known = sorted(p.stem for p in config.folder("conf").joinpath("teacher").glob("[!_]*.yaml"))
    if name not in known or name == "ensemble":
        known.remove("ensemble")
        raise ValueError(
            f"teacher.members names {name!r}, which is unknown; choose from {', '.join(known)}"
        )
    own = _composed(name)
    for key in ("cache", "cache_dtype", "views", "view_invariant"):
        own[key] = cfg.teacher[key]
    if own.kind == "model":
        for key, value in cfg.teacher.training.items():
            if value is not None:
                own.training[key] = value
    if path:
        own["path" if "path" in own else "checkpoint"] = path
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


__all__ = ["member_config", "member_words", "weighting_word"]
