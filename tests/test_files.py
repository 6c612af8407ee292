import json

import pytest

from coefvq.files import replacing, write_json, write_text


def test_text_arrives_whole_and_alone(tmp_path):
    write_text(tmp_path / "new" / "a.txt", "ä\n")
    write_json(tmp_path / "new" / "a.json", {"b": 1, "a": [2]})
    assert (tmp_path / "new" / "a.txt").read_text(encoding="utf-8") == "ä\n"
    assert list(json.loads((tmp_path / "new" / "a.json").read_text())) == ["a", "b"]
    assert len(list((tmp_path / "new").iterdir())) == 2


def test_what_fails_leaves_the_old_content(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
