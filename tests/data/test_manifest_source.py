import json
import math

import pytest

from coefvq.data.manifest import ManifestError
from coefvq.data.manifest_source import ManifestSource


@pytest.fixture
def load(write_manifest, clip_files):
    """Load rows through a CSV file."""

    def run(rows, **options):
        return ManifestSource(write_manifest(rows), root=clip_files, **options).load()

    return run


@pytest.fixture
def problems_of(load):
    def run(rows, **options):
        with pytest.raises(ManifestError) as caught:
            load(rows, **options)
        assert f"the manifest has {len(caught.value.problems)} problem" in str(caught.value)
        return [
            str(problem).split("clips.csv")[-1].lstrip(": ") for problem in caught.value.problems
        ]

    return run


def test_a_correct_manifest(load, rows, clip_files):
    manifest = load(rows, privileged="dense_*", log1p=["dense_b"], group="group")
    assert manifest.task.kind == "binary" and manifest.task.classes == ("0", "1")
    assert manifest.privileged_names == ("dense_a", "dense_b") and manifest.log1p == ("dense_b",)
    assert [len(manifest.split(s)) for s in ("train", "val", "test")] == [8, 2, 2]
    clip = manifest.clips[3]
    assert (clip.id, clip.label, clip.group) == ("c3", 1.0, "g3")
    assert clip.path == clip_files / "clip03.mp4"
    assert dict(clip.text) == {"title": "a clip about thing 0"}
    assert clip.privileged["dense_a"] == 4.5
    assert math.isnan(manifest.clips[4].privileged["dense_b"])
    assert manifest.clips[6].label is None


def test_every_kind_of_file_gives_the_same_manifest(rows, clip_files, write_manifest, tmp_path):
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    typed = [{key: None if value == "" else value for key, value in row.items()} for row in rows]
    (tmp_path / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in typed))
    pq.write_table(pa.Table.from_pylist(typed), tmp_path / "clips.parquet")
    datasets.Dataset.from_list(typed).save_to_disk(tmp_path / "saved")
    files = [
        write_manifest(rows),
        *(tmp_path / n for n in ("clips.jsonl", "clips.parquet", "saved")),
    ]
    prints = {
        ManifestSource(file, root=clip_files, privileged="dense_*").load().fingerprint
        for file in files
    }
    assert len(prints) == 1


