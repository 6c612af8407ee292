"""Real recordings of several codecs, sizes and frame rates go through the main recipe."""

import csv
from pathlib import Path

import pandas
import pytest

CLIPS = Path(__file__).resolve().parents[2] / "shared" / "data" / "clips"

pytestmark = pytest.mark.skipif(
    not (CLIPS / "manifest.csv").exists(), reason="the folder of real clips is not here"
)


def test_cpfd_on_a_manifest_of_real_clips(tmp_path):
    """A made-up label (longer than eight seconds), made-up features, groups kept together."""
    from coefvq import pipeline
    from coefvq.compare import Job, compose
    from coefvq.predict import predict

    with (CLIPS / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    table = pandas.DataFrame(
        {
            "id": [row["file"] for row in rows],
            "path": [row["file"] for row in rows],
            "title": [row["content_id"].replace("_", " ") for row in rows],
            "label": [int(float(row["duration_s"]) > 8) for row in rows],
            "bytes": [int(row["bytes"]) for row in rows],
            "fps": [float(row["fps"]) for row in rows],
            "group": [row["group"] for row in rows],
        }
    )
    table.to_csv(tmp_path / "my.csv", index=False)
    words = (
        "+recipe=cpfd",
        "trainer.max_steps=2",
        "teacher.training.max_steps=2",
        "data=manifest",
        f"data.train={tmp_path / 'my.csv'}",
        f"data.root={CLIPS}",
        "data.privileged=[bytes,fps]",
        "data.log1p=[bytes]",
        "data.group=group",
        "data.batch_size=8",
    )
    cfg = compose(Job("cpfd", None, 1, words, tmp_path / "run"))
    report = pipeline.run(cfg, show=False)
    splits = report["data"]["splits"]
    assert sum(split["clips"] for split in splits.values()) == len(rows)
    assert not report["skipped_clips"]
    assert 0 <= report["test"]["student"]["accuracy"] <= 1
    scores = predict(tmp_path / "run" / "student", CLIPS, out=tmp_path / "scores.parquet")
    assert len(scores) == len(rows) and scores["probability"].between(0, 1).all()
    assert (scores["problem"] == "").all()
