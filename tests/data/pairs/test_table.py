import pytest

from coefvq.data.manifest import ManifestError
from coefvq.data.pairs.manifest import clips_of
from coefvq.data.pairs.table import PairTable


@pytest.fixture
def load(write_manifest, pair_rows, pair_options):
    def read(rows=pair_rows, **options):
        table = write_manifest(rows, "pairs.csv")
        return PairTable(table, **(pair_options | options)).load()

    return read


def problems(load, rows, **options):
    with pytest.raises(ManifestError) as caught:
        load(rows, **options)
    return [str(problem).partition("pairs.csv")[2].strip() for problem in caught.value.problems]


def test_a_correct_table(load, clip_files):
    manifest = load()
    assert manifest.task.kind == "binary" and manifest.task.name == "label"
    assert manifest.sub_labels == ("crop", "flip")
    assert [len(manifest.split(s)) for s in ("train", "val", "test")] == [6, 2, 2]
    assert [p.label for p in manifest.pairs] == [0, 1, 0, 1, None, None, 0, 1, 0, 1]
    second, third = manifest.pairs[1:3]
    assert second.query.id == "c1" and second.query.path == clip_files / "clip01.mp4"
    assert second.query.text == {"title": "about thing 1"} and second.id == "c1+c2"
    assert second.sub_labels == {"crop": 1.0, "flip": 0.0} and third.sub_labels == {"flip": 0.0}
    assert len(clips_of(manifest.pairs)) == 12 and len(manifest.fingerprint) == 32


def test_the_fingerprint_sees_content_and_not_order(load, pair_rows):
    first = load().fingerprint
    assert load(pair_rows[::-1]).fingerprint == first
    pair_rows[1]["sub_flip"] = 1
    assert load(pair_rows).fingerprint != first


def test_paths_without_a_manifest(write_manifest, pair_rows, clip_files, tmp_path):
    for row in pair_rows:
        for side in ("query", "candidate"):
            row[side] = f"clip{int(row[side][1:]):02d}.mp4"
    table = write_manifest(pair_rows, "pairs.csv")
    manifest = PairTable(table, root=clip_files, cache_dir=tmp_path / "home").load()
    assert manifest.pairs[0].query.path == clip_files / "clip00.mp4"
    assert manifest.pairs[0].query.text == {"title": ""}
    pair_rows[0]["query"] = "../secret.mp4"
    table = write_manifest(pair_rows, "other.csv")
    with pytest.raises(ManifestError, match=r"row 1: query '\.\./secret.mp4' leads out of"):
        PairTable(table, root=clip_files, cache_dir=tmp_path / "home").load()


@pytest.mark.parametrize("listed", [False, True])
def test_absolute_paths_lead_into_the_root_where_one_is_given(
    write_manifest, pair_rows, clip_rows, clip_files, tmp_path, listed
):
    """In the table and in a manifest of the clips alike; without a root they say it all."""
    for row in clip_rows:
        row["path"] = str(clip_files / row["path"])
    if not listed:
        paths = {row["id"]: row["path"] for row in clip_rows}
        pair_rows = [r | {s: paths[r[s]] for s in ("query", "candidate")} for r in pair_rows]
    options = {"cache_dir": tmp_path / "home"}
    if listed:
        options["clips"] = write_manifest(clip_rows, "manifest.csv")
    table = write_manifest(pair_rows, "pairs.csv")
    other = tmp_path / "other"
    other.mkdir()
    for fine in ({}, {"root": clip_files}, {"root": other, "allow_outside_root": True}):
        assert PairTable(table, **options, **fine).load().pairs[0].query.path.is_file()
    with pytest.raises(ManifestError, match=r"clip00.mp4' leads out of .*allow_outside_root=true"):
        PairTable(table, root=other, **options).load()


