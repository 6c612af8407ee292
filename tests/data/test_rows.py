from pathlib import Path

from coefvq.data.rows import (
    Row,
    blank,
    check_files_of_splits,
    check_groups,
    check_splits,
    missing_number,
)

# What single cells may say is tested through whole manifests in test_manifest_source.py.


def test_empty_cells_and_missing_numbers():
    assert blank(None) and blank("  ") and not blank(0) and not blank([])
    assert missing_number("NaN") and missing_number(float("nan")) and missing_number(None)
    assert not missing_number(0) and not missing_number("0")


def test_empty_splits_are_reported_once_each():
    rows = [Row(Path("m.csv"), 1, {}, "train")]
    assert [str(p).split(";")[0] for p in check_splits(rows, Path("m.csv"))] == [
        "m.csv: the val split is empty",
        "m.csv: the test split is empty",
    ]


def test_groups_within_one_split_are_fine():
    rows = [
        Row(Path("m.csv"), number, {"g": group}, split)
        for number, (group, split) in enumerate(
            [("a", "train"), ("a", "train"), ("b", "val"), (None, "train"), (None, "val")], 1
        )
    ]
    assert not list(check_groups(rows, "g"))
    rows[1].split = "test"
    assert [str(problem) for problem in check_groups(rows, "g")] == [
        "m.csv row 2: group 'a' is in train (row 1) and test (row 2); keep it in one split"
    ]


def test_one_file_under_two_ids_stays_in_one_split(tmp_path):
    clip, other = tmp_path / "a.mp4", tmp_path / "b.mp4"
    clip.touch()
    other.symlink_to(clip)
    rows = [
        Row(Path("m.csv"), n + 1, {}, split) for n, split in enumerate(("train", "train", "val"))
    ]
    assert not list(check_files_of_splits(rows, [clip, other, tmp_path / "c.mp4"]))
    (problem,) = check_files_of_splits(rows, [clip, clip, other])
    assert str(problem).startswith(
        "m.csv row 3: its file b.mp4 is in the val split and, as row 1, in train; keep it in one"
    )
