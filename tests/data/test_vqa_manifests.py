import pandas
import pytest

from coefvq.data.manifest_source import ManifestSource
from coefvq.data.vqa_labels import SETS
from coefvq.data.vqa_manifests import main, make_manifest, training_words


@pytest.fixture
def clips(tmp_path):
    def make(*names):
        for name in names:
            file = tmp_path / "clips" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"x")
        return tmp_path / "clips"

    return make


@pytest.fixture
def labels(tmp_path):
    def make(columns, name="labels.csv"):
        pandas.DataFrame(columns).to_csv(tmp_path / name, index=False)
        return tmp_path / name

    return make


@pytest.fixture
def out(tmp_path):
    return tmp_path / "manifest.csv"


IDS = ["3339962845", "10000009373"]


@pytest.mark.parametrize(
    "columns",
    [
        {"flickr_id": IDS, "mos": [3.1, 1.22]},
        {"flickr_id": [f"{i}.0" for i in IDS], "MOS": [3.1, 1.22]},
        {"x": [0, 1], "file_name": [f"{i}_original_centercrop_960x540_8s.mp4" for i in IDS],
         "MOS": [3.1, 1.22], "SD": [0.6, 0.7]},
    ],
)  # fmt: skip
@pytest.mark.parametrize("file", ["{}.mp4", "videos/{}_original_centercrop_960x540_8s.mp4"])
def test_konvid(columns, file, clips, labels, out):
    folder = clips(*(file.format(i) for i in IDS))
    table = make_manifest("konvid", labels(columns), folder, out)
    assert table["id"].tolist() == IDS and table["group"].tolist() == IDS
    assert [(folder / p).is_file() for p in table["path"]] == [True, True]
    assert table["label"].astype(float).tolist() == [3.1, 1.22] and "split" not in table
    assert ("label_std" in table) == ("SD" in columns)
    assert pandas.read_csv(out, dtype=str)["id"].tolist() == IDS


def test_live_vqc_from_csv_and_mat(clips, labels, out, tmp_path):
    folder = clips("Video/A001.mp4", "Video/B017.mp4")
    columns = {"video_list": ["A001.mp4", "B017.mp4"], "mos": [80.2, 6.2237]}
    table = make_manifest("live_vqc", labels(columns), folder, out)
    assert table["path"].tolist() == ["Video/A001.mp4", "Video/B017.mp4"]
    io = pytest.importorskip("scipy.io")
    import numpy as np

    names = np.array([["A001.mp4"], ["B017.mp4"]], dtype=object)
    io.savemat(tmp_path / "data.mat", {"video_list": names, "mos": np.array([[80.2], [6.2237]])})
    again = make_manifest("live_vqc", tmp_path / "data.mat", folder, out, overwrite=True)
    assert again["id"].tolist() == ["A001", "B017"] and again["path"].equals(table["path"])
    assert again["label"].astype(float).tolist() == [80.2, 6.2237]


def test_youtube_ugc(clips, labels, out):
    ids = ["Gaming_720P-25aa", "Vlog_2160P-1021"]
    folder = clips(f"{ids[0]}_crf_10_ss_00_t_20.0.mp4", f"{ids[1]}.mkv")
    columns = {"vid": ids, "category": ["Gaming", "Vlog"], "MOS full": [3.4, 4.698]}
    table = make_manifest("youtube_ugc", labels(columns), folder, out)
    assert table["path"].tolist() == [f"{ids[0]}_crf_10_ss_00_t_20.0.mp4", f"{ids[1]}.mkv"]
    assert table["category"].tolist() == ["Gaming", "Vlog"]


def test_lsvq_keeps_its_own_test_split(clips, labels, out):
    ids = [f"yfcc-batch{i % 3}/{i}" for i in range(60)]
    folder = clips(*(f"{i}.mp4" for i in ids))
    columns = {"name": ids, "mos": [i + 0.5 for i in range(60)],
               "is_test": [i >= 50 for i in range(60)]}  # fmt: skip
    table = make_manifest("lsvq", labels(columns), folder, out, val_fraction=0.2)
    assert table["split"].tolist()[50:] == ["test"] * 10
    counts = table["split"].value_counts()
    assert counts["val"] == 10 and counts["train"] == 40
    source = ManifestSource(
        out, root=folder, task="regression", label_range=[0, 100], group="group", text=[]
    )
    assert len(source.load().clips) == 60
    hd = labels({"name": ids[:12], "mos": [50.0 + i for i in range(12)]}, "labels_test_1080p.csv")
    assert "split" not in make_manifest("lsvq", hd, folder, out, overwrite=True)


def test_a_name_with_a_folder_is_the_file_in_that_folder(clips, labels, out):
    folder = clips("videos/ia-batch1/clip7.mp4", "videos/ia-batch1/clip8.mp4")
    columns = {"name": ["ia-batch1/clip7", "yfcc-batch2/clip7", "yfcc-batch2/clip8"],
               "mos": [10.0, 90.0, 50.0]}  # fmt: skip
    with pytest.raises(ValueError, match=r"2 of 3 clips .* 'yfcc-batch2/clip7', 'yfcc-batch2/cl"):
        make_manifest("lsvq", labels(columns), folder, out)
    table = make_manifest("lsvq", labels(columns), folder, out, missing="skip")
    assert table["path"].tolist() == ["videos/ia-batch1/clip7.mp4"]
    assert table.attrs["missing"] == ["yfcc-batch2/clip7", "yfcc-batch2/clip8"]
    both = clips("videos/yfcc-batch2/clip7.mp4", "videos/yfcc-batch2/clip8.mkv")
    table = make_manifest("lsvq", labels(columns), both, out, overwrite=True)
    assert table["path"].tolist() == [
        "videos/ia-batch1/clip7.mp4", "videos/yfcc-batch2/clip7.mp4",
        "videos/yfcc-batch2/clip8.mkv",
    ]  # fmt: skip
    half = clips("batch1/clip9.mp4")  # ends with the letters, not with the folder
    with pytest.raises(ValueError, match="none of the 1 clips"):
        make_manifest("lsvq", labels({"name": ["h1/clip9"], "mos": [1.0]}), half, "other.csv")