def test_every_problem_is_listed_with_its_row(load, pair_rows):
    pair_rows[0]["query"] = "nobody"
    pair_rows[1]["label"] = "2"
    pair_rows[2]["label"] = "nan"
    pair_rows[3]["sub_crop"] = "maybe"
    pair_rows[4]["candidate"] = pair_rows[4]["query"]
    pair_rows[5]["query"] = ""
    pair_rows[6]["label"] = ""
    found = problems(load, pair_rows)
    for start in (
        "row 1: query 'nobody' is not in the clip manifest",
        "row 2: label '2' is not 1 or 0; correct it",
        "row 3: label 'nan' is not 1 or 0",
        "row 4: sub_crop 'maybe' is not 1 or 0",
        "row 5: pairs 'c4' with itself; remove it",
        "row 6: query is empty; name a clip",
        "row 7: label is empty in the val split; label the pair",
    ):
        assert any(problem.startswith(start) for problem in found), (start, found)
    assert len(found) == 7


def test_duplicates(load, pair_rows):
    pair_rows[3] = {**pair_rows[1]}
    assert problems(load, pair_rows) == ["row 4: has the query and candidate of row 2; keep one"]
    for row in pair_rows:
        row["id"] = "same"
    pair_rows[3] = {**pair_rows[1], "query": "c4", "candidate": "c1"}
    found = problems(load, pair_rows)
    assert found[0] == "row 2: id 'same' is taken by row 1; give every pair its own"
    assert len(found) == 9


def test_the_other_order_is_another_pair(load, pair_rows):
    pair_rows.append({**pair_rows[1], "query": "c2", "candidate": "c1"})
    assert len(load(pair_rows).pairs) == 11


def test_no_clip_is_on_two_sides_of_a_split(load, pair_rows):
    pair_rows[8]["candidate"] = "c1"
    (problem,) = problems(load, pair_rows)
    assert problem.startswith("row 9: clip 'c1' is in train (row 1) and test; keep all pairs")
    assert len(load(pair_rows, allow_shared_clips=True).pairs) == 10


def test_no_group_of_clips_is_on_two_sides(load, pair_rows, clip_rows, write_manifest):
    for number, row in enumerate(clip_rows):
        row["group"] = "source" if number in (0, 6) else ""
    clips = write_manifest(clip_rows, "groups.csv")
    (problem,) = problems(load, pair_rows, clips=clips)
    assert problem.startswith("row 7: group 'source' of clips is in train (row 1) and val")


def test_no_group_of_pairs_is_on_two_sides(load, pair_rows):
    for number, row in enumerate(pair_rows):
        row["group"] = "g" if number in (0, 9) else ""
    assert len(load(pair_rows, group=None).pairs) == 10
    (problem,) = problems(load, pair_rows)
    assert (
        problem == "row 10: group 'g' is in train (row 1) and test (row 10); keep it in one split"
    )


def test_empty_splits_and_unlabelled_training(load, pair_rows):
    found = problems(load, pair_rows[:8])
    assert len(found) == 1 and found[0].startswith(": the test split is empty; add pairs to it")
    for row in pair_rows[:6]:
        row["label"] = ""
    assert problems(load, pair_rows) == [": no training pair has a label; label some of them"]


def test_without_a_split_pairs_that_share_clips_stay_together(load, pair_rows, write_manifest,
                                                              clip_rows, clip_files):  # fmt: skip
    rows, clips = [], []
    for island in range(20):
        names = [f"i{island}_{k}" for k in range(3)]
        clips += [{"id": n, "path": f"clip{island % 12:02d}.mp4", "title": "t"} for n in names]
        for a, b, label in ((0, 1, 1), (1, 2, 0)):
            rows.append({"query": names[a], "candidate": names[b], "label": label})
    manifest = load(rows, clips=write_manifest(clips, "islands.csv"))
    counts = {s: len(manifest.split(s)) for s in ("train", "val", "test")}
    assert sum(counts.values()) == 40 and all(counts.values())
    assert all(count % 2 == 0 for count in counts.values())
    assert load(rows, clips=write_manifest(clips, "islands.csv"), seed=2) != manifest


def test_three_tables(load, pair_rows, write_manifest):
    parts = [write_manifest(pair_rows[a:b], f"{n}.csv") for n, a, b in
             (("val", 6, 8), ("test", 8, 10))]  # fmt: skip
    manifest = load(pair_rows[:6], val=parts[0], test=parts[1])
    assert [pair.split for pair in manifest.pairs] == ["train"] * 6 + ["val"] * 2 + ["test"] * 2