def test_a_replaced_file_changes_the_fingerprint(rows, write_manifest, clip_files, tmp_path):
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(clip_files, folder)
    file = write_manifest(rows)
    first = ManifestSource(file, root=folder).load().fingerprint
    assert ManifestSource(file, root=clip_files).load().fingerprint == first  # a copy is the same
    with (folder / "clip00.mp4").open("ab") as clip:
        clip.write(b"more")
    longer = ManifestSource(file, root=folder).load().fingerprint
    content = bytearray((clip_files / "clip00.mp4").read_bytes())
    content[len(content) // 2] ^= 255
    (folder / "clip00.mp4").write_bytes(content)  # of the same size
    changed = ManifestSource(file, root=folder).load().fingerprint
    assert len({first, longer, changed}) == 3


def test_columns_that_do_not_exist_are_named_with_those_that_do(load, rows):
    with pytest.raises(
        ValueError, match=r"data.label names column 'lable', which .*clips.csv does"
    ) as caught:
        load(rows, label="lable")
    assert "its columns are id, path, title, label" in str(caught.value)
    for options in (
        {"id": "x"}, {"path": "x"}, {"text": ["x"]}, {"privileged": ["x"]},
        {"privileged": "x_*"}, {"group": "x"}, {"split": "x"},
    ):  # fmt: skip
        with pytest.raises(ValueError, match="names column 'x"):
            load(rows, **options)
    with pytest.raises(ValueError, match=r"data\.log1p names 'x', which is not among"):
        load(rows, privileged=["dense_a"], log1p=["x"])


BAD_CELLS = [
    ("id", "", "row 3: id is empty; give every clip a unique id"),
    ("id", "c1", "row 3: id 'c1' is taken by row 2; give every clip its own"),
    ("path", "", "row 3: path is empty; give the clip's file"),
    ("path", "gone.mp4", "row 3: path 'gone.mp4' is no file"),
    ("path", "../secret.mp4", "row 3: path '../secret.mp4' leads out of"),
    ("path", "/etc/passwd", "row 3: path '/etc/passwd' leads out of"),
    ("label", "2", "row 3: label '2' is outside the classes 0, 1; correct it, or name it"),
    ("label", "nan", "row 3: label 'nan' is not a number (NaN); leave the cell empty"),
    ("label", "maybe", "row 3: label 'maybe' is outside the classes 0, 1"),
    ("split", "tset", "row 3: split 'tset' is unknown; write train, val or test"),
    ("split", "", "row 3: split is empty; write train, val or test"),
    ("dense_a", "much", "row 3: dense_a 'much' is not a number; leave the cell empty"),
    ("dense_a", "inf", "row 3: dense_a is infinite; leave the cell empty"),
    ("dense_b", "-1", "row 3: dense_b '-1' is negative; correct it or take it out of data.log1p"),
    ("group", "g8", "row 9: group 'g8' is in train (row 3) and val (row 9); keep it in one split"),
]


@pytest.mark.parametrize(("column", "value", "sentence"), BAD_CELLS)
def test_each_bad_cell_gets_its_sentence(column, value, sentence, problems_of, rows):
    rows[2][column] = value
    found = problems_of(rows, privileged="dense_*", log1p="dense_b")
    assert len(found) == 1 and found[0].startswith(sentence)


def test_all_problems_are_listed_at_once_in_the_order_of_the_rows(problems_of, rows):
    rows[0]["label"], rows[4]["path"], rows[7]["id"], rows[9]["label"] = "7", "gone.mp4", "c1", ""
    found = problems_of(rows)
    assert [line.split(":")[0] for line in found] == ["row 1", "row 5", "row 8", "row 10"]
    assert found[-1].startswith("row 10: label is empty in the val split; label the clip or move")


def test_problems_of_the_manifest_as_a_whole(problems_of, rows):
    for row in rows:
        if row["split"] == "val":
            row["split"] = "test"
        row["dense_a"] = "nan" if row["split"] == "train" else 1
    found = problems_of(rows, privileged="dense_*")
    assert found[0].startswith("the val split is empty; add clips to it, or give data.val")
    assert found[1].startswith("privileged column 'dense_a' is missing in every training clip")
    for row in rows[:8]:
        row["label"] = ""
    assert any(line.startswith("no training clip has a label") for line in problems_of(rows))


def test_nan_as_a_number_is_no_label_but_a_missing_feature(clip_files, rows, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    typed = [{k: None if v == "" else v for k, v in row.items()} for row in rows]
    for row in typed:
        row["label"] = None if row["label"] is None else float(row["label"])
    typed[1]["dense_a"] = math.nan
    pq.write_table(pa.Table.from_pylist(typed), tmp_path / "a.parquet")
    source = ManifestSource(tmp_path / "a.parquet", root=clip_files, privileged=["dense_a"])
    manifest = source.load()
    assert manifest.clips[6].label is None and math.isnan(manifest.clips[1].privileged["dense_a"])
    typed[1]["label"] = math.nan
    pq.write_table(pa.Table.from_pylist(typed), tmp_path / "a.parquet")
    with pytest.raises(ManifestError, match=r"row 2: label nan is not a number \(NaN\); leave"):
        source.load()


def test_paths_outside_the_root_can_be_allowed(load, rows, clip_files):
    rows[2]["path"] = f"../{clip_files.name}/clip02.mp4"  # leaves the root and comes back
    load(rows)
    rows[2]["path"] = str(clip_files / "clip02.mp4")
    load(rows)
    rows[2]["path"] = "../elsewhere.mp4"
    (clip_files.parent / "elsewhere.mp4").write_bytes(b"x")
    load(rows, allow_outside_root=True)


def test_without_a_root_paths_are_relative_to_the_manifest(
    rows, write_manifest, clip_files, tmp_path
):
    for row in rows:
        row["path"] = str(clip_files / row["path"])
    assert len(ManifestSource(write_manifest(rows)).load().clips) == 12
    rows[0]["path"] = "../clip.mp4"
    with pytest.raises(ManifestError, match=f"leads out of {tmp_path}"):
        ManifestSource(write_manifest(rows)).load()


def test_missing_files_can_be_left_to_the_reader(load, rows):
    rows[2]["path"] = "gone.mp4"
    assert len(load(rows, check_files=False).clips) == 12


def test_a_root_that_is_no_folder(write_manifest, rows, tmp_path):
    with pytest.raises(ValueError, match=r"data.root .* is no folder"):
        ManifestSource(write_manifest(rows), root=tmp_path / "gone").load()


def test_an_unknown_task_names_those_that_exist(write_manifest, rows):
    with pytest.raises(ValueError, match=r"data.task=nope is unknown; choose one of binary, "):
        ManifestSource(write_manifest(rows), task="nope")


def test_one_file_per_split(write_manifest, rows, clip_files):
    for row in rows:
        row["kept"] = row.pop("split")
    files = {
        split: write_manifest([r for r in rows if r["kept"] == split], f"{split}.csv")
        for split in ("train", "val", "test")
    }
    manifest = ManifestSource(**files, root=clip_files).load()
    assert [len(manifest.split(s)) for s in files] == [8, 2, 2]
    write_manifest([rows[0], rows[9]], "val.csv")
    with pytest.raises(ManifestError) as caught:
        ManifestSource(**files, root=clip_files).load()
    assert f"id 'c0' is taken by row 1 of {files['train']}" in str(caught.value)


def test_without_a_split_whole_groups_are_assigned_and_it_is_said(load, rows, caplog):
    caplog.set_level("INFO")
    for number, row in enumerate(rows):
        del row["split"]
        row["label"] = number % 2
        row["group"] = f"g{number // 2}"
    manifest = load(rows, group="group", val_fraction=0.2, test_fraction=0.2)
    assert len(manifest.split("val")) == len(manifest.split("test")) == 2
    assert "val and test assigned by a hash of the group and seed 1" in caplog.text
    where = {}
    for clip in manifest.clips:
        where.setdefault(clip.group, set()).add(clip.split)
    assert all(len(splits) == 1 for splits in where.values())
    assert load(rows, group="group", val_fraction=0.2, test_fraction=0.2).clips == manifest.clips


def test_a_column_called_group_counts_unasked(load, problems_of, rows):
    rows[2]["group"] = "g8"
    assert len(problems_of(rows)) == 1
    assert {clip.group for clip in load(rows, group=None).clips} == {None}
    for row in rows:
        del row["group"]
    assert {clip.group for clip in load(rows).clips} == {None}


def test_groups_may_be_named_in_some_files_only(rows, clip_files, write_manifest):
    val = [row for row in rows if row["split"] == "val"]
    bare = [{k: v for k, v in row.items() if k not in ("split", "group")} for row in val]
    files = {"val": write_manifest(bare, "val.csv")}
    kept = [row for row in rows if row["split"] != "val"]
    manifest = ManifestSource(write_manifest(kept), root=clip_files, **files).load()
    assert {clip.group is None for clip in manifest.split("val")} == {True}
    assert {clip.group is None for clip in manifest.split("train")} == {False}


def test_classes(load, rows, caplog):
    caplog.set_level("INFO")
    for row in rows:
        row["label"] = ["cat", "dog", "bird"][int(row["id"][1:]) % 3]
    task = load(rows, task="multiclass").task
    assert task.classes == ("bird", "cat", "dog")
    assert "classes taken from the training labels: bird, cat, dog" in caplog.text
    manifest = load(rows, task="multiclass", classes=["dog", "cat", "bird", "cow"])
    assert manifest.clips[0].label == 1 and manifest.task.num_outputs == 4
    with pytest.raises(ManifestError, match="label 'dog' is outside the classes bird, cat"):
        load(rows, task="multiclass", classes=["bird", "cat"])
    with pytest.raises(ValueError, match="needs the names of its two classes, got 3"):
        load(rows, task="binary")


def test_multilabel_from_names_and_from_columns(load, rows):
    for number, row in enumerate(rows):
        row["label"] = "" if number == 6 else ["none", "a", "a|b"][number % 3]
        row["is_a"], row["is_b"] = ("", "") if number == 6 else [(0, 0), (1, 0), (1, 1)][number % 3]
    names = load(rows, task="multilabel")
    columns = load(rows, task="multilabel", label=["is_a", "is_b"])
    assert names.task.classes == ("a", "b") and columns.task.classes == ("is_a", "is_b")
    assert [c.label for c in names.clips] == [c.label for c in columns.clips]
    assert names.clips[2].label == (1, 1) and names.clips[6].label is None
    rows[1]["is_b"] = ""
    with pytest.raises(ManifestError, match="row 2: is_b None is missing where other"):
        load(rows, task="multilabel", label=["is_a", "is_b"])


@pytest.fixture
def scored(rows):
    """Thirty-six rows with scores from 1 to 4.5, twelve in each split."""
    made = []
    for number in range(36):
        split = ("train", "val", "test")[number % 3]
        made.append(rows[number % 12] | {"id": f"s{number}", "split": split, "group": ""})
        made[-1] |= {"label": 1 + number / 10, "sd": "" if number == 3 else 0.5}
    return made


class TestScores:
    def test_range_and_spread_are_kept(self, load, scored):
        manifest = load(scored, task="regression", label_range=[1, 5], label_std="sd")
        assert manifest.clips[5].label == 1.5 and manifest.task.num_outputs == 1
        assert manifest.task.label_range == (1.0, 5.0)
        assert [c.label_std for c in manifest.clips[2:5]] == [0.5, None, 0.5]
        plain = load(scored, task="regression")
        assert plain.task.label_range is None and plain.clips[0].label_std is None
        assert plain.fingerprint != manifest.fingerprint

    def test_a_score_outside_the_range(self, problems_of, scored):
        scored[4]["label"] = 73
        assert problems_of(scored, task="regression", label_range=[1, 5]) == [
            "row 5: label '73' is outside data.label_range=[1, 5]; correct the score or the range"
        ]

    def test_every_problem_of_scores_is_listed(self, problems_of, scored):
        scored[0]["label"], scored[1]["sd"] = "excellent", -1
        for row in scored[2::3]:
            row["label"] = 3
        found = problems_of(scored, task="regression", label_std="sd")
        assert found[0].startswith("every score of the test split is 3;")
        assert found[1] == "row 1: label 'excellent' is not a number; give the score as a number"
        assert found[2].startswith("row 2: sd '-1' is negative; ") and len(found) == 3

    def test_options_that_make_no_sense(self, load, scored):
        with pytest.raises(ValueError, match=r"data\.label_range=\[1, 5\] is for data\.task=regr"):
            load(scored, label_range=[1, 5])
        with pytest.raises(ValueError, match=r"data\.label_std names column 'who'"):
            load(scored, label_std="who", task="regression")


def test_the_real_clips(real_clips, tmp_path, write_manifest):
    import csv

    with (real_clips / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        row |= {"label": number % 2, "title": row["file"].split(".")[0]}
    manifest = ManifestSource(
        write_manifest(rows),
        root=real_clips,
        id="file",
        path="file",
        group="group",
        privileged=["bytes", "frames"],
        log1p=["bytes"],
    ).load()
    assert len(manifest.clips) == 33
    assert all(manifest.split(split) for split in ("train", "val", "test"))


def test_a_column_of_splits_counts_beside_a_file_of_its_own(rows, clip_files, write_manifest):
    kept = [row for row in rows if row["split"] != "val"]
    val = [row for row in rows if row["split"] == "val"]
    bare = [{key: value for key, value in row.items() if key != "split"} for row in val]
    files = {"val": write_manifest(bare, "val.csv")}
    manifest = ManifestSource(write_manifest(kept), root=clip_files, **files).load()
    assert [len(manifest.split(s)) for s in ("train", "val", "test")] == [8, 2, 2]
    assert {clip.id for clip in manifest.split("test")} == {
        row["id"] for row in rows if row["split"] == "test"
    }


def test_rows_of_a_split_that_has_its_own_file_are_refused(rows, clip_files, write_manifest):
    source = ManifestSource(
        write_manifest(rows), root=clip_files, val=write_manifest(rows[:2], "val.csv")
    )
    with pytest.raises(ValueError, match=r"puts it into val, but data\.val names a file of its"):
        source.load()
    alone = ManifestSource(
        write_manifest(rows[2:], "all.csv"),
        root=clip_files,
        val=write_manifest(rows[:2], "val.csv"),
        split=None,
        test_fraction=0.2,
    )
    assert len(alone.load().split("val")) == 2
