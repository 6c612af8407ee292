"""Splits for manifests that have none: whole groups, in an order that only the seed decides."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

SPLITS = ("train", "val", "test")
"""The three splits, by these names everywhere."""

ALIASES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""Words that a split column may use."""


def hash_split(
    groups: Sequence[str],
    labelled: Sequence[bool],
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
) -> list[str]:
    """Assign every row to a split so that no group is divided.

    Groups are put in the order of a hash of their name and the seed. The test split takes groups
    from the front until it is full, then the validation split; a group that would overfill a
    split by more than a quarter is passed over while there are others. Only groups whose rows are
    all labelled can be taken, so unlabelled clips stay in training.

    Args:
        groups: group of each row.
        labelled: whether each row has a label.
        val_fraction: share of all rows wanted for validation; 0 for none.
        test_fraction: likewise for the test split.
        seed: another seed, another order.

    Returns:
        `"train"`, `"val"` or `"test"` for each row. The same rows give the same answer, in
        whatever order they come.

    Raises:
        ValueError: the fractions are not in [0, 1) or leave nothing for training.

    >>> hash_split(list("abcde"), [True] * 5, val_fraction=0.2, test_fraction=0.2, seed=1)
    ['train', 'train', 'val', 'test', 'train']
    """
    if not (0 <= val_fraction < 1 and 0 <= test_fraction < 1 and val_fraction + test_fraction < 1):
        raise ValueError(
            f"val_fraction and test_fraction must be at least 0 and leave something for training, "
            f"got {val_fraction} and {test_fraction}"
        )
    sizes: dict[str, int] = {}
    whole: dict[str, bool] = {}
    for group, has_label in zip(groups, labelled, strict=True):
        sizes[group] = sizes.get(group, 0) + 1
        whole[group] = whole.get(group, True) and has_label
    free = sorted((group for group in sizes if whole[group]), key=lambda g: _hash(g, seed))
    place = dict.fromkeys(sizes, "train")
    for split, fraction in (("test", test_fraction), ("val", val_fraction)):
        target = fraction * len(groups)
        count = 0
        for group in list(free):
            if count >= target:
                break
            if count + sizes[group] <= max(1.25 * target, 1):
                place[group] = split
                count += sizes[group]
                free.remove(group)
        if target and not count and free:
            smallest = min(free, key=lambda group: (sizes[group], _hash(group, seed)))
            place[smallest] = split
            free.remove(smallest)
    return [place[group] for group in groups]


def joined(ties: Iterable[tuple[str, str]]) -> dict[str, str]:
    """One name, of theirs, for all that hang together by ties.

    >>> joined([("a", "b"), ("c", "d"), ("d", "b")])
    {'a': 'c', 'b': 'c', 'c': 'c', 'd': 'c'}
    """
    root: dict[str, str] = {}

    def find(name: str) -> str:
        while root.setdefault(name, name) != name:
            root[name] = root[root[name]]
            name = root[name]
        return name

    for first, second in ties:
        kept, lost = find(first), find(second)
        root[lost] = kept
    return {name: find(name) for name in root}


def _hash(group: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}:{group}".encode()).digest()


__all__ = ["ALIASES", "SPLITS", "hash_split", "joined"]
