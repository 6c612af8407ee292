from pathlib import Path

import pandas
import pytest

from coefvq.data.pairs.paths import CLIPS_FILE, clips_folder, entered_folder, put_table
from coefvq.types import Clip


def enter(folder, settings, clips):
    with entered_folder(folder, settings, clips):
        pass


def test_a_folder_of_copies_is_of_one_request(tmp_path):
    folder = clips_folder(tmp_path / "pairs.csv")
    clips = [Clip("a", tmp_path / "a.mp4")]
    enter(folder, [1, "x"], clips)
    (folder / "000000-a-copy0.mp4").touch()
    (folder / ".half.part").touch()
    enter(folder, [1, "x"], clips)
    assert not (folder / ".half.part").exists()  # of a call that was killed
    with pytest.raises(ValueError, match="holds copies of other clips or with other settings"):
        enter(folder, [2, "x"], clips)
    other = tmp_path / "mine.csv.clips"
    other.mkdir()
    (other / "diary.txt").touch()
    with pytest.raises(ValueError, match="is there and is not ours"):
        enter(other, [1], clips)


def test_what_fails_before_the_first_copy_leaves_nothing(tmp_path, caplog):
    """Folders above are made, which is said; with a copy in them they stay."""
    folder = tmp_path / "new" / "newer" / "p.csv.clips"
    with pytest.raises(KeyboardInterrupt), entered_folder(folder, [], []):
        assert folder.is_dir()
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    assert f"folder {folder.parent} was not there and is made" in caplog.text
    with pytest.raises(KeyboardInterrupt), entered_folder(folder, [], []):
        (folder / "copy.mp4").touch()
        raise KeyboardInterrupt
    caplog.clear()
    enter(folder, [], [])
    assert (folder / "copy.mp4").exists() and not caplog.text


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