def test_the_column_counts_beside_a_table_of_its_own(load, pair_rows, write_manifest):
    test = write_manifest(pair_rows[8:], "test.csv")
    manifest = load(pair_rows[:8], test=test)
    assert [len(manifest.split(s)) for s in ("train", "val", "test")] == [6, 2, 2]
    assert {p.id for p in manifest.split("val")} == {"c6+c8", "c7+c8"}  # as the column says
    with pytest.raises(ValueError, match=r"row 9: column 'split' puts it into test, but data.test"):
        load(pair_rows, test=test)
    for row in pair_rows[8:]:
        row["split"] = "train"  # of a table that is the test split as a whole
    assert len(load(pair_rows[:8], test=write_manifest(pair_rows[8:], "t.csv")).split("test")) == 2


def test_columns_that_are_not_there(load, pair_rows):
    with pytest.raises(ValueError, match=r"data\.query names column 'first', which .* not have"):
        load(query="first")
    with pytest.raises(ValueError, match=r"data\.sub_labels names column 'sub_blur'"):
        load(sub_labels=["sub_blur"])
    with pytest.raises(ValueError, match=r"data\.split names column 'fold'"):
        load(split="fold")
    for row in pair_rows:
        del row["sub_crop"], row["sub_flip"]
    assert load(pair_rows).sub_labels == ()


def test_wrong_files(load, tmp_path, write_manifest):
    with pytest.raises(ValueError, match="is no folder; check the path"):
        load(root=tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"the clip manifest .* has no column path"):
        load(clips=write_manifest([{"id": "c0"}], "bad.csv"))
    with pytest.raises(ValueError, match="does not exist"):
        PairTable(tmp_path / "none.csv").load()


def test_missing_files_can_be_left_to_reading(load, clip_rows, write_manifest):
    clip_rows[1]["path"] = "gone.mp4"
    clips = write_manifest(clip_rows, "gone.csv")
    with pytest.raises(ManifestError, match=r"row 2: path 'gone.mp4' is no file"):
        load(clips=clips)
    assert len(load(clips=clips, check_files=False).pairs) == 10


def test_texts_that_are_not_there(load, write_manifest, pair_rows, clip_rows, clip_files):
    with pytest.raises(ValueError, match=r"data.text names column subtitels, which .*manifest.csv"):
        load(text=("title", "subtitels"))
    with pytest.raises(ValueError, match=r"columns are id, path, title$"):
        load(text=("titel",))
    # Only the default is taken as it comes: a table of clips without titles is a table of clips.
    bare = [{name: row[name] for name in ("id", "path")} for row in clip_rows]
    assert load(clips=write_manifest(bare, "bare.csv")).pairs[0].query.text == {"title": ""}
    paths = [row | {s: f"clip{int(row[s][1:]):02d}.mp4" for s in ("query", "candidate")}
             for row in pair_rows]  # fmt: skip
    assert load(paths, clips=None).pairs[0].query.text == {"title": ""}
    assert load(paths, clips=None, text=()).pairs[0].query.text == {}
    with pytest.raises(ValueError, match=r"names subtitles, but the pairs of .* are paths, which"):
        load(paths, clips=None, text=["subtitles"])


def test_several_texts(load, write_manifest, clip_rows):
    for row in clip_rows:
        row["subtitles"] = f"words of {row['id']}" if row["id"] != "c2" else ""
    clips = write_manifest(clip_rows, "texts.csv")
    first, second = load(clips=clips, text=("title", "subtitles")).pairs[:2]
    assert first.candidate.text == {"title": "about thing 1", "subtitles": "words of c1"}
    assert second.candidate.text == {"title": "about thing 2", "subtitles": ""}


def test_a_wrong_path_is_told_of_once(load, pair_rows):
    (first, *others) = problems(load, pair_rows, clips=None)
    assert first.startswith("row 1: query 'c0' is no file")
    assert first.endswith("if these are ids, give data.clips, the manifest of the clips")
    assert len(others) == 11  # one for each of the twelve names
    with pytest.raises(ValueError, match=r"data.clips=gone.csv does not exist; give the manifest"):
        load(clips="gone.csv")


def test_fractions_are_numbers(load):
    with pytest.raises(ValueError, match=r"data.val_fraction must be a number in"):
        load(val_fraction="high")
