from pathlib import Path

import pytest

from coefvq.data.pairs.paths import CLIPS_FILE, clips_folder


@pytest.mark.parametrize("table", ["made/pairs.parquet", "pairs.v2.csv", "saved", "/a/b.jsonl"])
def test_the_folder_stands_beside_its_table_under_its_whole_name(table):
    folder = clips_folder(table)
    assert folder == clips_folder(Path(table)) == Path(f"{table}.clips")
    assert folder.parent == Path(table).parent


def test_two_tables_in_one_place_do_not_share_their_clips():
    names = ("pairs.csv", "pairs.parquet", "pairs")
    assert len({clips_folder(name) for name in names}) == 3


def test_the_list_is_in_that_folder_and_a_parquet_file():
    assert Path(CLIPS_FILE).name == CLIPS_FILE and CLIPS_FILE.endswith(".parquet")
