"""The study of look-alikes: on one small run, whose report has the same SRCC."""

import json
import re

import av
import numpy as np
import pytest
from scripts import load_script

from coefvq import pipeline


@pytest.fixture(scope="module")
def script():
    return load_script("studies/quality_by_pattern.py")


def test_it_says_how_alike_clips_are_and_scores_every_student(script, small, tmp_path, capsys):
    run = tmp_path / "runs" / "blind_quality" / "seed-1"
    words = ("data.labelled=60", "data.unlabelled=0", "data.val=10", "data.test=40")
    report = pipeline.run(small("+recipe=blind_quality", *words, folder=run), show=False)
    capsys.readouterr()
    script.study(tmp_path / "runs")
    said = capsys.readouterr().out
    assert "sierpinski" not in said and "testsrc2" not in said
    clips = [int(n) for n in re.findall(r"^\| \w+ \| (\d+) \| \d\.\d\d \| \d+% \|", said, re.M)]
    assert sum(clips) == 40
    assert f"| all | {report['test']['student']['srcc']:.3f} ± nan |" in said
    assert "| without look-alikes | " in said
    assert json.loads((run / "report.json").read_text())["seed"] == 1


def test_a_picture_is_like_itself_whatever_its_contrast(script, tmp_path):
    grey = np.random.default_rng(0).integers(40, 200, (64, 64)).astype(float)
    pictures = []
    for name, factor in (("plain", 1.0), ("flat", 0.5)):
        with av.open(str(tmp_path / f"{name}.mkv"), "w") as out:
            stream = out.add_stream("ffv1", rate=5)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "gray"
            frame = av.VideoFrame.from_ndarray((grey * factor).astype(np.uint8), "gray")
            out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        pictures.append(script.picture(tmp_path / f"{name}.mkv"))
    assert float(pictures[0] @ pictures[1]) > 0.999
    assert abs(float(pictures[0] @ pictures[0]) - 1) < 1e-9


def test_a_folder_without_runs_is_said(script, tmp_path):
    (tmp_path / "cpfd").mkdir()
    with pytest.raises(SystemExit, match="no finished runs that begin with 'blind'"):
        script.study(tmp_path, "blind")
