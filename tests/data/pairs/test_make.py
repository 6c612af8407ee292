import json

import pandas
import pytest

from coefvq.data.pairs import pair_data
from coefvq.data.pairs.drawing import Counts, File, overlap
from coefvq.data.pairs.make import SKIPPED_FILE, make_pairs
from coefvq.data.pairs.plan import TRANSFORMATIONS
from coefvq.data.pairs.table import PairTable
from coefvq.data.video import probe

OPTIONS = {"copies": 2, "val_fraction": 0.25, "test_fraction": 0.25, "workers": 0}


@pytest.fixture(scope="module")
def made(few_clips, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "pairs.parquet"
    return out, make_pairs(few_clips, out, **OPTIONS)


def test_the_table_reads_as_pairs(made):
    out, result = made
    manifest = PairTable(out).load()
    assert len(manifest.pairs) == len(result.table) == len(pandas.read_parquet(out))
    assert manifest.sub_labels == TRANSFORMATIONS
    assert {p.split for p in manifest.pairs} == {"train", "val", "test"}
    assert {p.label for p in manifest.pairs} == {0.0, 1.0}
    assert result.skipped == ()
    # The clips are all there, and none is on two sides of a split (PairTable refuses that).
    names = {clip.id for p in manifest.pairs for clip in (p.query, p.candidate)}
    assert len(names) <= 10 + 9 * 2


def test_the_list_beside_the_table_needs_no_root(made, tmp_path):
    """A root is for what the user wrote; originals are elsewhere, and copies beside the list."""
    found = PairTable(made[0], root=tmp_path).load()
    assert found.pairs == PairTable(made[0]).load().pairs


def test_it_trains_at_once(made, tmp_path):
    data = pair_data(made[0], num_frames=2, frame_size=16, mel_bins=8, batch_size=4,
                     cache_dir=tmp_path)  # fmt: skip
    data.prepare()
    assert len(next(iter(data.train_dataloader()))) == 4


def test_labels_follow_from_what_is_shown(made):
    _, result = made
    files = {
        row["id"]: File.from_dict({"title": "", **row}) for row in result.clips.to_dict("records")
    }
    for row in result.table.to_dict("records"):
        a, b = files[row["query"]], files[row["candidate"]]
        assert row["label"] == int(overlap(a, b) > 0), row
        assert a.split == b.split == row["split"]
        if row["case"] == "copy":
            how = (a if b.original else b).how
            assert [n for n in TRANSFORMATIONS if row[f"sub_{n}"] == 1] == list(how)
    natural = result.table[result.table["case"] == "natural"]
    assert set(natural.iloc[0][["query", "candidate"]]) == {"a/clip 0.mp4", "a/clip 0.webm"}


def test_copies_stay_in_their_folder_and_say_how(made):
    out, result = made
    folder = out.with_name("pairs.parquet.clips")
    copies = result.clips[~result.clips["original"]]
    assert len(copies) == 18
    for row in copies.to_dict("records"):
        path = folder / row["path"]
        assert path.parent == folder and path.is_file()
        assert probe(path).has_sound == bool(row["heard"])
        assert tuple(json.loads(row["plan"])["how"]) == tuple(row["how"].split("|"))
    assert sorted(p.name for p in out.parent.iterdir()) == [out.name, folder.name]


def test_the_seed_decides_everything(made, few_clips, tmp_path):
    again = make_pairs(few_clips, tmp_path / "again.csv", **OPTIONS)
    pandas.testing.assert_frame_equal(again.table, made[1].table)
    pandas.testing.assert_frame_equal(again.clips, made[1].clips)
    other = make_pairs(few_clips, tmp_path / "other.csv", **OPTIONS | {"seed": 2})
    assert not other.clips["plan"].equals(made[1].clips["plan"])
    # A table says the same in any format.
    labels = [[p.label, p.sub_labels] for p in PairTable(tmp_path / "again.csv").load().pairs]
    assert labels == [[p.label, p.sub_labels] for p in PairTable(made[0]).load().pairs]


def test_nothing_is_overwritten(made, few_clips, tmp_path):
    out, _ = made
    before = out.read_bytes()
    with pytest.raises(ValueError, match=r"pairs\.parquet exists; give another name"):
        make_pairs(few_clips, out, **OPTIONS)
    assert out.read_bytes() == before
    other = tmp_path / "x.csv.clips"
    other.mkdir()
    (other / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="is there and is not ours"):
        make_pairs(few_clips, tmp_path / "x.csv", **OPTIONS)
    assert [p.name for p in other.iterdir()] == ["mine.txt"]


def test_a_killed_call_goes_on_and_gives_the_same(made, few_clips, tmp_path, monkeypatch):
    from coefvq.data.pairs import copies

    out, calls = tmp_path / "pairs.csv", []
    real = copies.make_copy

    def dying(*arguments):
        calls.append(arguments)
        if len(calls) == 8:
            raise KeyboardInterrupt
        real(*arguments)

    monkeypatch.setattr(copies, "make_copy", dying)
    with pytest.raises(KeyboardInterrupt):
        make_pairs(few_clips, out, **OPTIONS)
    assert not out.exists()
    folder = tmp_path / "pairs.csv.clips"
    (folder / ".half.mp4.1.part").write_bytes(b"half")
    with pytest.raises(ValueError, match="holds copies of other clips or with other settings"):
        make_pairs(few_clips, out, **OPTIONS | {"seed": 2})
    monkeypatch.setattr(copies, "make_copy", lambda *a: calls.append(a) or real(*a))
    result = make_pairs(few_clips, out, **OPTIONS)
    assert len(calls) == 8 + 18 - 7  # seven were there
    pandas.testing.assert_frame_equal(result.table, made[1].table)
    assert not list(folder.glob(".*"))


@pytest.fixture
def with_bad(few_clips, tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for path in few_clips.rglob("*.mp4"):
        (folder / path.name.replace(" ", "_")).write_bytes(path.read_bytes())
    (folder / "bad.mp4").write_bytes(b"no video")
    whole = (folder / "clip_1.mp4").read_bytes()
    (folder / "half.mp4").write_bytes(whole[: len(whole) // 2])
    return folder


def test_bad_clips_are_left_out_and_listed(with_bad, tmp_path):
    result = make_pairs(with_bad, tmp_path / "p.jsonl", **OPTIONS)
    assert {bad.id for bad in result.skipped} == {"bad.mp4", "half.mp4"}
    listed = pandas.read_csv(tmp_path / "p.jsonl.clips" / SKIPPED_FILE)
    assert set(listed["id"]) == {"bad.mp4", "half.mp4"} and listed["reason"].str.len().min() > 5
    assert not set(result.clips["id"]) & {"bad.mp4", "half.mp4"}
    assert len(PairTable(tmp_path / "p.jsonl").load().pairs) == len(result.table)
    with pytest.raises(ValueError, match=r"clip bad.mp4 \(.*\) cannot be read: .*on_bad_clip=skip"):
        make_pairs(with_bad, tmp_path / "new" / "q.csv", on_bad_clip="error", **OPTIONS)
    assert not (tmp_path / "new").exists()


def test_clips_that_cannot_have_a_copy_are_listed(few_clips, tmp_path):
    """Of nine contents one has no sound; nothing else is wrong with it."""
    words = OPTIONS | {"copies": 1, "split": "test"}
    result = make_pairs(few_clips, tmp_path / "p.csv", transformations=["audio_removed"], **words)
    (bad,) = result.skipped
    assert (bad.id, bad.reason) == (
        "b/clip 8.mp4", "no transformation can be applied (audio_removed: the clip has no sound)"
    )  # fmt: skip
    assert len(result.clips) == 9 + 8
    with pytest.raises(ValueError, match=r"^clip b/clip 8.mp4 .*has no sound.*on_bad_clip=skip"):
        make_pairs(few_clips, tmp_path / "q.csv", transformations=["audio_removed"],
                   on_bad_clip="error", **words)  # fmt: skip
    with pytest.raises(ValueError, match=r"no clip can have a copy; the first of 9.*has no title"):
        make_pairs(few_clips, tmp_path / "q.csv", transformations=["title"], **words)


@pytest.mark.parametrize("name", ["splice", "audio_replaced"])
def test_one_transformation_that_takes_from_others_is_enough(few_clips, tmp_path, name):
    result = make_pairs(few_clips, tmp_path / "p.csv", transformations=[name], most=1,
                        segment_share=0, split="test", copies=1, workers=0)  # fmt: skip
    assert result.skipped == () and len(result.clips) == 10 + 9


def test_titles_are_rewritten(few_clips, write_manifest, tmp_path):
    rows = [
        {
            "id": f"v{n}",
            "path": f"{'a' if n < 5 else 'b'}/clip {n}.mp4",
            "title": f"my clip number {n}",
        }
        for n in range(9)
    ]
    result = make_pairs(write_manifest(rows), tmp_path / "p.csv", root=few_clips,
                        transformations=["title", "flip"], counts=Counts(random=0),
                        split="test", workers=0, copies=1)  # fmt: skip
    assert set(result.table["split"]) == {"test"} and "random" not in set(result.table["case"])
    copies = result.clips[~result.clips["original"]]
    for row in copies.to_dict("records"):
        old = f"my clip number {row['source'][1:]}"
        assert (row["title"] != old) == ("title" in row["how"])
    assert [c for c in result.table.columns if c.startswith("sub_")] == ["sub_title", "sub_flip"]


def test_impossible_requests(few_clips, tmp_path):
    def refused(match, clips=few_clips, out="p.csv", **options):
        with pytest.raises(ValueError, match=match):
            make_pairs(clips, tmp_path / out, **options)

    refused("must end in .parquet, .csv, .jsonl", out="p.txt")
    refused("copies=0", copies=0)
    refused("least=3, most=2", least=3, most=2)
    refused("got val_fraction=0.9 and test_fraction=0.2 ", val_fraction=0.9)
    refused("segment_share=2", segment_share=2)
    refused("mirror are unknown; choose from reencode", transformations=["mirror"])
    refused("split is one of train, val, test or null, got 'dev'", split="dev")
    refused("on_bad_clip is skip or error", on_bad_clip="ignore")
    refused("transformations is empty", transformations=[])
    refused("at least 0, got seed=-1", seed=-1)
    refused("does not exist", clips=tmp_path / "nowhere")
    (tmp_path / "few").mkdir()
    for number in range(2):
        clip = few_clips / "a" / f"clip {number}.mp4"
        (tmp_path / "few" / clip.name).write_bytes(clip.read_bytes())
    # What a refused call leaves behind does not stand in the way of a better one.
    refused("has 2 different clips that can be read, .* give at least 6", clips=tmp_path / "few")
    refused("has 2 different clips", clips=tmp_path / "few", seed=5)
    assert [path.name for path in tmp_path.iterdir()] == ["few"]


def test_clips_that_cannot_be_read_are_named(write_manifest, tmp_path):
    rows = [{"id": f"v{n}", "path": f"gone{n}.mp4"} for n in range(7)]
    sentence = r"has 0 different clips .* and 7 that cannot \(.*gone0.mp4: there is no such file\)"
    with pytest.raises(ValueError, match=sentence):
        make_pairs(write_manifest(rows), tmp_path / "p.csv")


def test_tables_of_several_calls_go_together(few_clips, write_manifest, tmp_path):
    """One for each split, of other clips each: their pairs need ids of their own."""
    words = {"copies": 1, "workers": 0, "transformations": ["flip", "trim"], "root": few_clips}
    tables = {}
    for split, numbers in (("train", (0, 1)), ("val", (2, 3)), ("test", (5, 6))):
        rows = [{"id": f"v{n}", "path": f"{'a' if n < 5 else 'b'}/clip {n}.mp4"} for n in numbers]
        tables[split] = tmp_path / f"{split}.csv"
        make_pairs(write_manifest(rows, f"{split}-clips.csv"), tables[split], split=split, **words)
    found = PairTable(**tables, cache_dir=tmp_path).load()
    assert all({p.label for p in found.split(split)} == {0.0, 1.0} for split in tables)


def test_several_texts_go_into_the_list(few_clips, write_manifest, tmp_path):
    rows = [{"id": f"v{n}", "path": f"a/clip {n}.mp4", "title": f"clip number {n}",
             "subtitles": f"words of {n}"} for n in range(4)]  # fmt: skip
    words = {"split": "train", "copies": 1, "workers": 0, "transformations": ["title", "flip"]}
    result = make_pairs(write_manifest(rows), tmp_path / "p.csv", root=few_clips,
                        text=["title", "subtitles"], **words)  # fmt: skip
    for row in result.clips.to_dict("records"):
        assert row["subtitles"] == f"words of {row['source'][1:]}"  # the first text is rewritten
    with pytest.raises(ValueError, match="text names subs, but clips="):
        make_pairs(write_manifest(rows), tmp_path / "q.csv", root=few_clips,
                   text=["title", "subs"], **words)  # fmt: skip


def test_real_clips(real_clips, tmp_path):
    """Natural mp4 and webm copies, and one copy of each of a few short clips."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("mdn_pig.mp4", "mdn_pig.webm", "asl_no.mkv", "asl_yes.mkv"):
        (folder / name).symlink_to(real_clips / name)
    result = make_pairs(folder, tmp_path / "p.csv", split="test", copies=1, workers=0,
                        transformations=["flip", "trim", "audio_removed"])  # fmt: skip
    assert result.skipped == () and set(result.table["label"]) == {0, 1}
    assert "natural" in set(result.table["case"])
