import json

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coefvq.data.tables import read_table


def test_csv_cells_are_text_and_empty_cells_none(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('id,label,note\n007,1,"x, y"\n8,,NA\n9,nan,\n', encoding="utf-8-sig")
    table = read_table(path)
    assert table.columns == {
        "id": ["007", "8", "9"],
        "label": ["1", None, "nan"],
        "note": ["x, y", "NA", None],
    }
    assert len(table) == 3


def test_json_lines_keep_their_types(tmp_path):
    path = tmp_path / "a.jsonl"
    lines = [{"id": "a", "label": 1, "names": ["x", "y"]}, {"id": "b", "label": None, "names": []}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    columns = read_table(path).columns
    assert columns["label"] == [1, None]
    assert columns["names"][0] == ["x", "y"]


def test_rows_of_json_lines_are_counted_from_one(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "a"}\n{"id": "b"}\n{"id": "c" "n": 1}\n')
    with pytest.raises(ValueError, match=r"cannot be read: .*in row 3"):
        read_table(path)


def test_parquet_tells_null_from_nan(tmp_path):
    path = tmp_path / "a.parquet"
    labels = pa.array([1.0, None, float("nan")])
    pq.write_table(pa.table({"id": ["a", "b", "c"], "label": labels}), path)
    found = read_table(path).columns["label"]
    assert found[:2] == [1.0, None] and found[2] != found[2]


def test_saved_datasets_with_splits_and_class_names(tmp_path):
    kinds = datasets.Features(
        {"id": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    parts = {
        name: datasets.Dataset.from_dict({"id": [f"{name}0"], "label": [1]}, features=kinds)
        for name in ("train", "validation")
    }
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    table = read_table(tmp_path / "saved")
    assert table.columns == {
        "id": ["train0", "validation0"],
        "label": [1, 1],
        "split": ["train", "validation"],
    }
    assert table.class_names == {"label": ("no", "yes")}


def test_nothing_appears_on_the_screen(tmp_path, capfd):
    (tmp_path / "a.csv").write_text("id\n1\n")
    read_table(tmp_path / "a.csv")
    assert capfd.readouterr() == ("", "")
    assert datasets.is_progress_bar_enabled()


def test_a_changed_file_is_read_again(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id\n1\n")
    read_table(path)
    path.write_text("id\n2\n")
    assert read_table(path).columns == {"id": ["2"]}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", "id\n1\n", "is of an unknown kind; give .csv"),
        ("a.csv", "id,path\n1,2\n3,4,5\n", "cannot be read: .*line 3"),
        ("b.csv", "id,id\n1,2\n", r"its columns \['id'\] appear more than once"),
        ("d.csv", "id;path\n1;2\n", "columns are separated by ';', and a CSV's are by commas"),
        ("c.csv", "", "has no row; write one row per clip"),
        ("header.csv", "id,path\n", "has no row; write one row per clip"),
        ("a.parquet", "no parquet", "cannot be read"),
    ],
)
def test_files_that_cannot_be_read(name, content, words, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=words) as caught:
        read_table(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"does not exist; check data\.train"):
        read_table(tmp_path / "gone.csv")
