import sys
import zipfile

import pytest

from coefvq.data.vqa_labels import SETS, read_labels


def test_csv_is_read_as_text_in_either_encoding(tmp_path):
    for encoding in ("utf-8-sig", "latin-1"):
        (tmp_path / "a.csv").write_bytes("name,mos\nMünchen,007\n".encode(encoding))
        table = read_labels(tmp_path / "a.csv")
        assert table.to_dict("list") == {"name": ["München"], "mos": ["007"]}


def test_a_workbook_needs_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with zipfile.ZipFile(tmp_path / "m.xlsx", "w") as book:
        book.writestr("xl/workbook.xml", "")
    with pytest.raises(ValueError, match="openpyxl to be read; install it, or save the table"):
        read_labels(tmp_path / "m.xlsx")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("gone.csv", None, "is no file"),
        ("a.txt", b"x", "unknown kind; give .csv, .xlsx or .mat"),
        ("a.csv", b"", "cannot be read as the set's labels"),
        ("a.xlsx", b"not a workbook", "cannot be read as the set's labels"),
        ("a.mat", b"not a mat file", "cannot be read as the set's labels"),
    ],
)
def test_what_cannot_be_read_is_a_sentence(name, content, words, tmp_path):
    if name.endswith(".mat"):
        pytest.importorskip("scipy.io")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words):
        read_labels(tmp_path / name)


def test_a_matlab_file_of_other_variables_is_told_what_it_lacks(tmp_path):
    scipy_io = pytest.importorskip("scipy.io")
    scipy_io.savemat(tmp_path / "data.mat", {"mos": [1.0, 2.0], "names": ["a", "b"]})
    with pytest.raises(ValueError, match="labels: it has no video_list, but mos, names; check"):
        read_labels(tmp_path / "data.mat")
    scipy_io.savemat(tmp_path / "good.mat", {"mos": [1.0, 2.0], "video_list": ["a", "b"]})
    assert read_labels(tmp_path / "good.mat")["mos"].tolist() == [1.0, 2.0]


def test_clips_are_found_under_the_names_that_releases_gave_them():
    assert SETS["konvid"].key("123_original_centercrop_960x540_8s") == "123"
    assert SETS["youtube_ugc"].key("Vlog_720P-1_crf_10_ss_00_t_20.0") == "Vlog_720P-1"
    assert SETS["lsvq"].key("a_b") == "a_b"
