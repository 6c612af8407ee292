from pathlib import Path

import pandas
import pytest

from coefvq.data.pairs.paths import CLIPS_FILE, clips_folder, enter_folder, put_table
from coefvq.types import Clip


def test_a_folder_of_copies_is_of_one_request(tmp_path):
    folder = clips_folder(tmp_path / "pairs.csv")
    clips = [Clip("a", tmp_path / "a.mp4")]
    enter_folder(folder, [1, "x"], clips)
    (folder / "000000-a-copy0.mp4").touch()
    (folder / ".half.part").touch()
    enter_folder(folder, [1, "x"], clips)
    assert not (folder / ".half.part").exists()  # of a call that was killed
    with pytest.raises(ValueError, match="holds copies of other clips or with other settings"):
        enter_folder(folder, [2, "x"], clips)
    other = tmp_path / "mine.csv.clips"
    other.mkdir()
    (other / "diary.txt").touch()
    with pytest.raises(ValueError, match="is there and is not ours"):
        enter_folder(other, [1], clips)


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", CLIPS_FILE])
def test_tables_appear_whole(name, tmp_path):
    put_table(pandas.DataFrame({"id": ["a"]}), tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("table", ["made/pairs.parquet", "pairs.v2.csv", "saved", "/a/b.jsonl"])
def test_the_folder_stands_beside_its_table_under_its_whole_name(table):
    folder = clips_folder(table)
    assert folder == clips_folder(Path(table)) == Path(f"{table}.clips")
    assert folder.parent == Path(table).parent


def test_two_tables_in_one_place_do_not_share_their_clips():
    names = ("pairs.csv", "pairs.parquet", "pairs")
    assert len({clips_folder(name) for name in names}) == 3