def test_a_bare_name_is_the_only_file_that_has_it(clips, labels, out):
    folder = clips("a/A001.mp4", "b/A001.mp4", "A002.mp4")
    columns = {"video_list": ["A002.mp4", "A001.mp4"], "mos": [1.0, 2.0]}
    for missing in ("error", "skip"):
        with pytest.raises(ValueError, match=r"2 files .* clip 'A001': 'a/A001.mp4', 'b/A001.mp4'"):
            make_manifest("live_vqc", labels(columns), folder, out, missing=missing)
    assert not out.exists()


def test_two_rows_never_share_a_file(clips, labels, out):
    folder = clips("123_original.mp4")
    columns = {"flickr_id": ["123", "123_original"], "MOS": [1.0, 5.0]}
    with pytest.raises(ValueError, match=r"123_original.mp4 .* may be clip '123' as well as '123_"):
        make_manifest("konvid", labels(columns), folder, out, missing="skip")


class TestErrors:
    COLUMNS = {"flickr_id": IDS, "mos": [3.1, 1.2]}

    @pytest.mark.parametrize(
        ("columns", "words"),
        [
            ({"flickr": IDS, "mos": [1, 2]}, "has no column flickr_id or file_name, which labels"),
            ({"flickr_id": IDS}, "has no column MOS, .* its columns are flickr_id"),
            ({"flickr_id;MOS": IDS}, "has its columns separated by ';'; save it with commas"),
            ({"flickr_id": IDS, "mos": [3.1, 62.0]}, "'62.0' of clip '10000009373' is not a num"),
            ({"flickr_id": IDS, "mos": [3.1, "good"]}, "'good' of clip"),
            ({"flickr_id": [IDS[0]] * 2, "mos": [3.1, 2.0]}, "names clip '3339962845' twice"),
            ({"flickr_id": [*IDS, "77"], "mos": [1, 2, 3]}, "1 of 3 clips .* have no file .* '77'"),
            ({"flickr_id": ["77"], "mos": [1]}, "none of the 1 clips"),
        ],
    )
    def test_bad_labels(self, columns, words, clips, labels, out):
        folder = clips(*(f"{i}.mp4" for i in IDS))
        with pytest.raises(ValueError, match=words):
            make_manifest("konvid", labels(columns), folder, out)
        assert not out.exists()

    def test_missing_clips_can_be_skipped(self, clips, labels, out):
        folder = clips(f"{IDS[0]}.mp4")
        table = make_manifest("konvid", labels(self.COLUMNS), folder, out, missing="skip")
        assert table["id"].tolist() == IDS[:1]

    def test_other_mistakes(self, clips, labels, out, tmp_path):
        folder, file = clips(f"{IDS[0]}.mp4", f"{IDS[1]}.mp4"), labels(self.COLUMNS)
        for words, call in {
            "set=tid is unknown": lambda: make_manifest("tid", file, folder, out),
            "clips=.* is no folder": lambda: make_manifest("konvid", file, tmp_path / "no", out),
            "must end in .csv": lambda: make_manifest("konvid", file, folder, "x.txt"),
            "missing=maybe": lambda: make_manifest("konvid", file, folder, out, missing="maybe"),
        }.items():
            with pytest.raises(ValueError, match=words):
                call()
        make_manifest("konvid", file, folder, out)
        with pytest.raises(ValueError, match="exists; add overwrite=true"):
            make_manifest("konvid", file, folder, out)


def test_the_command(clips, labels, out, capsys):
    folder, file = clips(*(f"{i}.mp4" for i in IDS)), labels(TestErrors.COLUMNS)
    main(["set=konvid", f"labels={file}", f"clips={folder}", f"out={out}"])
    said = capsys.readouterr().out
    assert "2 clips in" in said and "data.task=regression data.label_range=[1,5]" in said
    assert "left out" not in said
    file = labels({"flickr_id": [*IDS, *map(str, range(6))], "mos": [2.0] * 8})
    words = [f"labels={file}", f"clips={folder}", f"out={out}", "overwrite=true", "missing=skip"]
    main(["set=konvid", *words])
    said = capsys.readouterr().out
    assert "6 labelled clips have no file and are left out: '0', '1', '2', '3', '4', …" in said
    for words in (["set=konvid"], ["sets=konvid"], ["seed=x"]):
        with pytest.raises(SystemExit):
            main(words)
        assert "coefvq: " in capsys.readouterr().err
    main(["--help"])
    assert "KoNViD_1k_attributes.csv" in capsys.readouterr().out


def test_every_set_has_words_for_training():
    for name in SETS:
        words = training_words(name, "m.csv", "clips", pandas.DataFrame({"label_std": []}))
        assert "data.label_range=[" in words and "label_std" in words
