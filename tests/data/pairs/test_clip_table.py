from pathlib import Path

from coefvq.data.pairs.clip_table import Clips, clips_beside
from coefvq.data.pairs.paths import CLIPS_FILE, clips_folder
from coefvq.data.rows import Row


def reader(problems):
    return Clips(None, ("title",), allow_outside_root=False, check_files=False, problems=problems)


def test_the_list_of_make_pairs_is_found(tmp_path):
    table = tmp_path / "pairs.csv"
    assert clips_beside(table) is None
    clips_folder(table).mkdir()
    (clips_folder(table) / CLIPS_FILE).write_bytes(b"")
    assert clips_beside(table) == tmp_path / "pairs.csv.clips" / CLIPS_FILE


def test_one_id_is_one_file(tmp_path, write_manifest):
    problems = []
    clips = reader(problems)
    for number, folder in enumerate(("a", "b")):
        manifest = write_manifest([{"id": "c", "path": f"{folder}.mp4"}], f"{folder}.csv")
        clips.enter(Path(f"pairs{number}.csv"), manifest, tmp_path / "home")
        clips.take(Row(Path(f"pairs{number}.csv"), 1, {"query": "c"}), "query")
    (problem,) = problems
    assert "query 'c' is" in str(problem) and "give different clips different ids" in str(problem)


def test_ids_are_unique(tmp_path, write_manifest):
    problems = []
    rows = [{"id": "c", "path": "a.mp4"}, {"id": "c", "path": "b.mp4"}]
    reader(problems).enter(Path("p.csv"), write_manifest(rows, "m.csv"), tmp_path / "home")
    assert "'c' is taken by row 1" in str(problems[0])
