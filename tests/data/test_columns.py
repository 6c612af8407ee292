from pathlib import Path

import pytest

from coefvq.data.columns import check_columns, expand_columns, matching
from coefvq.data.tables import read_table


@pytest.fixture
def table(tmp_path):
    def make(name, header):
        path = Path(tmp_path, name)
        path.write_text(f"{header}\n{','.join('1' for _ in header.split(','))}\n")
        return read_table(path)

    return make


def test_patterns_stand_for_columns_and_names_for_themselves(table):
    first = table("a.csv", "id,dense_b,dense_a,blur")
    assert expand_columns(first, ["dense_*", "blur"]) == ("dense_b", "dense_a", "blur")
    assert expand_columns(first, ["blur", "*"])[0] == "blur"
    assert expand_columns(first, ["sound_*"]) == ("sound_*",)  # refused where columns are checked


def test_names_that_patterns_mean():
    assert matching(("dense_b", "blur"), ["dense_*"]) == ("dense_b",)
    assert matching(("dense_b",), []) == ()
    with pytest.raises(ValueError, match=r"data\.log1p names 'sound_\*', which is not among"):
        matching(("dense_b",), ["sound_*"])


def test_all_missing_columns_are_named_at_once(table):
    tables = [table("a.csv", "id,file"), table("b.csv", "id")]
    check_columns(tables, {"id": ["id"]}, of_first={"path": ["file"]})
    with pytest.raises(ValueError) as caught:
        check_columns(tables, {"text": ["title", "words"], "id": ["id"]}, {"split": ["part"]})
    text = str(caught.value)
    assert text.startswith(
        "data.text names column 'title' and data.text names column 'words' and data.split names "
        "column 'part', columns that "
    )
    assert text.endswith("a.csv does not have; its columns are id, file")
    with pytest.raises(ValueError, match=r"data.path names column 'file', which .*b.csv does not"):
        check_columns(tables, {"path": ["file"]}, of_first={})
