"""How four public video-quality sets write their labels, and reading such files."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas


@dataclass(frozen=True)
class VqaSet:
    """How one public set writes its labels.

    Args:
        title: what people call it.
        label_range: lowest and highest possible score.
        name: columns that may name the clip, the first that is there counts; compared without
            regard to case, spaces and underscores.
        score: likewise for the mean opinion score.
        spread: likewise for the standard deviation of opinions; may be missing.
        kept: columns that are carried over where they are there, under these names.
        is_test: column that says which clips are the set's own test split.
        key: from the stem of a clip's file to the name that the labels use.
    """

    title: str
    label_range: tuple[float, float]
    name: tuple[str, ...]
    score: tuple[str, ...]
    spread: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    is_test: str | None = None
    key: Callable[[str], str] = field(default=lambda stem: stem)


SETS = {
    "konvid": VqaSet(
        "KoNViD-1k",
        (1.0, 5.0),
        ("flickr_id", "file_name"),
        ("MOS",),
        # Could not be verified: releases seem to differ in this column.
        ("SD", "MOS_std", "SD_MOS"),
        # 123.mp4 in one release, 123_original_centercrop_960x540_8s.mp4 in another.
        key=lambda stem: stem.partition("_")[0],
    ),
    "live_vqc": VqaSet(
        "LIVE-VQC", (0.0, 100.0), ("video_list", "video_name", "file_name"), ("mos",)
    ),
    "youtube_ugc": VqaSet(
        "YouTube-UGC",
        (1.0, 5.0),
        ("vid",),
        ("MOS full",),
        ("SD full",),  # could not be verified
        ("category",),
        key=lambda stem: re.sub(r"_crf_.*$", "", stem),
    ),
    "lsvq": VqaSet(
        "LSVQ", (0.0, 100.0), ("name",), ("mos",), is_test="is_test"
    ),
}  # fmt: skip


def read_labels(file: str | Path) -> pandas.DataFrame:
    """Read a label file: `.csv`, `.xlsx` (sheet `MOS`, needs openpyxl) or `.mat` (needs SciPy).

    Raises:
        ValueError: there is no such file, or it cannot be read.
    """
    file = Path(file)
    if not file.is_file():
        raise ValueError(f"labels={file} is no file; give the set's label file")
    kind = file.suffix.lower()
    try:
        if kind == ".csv":
            return _read_csv(file)
        if kind == ".xlsx":
            return pandas.read_excel(file, sheet_name="MOS", dtype=str)
        if kind == ".mat":
            from scipy.io import loadmat

            content = loadmat(file, squeeze_me=True, chars_as_strings=True)
            names = [name for name in content if not name.startswith("__")]
            if lacking := [name for name in ("video_list", "mos") if name not in names]:
                raise ValueError(
                    f"it has no {' and no '.join(lacking)}, but {', '.join(names) or 'nothing'}"
                )
            return pandas.DataFrame({"video_list": content["video_list"], "mos": content["mos"]})
    except ImportError as error:
        package = {".xlsx": "openpyxl", ".mat": "scipy"}[kind]
        raise ValueError(
            f"labels={file} needs the package {package} to be read; install it, or save the table "
            "as CSV"
        ) from error
    except Exception as error:  # each reader has kinds of its own
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"labels={file} cannot be read as the set's labels: {said}; "
            "check the file, or save the table as CSV"
        ) from error
    raise ValueError(f"labels={file} is of an unknown kind; give .csv, .xlsx or .mat")


def _read_csv(file: Path) -> pandas.DataFrame:
    try:
        return pandas.read_csv(file, dtype=str, encoding="utf-8-sig", keep_default_na=False)
    except UnicodeDecodeError:  # some copies were saved by a spreadsheet
        return pandas.read_csv(file, dtype=str, encoding="latin-1", keep_default_na=False)


__all__ = ["SETS", "VqaSet", "read_labels"]
