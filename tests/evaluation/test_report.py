import io
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from coefvq.evaluation.report import plain, read_report, terminal_table, write_report


@dataclass(frozen=True)
class Bad:
    id: str
    path: Path
    reason: str


@pytest.fixture
def report():
    return {
        "recipe": "cpfd",
        "task": "degraded",
        "task_kind": "binary",
        "seed": 1,
        "command": "python -m coefvq.train +recipe=cpfd",
        "test": {
            "teacher": {"f1": 0.8, "auroc": 0.9, "ece": 0.1, "n": 350.0, "prevalence": 0.25},
            "student": {"f1": 0.6, "auroc": math.nan, "ece": 0.2, "n": 350.0, "prevalence": 0.25},
            "agreement": {"equal_decisions": 0.75, "kl": 0.125, "score_correlation": 0.5},
        },
        "threshold": {"teacher": 0.4, "student": np.float64(0.31)},
        "data": {"root": Path("clips"), "splits": {"train": {"clips": 3}, "test": {"clips": 2}}},
        "data_fingerprint": "abc123",
        "teacher_name": "df_xvlm",
        "teacher_fingerprint": None,
        "skipped_clips": [Bad("b7", Path("clips/b7.mp4"), "moov atom | not found")],
        "seconds": {"data": 10.0, "teacher": 2.5},
        "peak_memory_mb": torch.tensor(812.4),
        "versions": {"torch": "2.13.0"},
        "paths": {"report": "runs/x/report.md", "checkpoint": None, "student": "runs/x/student"},
        "plots": ["plots/losses.png"],
    }


def test_report_round_trip(tmp_path, report):
    json_path, page_path = write_report(tmp_path / "run", report)
    read = read_report(tmp_path / "run")
    assert read == read_report(json_path) == json.loads(json_path.read_text())
    assert read["test"]["student"]["f1"] == 0.6
    assert read["test"]["student"]["auroc"] is None
    assert read["threshold"] == {"teacher": 0.4, "student": 0.31}
    assert read["peak_memory_mb"] == pytest.approx(812.4)
    assert read["skipped_clips"][0]["path"] == "clips/b7.mp4"
    assert read["notes"] == ["undefined on this test split (null): test.student.auroc"]
    assert sorted(p.name for p in page_path.parent.iterdir()) == ["report.json", "report.md"]


def test_writing_a_read_report_again_changes_nothing(tmp_path, report):
    first = [path.read_text() for path in write_report(tmp_path, report)]
    again = write_report(tmp_path, read_report(tmp_path))
    assert [path.read_text() for path in again] == first


def test_a_failed_write_leaves_the_old_report(tmp_path, report, monkeypatch):
    write_report(tmp_path, report)
    before = (tmp_path / "report.json").read_text()

    def full(self, *args, **kwargs):
        self.touch()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space left"):
            write_report(tmp_path, report | {"seed": 2})
    assert (tmp_path / "report.json").read_text() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_unreadable_reports_are_sentences(tmp_path):
    with pytest.raises(ValueError, match="no readable report"):
        read_report(tmp_path)
    (tmp_path / "report.json").write_text('{"test": ')
    with pytest.raises(ValueError, match=r"report\.json is no readable report"):
        read_report(tmp_path)
    (tmp_path / "report.json").write_text("[1]")
    with pytest.raises(ValueError, match="list, expected an object"):
        read_report(tmp_path)


def test_plain_knows_what_runs_are_made_of():
    tree = {1: np.float32(0.5), "a": (torch.tensor([1, 2]), math.inf), "b": True, "c": np.int64(3)}
    assert plain(tree) == {"1": 0.5, "a": [[1, 2], None], "b": True, "c": 3}
    assert plain(np.array([math.nan, 1.0])) == [None, 1.0]


def show(report, width):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(terminal_table(report))
    return console.export_text()


def test_last_screen(report):
    text = show(report, 100)
    row = next(line for line in text.splitlines() if "F1" in line)
    assert "0.8000" in row and "0.6000" in row and "-0.2000" in row
    assert "undefined" in text
    assert "cpfd · degraded · seed 1" in text
    assert "decide alike on 75.0% of clips" in text
    assert "runs/x/report.md" in text and "runs/x/student" in text and "checkpoint" not in text


def test_last_screen_of_pairs(report):
    text = show(report | {"pairs": {"student": {}}}, 100)
    assert "decide alike on 75.0% of pairs" in text


def test_last_screen_keeps_whole_paths_and_odd_names(report):
    long = "runs/" + "x" * 120 + "[red]/report.md"
    text = show(report | {"paths": {"report": long}}, 60)
    assert long in "".join(line.strip() for line in text.splitlines())


def test_last_screen_without_teacher(report):
    del report["test"]["teacher"], report["test"]["agreement"]
    text = show(report, 80)
    assert "student" in text and "teacher" not in text
