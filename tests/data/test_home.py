from pathlib import Path

from coefvq.data.home import cache_home


def test_a_named_folder_wins_over_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("COEFVQ_HOME", str(tmp_path / "env"))
    assert cache_home(tmp_path / "named") == tmp_path / "named"
    assert cache_home() == tmp_path / "env"


def test_without_either_it_is_in_the_users_cache(monkeypatch):
    monkeypatch.delenv("COEFVQ_HOME")
    assert cache_home() == Path("~/.cache/coefvq").expanduser()
