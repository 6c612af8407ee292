"""`python -m coefvq.data.vqa_manifests set=konvid labels=… clips=folder out=manifest.csv`.

Manifests of four public video-quality sets from the label files that you have downloaded. Nothing
is downloaded here; read each set's terms before you use it.

    set          labels                                            from
    konvid       KoNViD_1k_attributes.csv or KoNViD_1k_mos.csv     database.mmsp-kn.de, KoNViD-1k
    live_vqc     data.mat, or a CSV of video_list and mos          live.ece.utexas.edu, LIVE-VQC
    youtube_ugc  MOS_for_YouTube_UGC_dataset.xlsx, or its sheet    media.withyoutube.com
                 MOS saved as CSV
    lsvq         labels_train_test.csv, labels_test_1080p.csv      github.com/baidut/PatchVQ

A .mat file is read by scipy and an .xlsx by openpyxl, which you install, or saved as CSV. LSVQ's
second file is one more test set: behind the words of the first, `data.test=` its manifest.

Names of files and columns were taken from public code that reads them, not from the files; one
whose columns are others is refused with a sentence that names both. Ranges are those of the
scales that raters used. None of the sets names contents that repeat, so each clip is a group of its
own; for LSVQ, several clips may have been cut from one recording, which its labels don't say.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas

from coefvq.data.clip_list import VIDEO_SUFFIXES
from coefvq.data.splits import hash_split
from coefvq.data.tables import other_separator
from coefvq.data.vqa_labels import SETS, VqaSet, read_labels
from coefvq.files import replacing

SHOWN = 5
"""Missing clips that are spelt out."""


def make_manifest(
    set: str,
    labels: str | Path,
    clips: str | Path,
    out: str | Path,
    *,
    missing: str = "error",
    val_fraction: float = 0.1,
    seed: int = 1,
    overwrite: bool = False,
) -> pandas.DataFrame:
    """Join a set's labels with the files that are there, and write a manifest.

    Args:
        set: one of `konvid`, `live_vqc`, `youtube_ugc`, `lsvq`.
        labels: the label file, see above.
        clips: folder with the clips, at any depth. A name with a folder is the file whose path
            below `clips` ends with both; one without is the only file of that name.
        out: the manifest, a `.csv`.
        missing: `"error"` where a labelled clip has no file, or `"skip"` it.
        val_fraction: of the training clips, for sets with a test split of their own; the others get
            no split, so that `data.split_seed` or `data.seed` draws one.
        seed: of that draw.
        overwrite: replace `out`.

    Returns:
        The manifest: `id`, `path` (relative to `clips`), `label`, `label_std` where known, `group`,
        `split` where the set has one, and what else is carried over. Its `attrs["missing"]`
        names the clips that were skipped.

    Raises:
        ValueError: an unknown set, a file that cannot be read or has other columns, a score that is
            no number or outside the range, a clip twice or without a file, a name that several
            files have, or a file that two names mean.
    """
    if set not in SETS:
        raise ValueError(f"set={set} is unknown; choose one of {', '.join(SETS)}")
    if missing not in ("error", "skip"):
        raise ValueError(f"missing={missing} is unknown; choose error or skip")
    spec, folder, out = SETS[set], Path(clips), Path(out)
    if not folder.is_dir():
        raise ValueError(f"clips={clips} is no folder; give the one that the clips are in")
    if out.suffix != ".csv":
        raise ValueError(f"out={out} must end in .csv")
    if out.exists() and not overwrite:
        raise ValueError(f"out={out} exists; add overwrite=true or give another name")
    rows = _columns(read_labels(labels), spec, Path(labels))
    if twice := rows["id"][rows["id"].duplicated()].tolist():
        raise ValueError(f"{labels} names clip {twice[0]!r} twice; keep one row of it")
    _check_scores(rows, spec, Path(labels))
    found = _matched(rows["id"].tolist(), _files(folder, spec), folder)
    gone = rows["id"][found.isna()].tolist()
    if len(gone) == len(rows):
        raise ValueError(
            f"none of the {len(rows)} clips of {labels} is in {clips}, for instance {gone[0]!r}; "
            "check the folder"
        )
    if gone and missing == "error":
        raise ValueError(
            f"{len(gone)} of {len(rows)} clips of {labels} have no file in {clips}, for instance "
            f"{_some(gone)}; complete the folder, or set missing=skip"
        )
    table = rows[found.notna()].reset_index(drop=True)
    table.insert(1, "path", found.dropna().tolist())
    table["group"] = table["id"]
    table.attrs["missing"] = gone
    if "split" in table:
        train = table["split"] == "train"
        names = table["id"][train].tolist()
        table.loc[train, "split"] = hash_split(
            names, [True] * len(names), val_fraction=val_fraction, test_fraction=0.0, seed=seed
        )
    with replacing(out) as temporary:
        table.to_csv(temporary, index=False)
    return table


def _columns(table: pandas.DataFrame, spec: VqaSet, file: Path) -> pandas.DataFrame:
    """The columns of a manifest, as text."""
    plain = {_plain(str(column)): column for column in table.columns}

    def first(names: Sequence[str]) -> Any:
        return next((plain[_plain(n)] for n in names if _plain(n) in plain), None)

    chosen = {"id": first(spec.name), "label": first(spec.score), "label_std": first(spec.spread)}
    for name, wanted in (("id", spec.name), ("label", spec.score)):
        if chosen[name] is None:
            if other := other_separator([str(column) for column in table.columns]):
                raise ValueError(
                    f"{file} has its columns separated by {other!r}; save it with commas"
                )
            raise ValueError(
                f"{file} has no column {' or '.join(wanted)}, which labels of {spec.title} have; "
                f"its columns are {', '.join(map(str, table.columns))}"
            )
    rows = pandas.DataFrame(
        {name: table[column] for name, column in chosen.items() if column is not None}
    ).astype(str)
    # Numbers that went through a spreadsheet come back as 123.0, file names with their suffix.
    names = rows["id"].str.strip().str.replace(r"\.0$", "", regex=True)
    suffixes = "|".join(suffix[1:] for suffix in VIDEO_SUFFIXES)
    rows["id"] = names.str.replace(rf"\.({suffixes})$", "", case=False, regex=True)
    if _plain(str(chosen["id"])) == "filename":
        rows["id"] = rows["id"].map(spec.key)
    for name in spec.kept:
        if (column := first([name])) is not None:
            rows[name] = table[column].astype(str)
    if spec.is_test is not None and (column := first([spec.is_test])) is not None:
        test = table[column].astype(str).str.strip().str.lower().isin(("true", "1", "1.0"))
        rows["split"] = test.map({True: "test", False: "train"})
    return rows[rows["id"].ne("") & rows["id"].str.lower().ne("nan")].reset_index(drop=True)


def _check_scores(rows: pandas.DataFrame, spec: VqaSet, file: Path) -> None:
    scores = pandas.to_numeric(rows["label"], errors="coerce")
    low, high = spec.label_range
    bad = rows[~scores.between(low, high)]
    if len(bad):
        row = bad.iloc[0]
        raise ValueError(
            f"{file}: the score {row['label']!r} of clip {row['id']!r} is not a number from "
            f"{low:g} to {high:g}, the range of {spec.title} ({len(bad)} such rows); correct it"
        )


def _files(folder: Path, spec: VqaSet) -> dict[str, list[Path]]:
    """Paths relative to the folder, by stem and by key."""
    found: dict[str, list[Path]] = {}
    clips = sorted(p for p in folder.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES)
    for path in clips:
        for name in {path.stem, spec.key(path.stem)}:
            found.setdefault(name, []).append(path.relative_to(folder))
    return found


def _matched(names: Sequence[str], files: Mapping[str, list[Path]], folder: Path) -> pandas.Series:
    """Each name's file; None where there is none.

    Raises:
        ValueError: several files for a name, or one file for two names.
    """
    found: list[str | None] = []
    owner: dict[str, str] = {}
    for name in names:
        *parents, last = name.strip("/").split("/")
        fits = [
            path.as_posix()
            for path in files.get(last, [])
            if not parents or list(path.parent.parts[-len(parents) :]) == parents
        ]
        if len(fits) > 1:
            raise ValueError(
                f"{len(fits)} files in {folder} may be clip {name!r}: {_some(fits)}; leave one of "
                "them there, or give the folder below that holds the set alone"
            )
        if fits and (other := owner.setdefault(fits[0], name)) != name:
            raise ValueError(
                f"the file {fits[0]} in {folder} may be clip {other!r} as well as {name!r}; leave "
                "one of the two names in the labels"
            )
        found.append(fits[0] if fits else None)
    return pandas.Series(found, dtype=object)


def _some(names: Sequence[str]) -> str:
    rest = ["…"] if len(names) > SHOWN else []
    return ", ".join([*map(repr, names[:SHOWN]), *rest])


def _plain(column: str) -> str:
    return re.sub(r"[\s_]", "", column).lower()


def training_words(set: str, out: str | Path, clips: str | Path, table: pandas.DataFrame) -> str:
    """The words for `coefvq.train` that read this manifest."""
    low, high = SETS[set].label_range
    spread = " data.label_std=label_std" if "label_std" in table else ""
    return (
        f"data=manifest data.train={out} data.root={clips} data.task=regression "
        f"data.label_range=[{low:g},{high:g}]{spread} data.group=group data.text=[]"
    )


def main(words: Sequence[str]) -> None:
    """Run the command; what a user can mend is one sentence and exit status 2."""
    if {"--help", "-h"} & {*words}:
        print(f"{__doc__}\n{make_manifest.__doc__}")
        return
    try:
        options = _options(words)
        table = make_manifest(**options)
        print(f"{len(table)} clips in {options['out']}; read them with")
        print("  " + training_words(options["set"], options["out"], options["clips"], table))
        if gone := table.attrs["missing"]:
            print(f"{len(gone)} labelled clips have no file and are left out: {_some(gone)}")
    except ValueError as error:
        if os.environ.get("COEFVQ_DEBUG"):
            raise
        print(f"\ncoefvq: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _options(words: Sequence[str]) -> dict[str, Any]:
    kinds: dict[str, Callable[[str], Any]] = {
        "set": str, "labels": str, "clips": str, "out": str, "missing": str,
        "val_fraction": float, "seed": int, "overwrite": _truth,
    }  # fmt: skip
    options: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in kinds:
            raise ValueError(f"{word!r} is not one of {', '.join(f'{k}=…' for k in kinds)}")
        try:
            options[name] = kinds[name](value)
        except ValueError:
            raise ValueError(f"{word!r} cannot be read as {name}; check its value") from None
    for name in ("set", "labels", "clips", "out"):
        if not options.get(name):
            raise ValueError(f"{name} is not set; add {name}=… to the command")
    return options


def _truth(word: str) -> bool:
    if word.lower() not in ("true", "false"):
        raise ValueError(word)
    return word.lower() == "true"


__all__ = ["main", "make_manifest", "training_words"]


if __name__ == "__main__":
    main(sys.argv[1:])
