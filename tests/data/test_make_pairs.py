import subprocess
import sys
from pathlib import Path

import pandas
import pytest

from coefvq.data.make_pairs import main, read_options, summary
from coefvq.data.pairs.drawing import Counts
from coefvq.data.pairs.make import MadePairs


def test_words_become_options():
    words = ["clips=a=b", "out=p.csv", "copies=2", "val_fraction=0", "transformations=[crop, flip]",
             "text=title", "split=null", "counts.random=3"]  # fmt: skip
    assert read_options(words) == {
        "clips": "a=b", "out": "p.csv", "copies": 2, "val_fraction": 0, "text": ["title"],
        "transformations": ["crop", "flip"], "split": None, "counts": Counts(random=3),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("folder", "'folder' is not key=value"),
        ("colour=red", "colour is unknown; there are clips, out, root"),
        ("copies=many", "copies=many must be a number like 3"),
        ("copies=true", "copies=True must be a number like 3"),
        ("copies=1.5", "copies=1.5 must be a number like 3"),
        ("text=[a", r"'text=\[a' cannot be read"),
        ("counts.odd=1", "counts.odd=1 is not one of counts.copies"),
        ("counts.random=-1", "counts.random=-1 is not one of"),
        ("out=q.csv", "out is given twice"),
        ("text=3", r"text=3 is no list of names; write text=\[a,b\]"),
        ("transformations=[flip,1]", r"transformations=.* is no list of names"),
    ],
)
def test_wrong_words(word, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_options(["clips=c", "out=p.csv", word])


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match=r"out is not set; add out=… to the command"):
        read_options(["clips=c"])


def test_a_user_sees_one_sentence(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main([f"clips={tmp_path}/none", f"out={tmp_path}/p.csv"])
    assert caught.value.code == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("coefvq: clips=") and "does not exist" in error
    assert len(error.splitlines()) == 1


def test_a_place_that_cannot_be_written_is_one_sentence(write_clip, tmp_path, capsys):
    (tmp_path / "clips").mkdir()
    write_clip(tmp_path / "clips" / "a.mp4", 4)
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as caught:
        main([f"clips={tmp_path}/clips", f"out={tmp_path}/file/p.csv"])
    error = capsys.readouterr().err.strip()
    assert caught.value.code == 2 and len(error.splitlines()) == 1
    assert "out cannot be written there" in error and "Not a directory" in error


def test_help(capsys):
    main(["--help"])
    assert "segment_share" in capsys.readouterr().out


def test_a_split_of_one_label_is_said():
    rows = [("train", 1), ("train", 0), ("val", 1), ("val", 1)]
    table = pandas.DataFrame(rows, columns=["split", "label"]).assign(case="random")
    said = summary(MadePairs(table, table, ()), "p.csv").splitlines()
    assert said[3] == (
        "  val has no pair of label 0, and runs want both there: give more clips, or other "
        "transformations"
    )
    assert len(said) == 4


def test_the_command(write_clip, tone, tmp_path):
    """In a process of its own, from another folder; encoders write nothing to the screen."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(6):
        write_clip(folder / f"{number}.mp4", 24, sound=tone(300 + 90 * number, 2.0))
    (folder / "bad.mp4").write_bytes(b"no video")
    words = [f"clips={folder}", "out=p.parquet", "transformations=[reencode]", "most=1"]
    done = subprocess.run(
        [sys.executable, "-m", "coefvq.data.make_pairs", *words],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "pairs of 24 clips in p.parquet" in done.stdout
    assert "1 skipped" in done.stdout and "bad.mp4: it is no media file" in done.stdout
    assert (tmp_path / "p.parquet").is_file()
    noise = [line for line in done.stderr.splitlines() if line and "clips" not in line.lower()]
    assert [line for line in noise if not line.startswith(("Looking", "Making"))] == []
