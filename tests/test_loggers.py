import csv
import json
import math
import struct
import subprocess
import sys
import time

import pytest
import torch
import wandb
import yaml
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger

from coefvq import engine, pipeline
from coefvq.loggers import keep_rows, log_report, opened, report_scalars, report_table

REPORT = {
    "test": {
        "student": {"f1": 0.5, "ece": math.nan},
        "teacher": {"f1": 0.75},
        "agreement": {"equal_decisions": 1.0},
    }
}


def read_csv(folder):
    with (folder / "logs" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def wandb_records(path):
    """Read a `.wandb` file, which has the form of a LevelDB log behind seven bytes of header."""
    from wandb.proto import wandb_internal_pb2

    content, at, parts = path.read_bytes(), 7, []
    while at + 7 <= len(content):  # what is only half there yet is left out
        if 32768 - at % 32768 < 7:  # a block's end, too short for a header
            at += 32768 - at % 32768
            continue
        _, size, kind = struct.unpack_from("<IHB", content, at)
        parts.append(content[at + 7 : at + 7 + size])
        at += 7 + size
        if at > len(content):
            return
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(b"".join(parts))
            yield record
            parts = []


def read_wandb(folder):
    """Config and history of every offline run below a folder."""

    def name(item):
        return item.key or ":".join(item.nested_key)

    runs = []
    for path in sorted(folder.rglob("*.wandb")):
        config, history = {}, {}
        for _ in range(400):  # W&B's own process may still be writing
            records = list(wandb_records(path))
            if any(record.WhichOneof("record_type") == "exit" for record in records):
                break
            time.sleep(0.05)
        for record in records:
            for item in [*record.run.config.update, *record.config.update]:
                config[name(item)] = json.loads(item.value_json)
            for item in record.history.item:
                history.setdefault(name(item), []).append(json.loads(item.value_json))
        runs.append({"config": config, "history": history, "path": path.parent})
    return runs


@pytest.fixture(autouse=True)
def _quiet():
    engine.quiet()


@pytest.fixture
def picture(tmp_path):
    from matplotlib.figure import Figure

    path = tmp_path / "losses.png"
    Figure(figsize=(1, 1)).savefig(path)
    return path


def test_names_are_the_ones_of_the_design():
    assert report_scalars(REPORT["test"]) == {
        "test/f1": 0.5, "teacher/test/f1": 0.75, "agreement/test/equal_decisions": 1.0,
    }  # fmt: skip
    columns, rows = report_table(REPORT["test"])
    assert report_scalars({"student": {"f1": 0.5}}, split="val") == {"val/f1": 0.5}
    assert columns == ["metric", "student", "teacher"]
    assert rows == [["f1", 0.5, 0.75], ["ece", None, None]]


def test_the_csv_file_is_there_whatever_is_chosen(tmp_path):
    chosen = TensorBoardLogger(tmp_path, name="logs", version="")
    with opened(chosen, tmp_path, tmp_path / "none.ckpt") as loggers:
        log_report(loggers, REPORT, [], step=7)
    assert [row["test/f1"] for row in read_csv(tmp_path)] == ["0.5"]
    with opened(None, tmp_path / "b", tmp_path / "none.ckpt") as loggers:
        assert [type(logger) for logger in loggers] == [CSVLogger]
        log_report(loggers, REPORT, [], step=7)
    assert read_csv(tmp_path / "b")[0]["step"] == "7"


def test_a_chosen_csv_logger_is_the_only_one(tmp_path):
    chosen = CSVLogger(tmp_path, name="logs", version="")
    with opened(chosen, tmp_path, tmp_path / "none.ckpt") as loggers:
        assert loggers == [chosen]


def test_rows_up_to_the_checkpoint_are_kept_when_a_run_goes_on(tmp_path):
    first = CSVLogger(tmp_path, name="logs", version="")
    for step in (0, 3, 5, 8):
        first.log_metrics({"train/loss": 1.0 / (step + 1)}, step=step)
    first.save()
    checkpoint = tmp_path / "last.ckpt"
    torch.save({"global_step": 6}, checkpoint)
    second = CSVLogger(tmp_path, name="logs", version="")
    keep_rows(second, checkpoint)
    second.log_metrics({"train/loss": 9.0, "val/loss": 2.0}, step=6)
    second.save()
    rows = read_csv(tmp_path)
    assert [row["step"] for row in rows] == ["0", "3", "5", "6"]
    assert float(rows[1]["train/loss"]) == 0.25 and rows[3]["val/loss"] == "2.0"


def test_tensorboard_gets_scalars_and_pictures(tmp_path, picture):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    chosen = TensorBoardLogger(tmp_path, name="logs", version="")
    with opened(chosen, tmp_path, tmp_path / "none.ckpt") as loggers:
        log_report(loggers, REPORT, [picture], step=7)
    events = EventAccumulator(str(tmp_path / "logs"))
    events.Reload()
    tags = events.Tags()
    assert {"test/f1", "teacher/test/f1"} <= set(tags["scalars"])
    assert tags["images"] == ["plots/losses"]
    (scalar,) = events.Scalars("test/f1")
    assert scalar.value == 0.5 and scalar.step == 7


def test_a_wandb_run_ends_with_its_run_even_when_that_fails(tmp_path):
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        chosen = WandbLogger(project="coefvq", save_dir=folder, offline=True)
        with pytest.raises(RuntimeError), opened(chosen, folder, folder / "none.ckpt") as loggers:
            loggers[0].log_metrics({"train/loss": float(number)}, step=0)
            raise RuntimeError
        assert wandb.run is None
    values = [run["history"]["train/loss"] for run in read_wandb(tmp_path)]
    assert values == [[0], [1]]


def test_a_run_tells_wandb_all_that_it_should(small, tmp_path):
    cfg = small("+recipe=cpfd", "logger=wandb", "logger.offline=true",
                "trainer.check_val_every_n_epoch=1", "trainer.max_steps=4",
                folder=tmp_path / "run")  # fmt: skip
    report = pipeline.run(cfg, show=False)
    assert wandb.run is None
    (run,) = read_wandb(tmp_path / "run")
    assert run["config"]["objective"]["distill_weight"] == 0.5
    assert run["config"]["runtime"]["task"] == "binary" and run["config"]["seed"] == 1
    history = run["history"]
    assert len(history["train/loss"]) == 4 and "train/loss/cpfd" in history
    assert "val/loss" in history
    for name in ("f1", "average_precision"):  # in training, and in the end the report's
        assert len(history[f"val/{name}"]) >= 2
        assert history[f"val/{name}"][-1] == pytest.approx(report["validation"]["student"][name])
    assert history["teacher/val/f1"] == [pytest.approx(report["validation"]["teacher"]["f1"])]
    assert history["test/f1"] == [pytest.approx(report["test"]["student"]["f1"])]
    assert history["teacher/test/f1"] == [pytest.approx(report["test"]["teacher"]["f1"])]
    assert history["test/metrics:_type"] == ["table-file"]
    assert history["test/metrics:ncols"] == [3] and history["test/metrics:nrows"][0] >= 6
    pictures = {key.split(":")[0] for key in history if key.startswith("plots/")}
    assert pictures == {f"plots/{name}" for name in
                        ("losses", "precision_recall", "reliability", "confidence")}  # fmt: skip
    files = {p.suffix for p in run["path"].rglob("media/**/*") if p.is_file()}
    assert {".png", ".json"} <= files


def test_a_run_on_pairs_tells_wandb_each_of_its_terms(small, tmp_path):
    cfg = small("+recipe=matchlite", "logger=wandb", "logger.offline=true", "data.labelled=8",
                "data.val=8", "data.test=8", "data.batch_size=32", "trainer.max_steps=3",
                "trainer.check_val_every_n_epoch=1", folder=tmp_path / "run")  # fmt: skip
    report = pipeline.run(cfg, show=False)
    (run,) = read_wandb(tmp_path / "run")
    history = run["history"]
    terms = {"task", "sub_labels"}
    assert {k.removeprefix("train/loss/") for k in history if k.startswith("train/loss/")} == terms
    assert {k.removeprefix("val/loss/") for k in history if k.startswith("val/loss/")} == terms
    columns = [history[key] for key in ("train/loss", *sorted(f"train/loss/{t}" for t in terms))]
    for total, *parts in zip(*columns, strict=True):
        assert total == pytest.approx(sum(parts), rel=1e-5)  # both weights are 1
    assert {"val/f1", "val/average_precision", "val/recall_at_precision_80"} <= set(history)
    for name in ("average_precision", "recall_at_precision_80"):
        assert history[f"test/{name}"] == [pytest.approx(report["test"]["student"][name])]
    found = report["pairs"]["student"]
    for precision, recall in found["recall_at_precision"].items():
        assert history[f"test/recall_at_precision_{precision}"][-1] == pytest.approx(recall)
    for kind, own in found["by_sub_label"].items():
        ap = pytest.approx(own["average_precision"])
        assert history[f"test/{kind}/average_precision"] == [ap]
    assert run["config"]["runtime"]["num_sub_labels"] == len(report["data"]["sub_labels"])
    pictures = {key.split(":")[0] for key in history if key.startswith("plots/")}
    assert {"plots/losses", "plots/precision_recall", "plots/reliability"} <= pictures


def test_tensorboard_follows_a_run(small, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    cfg = small("+recipe=supervised", "logger=tensorboard", folder=tmp_path / "run")
    report = pipeline.run(cfg, show=False)
    events = EventAccumulator(str(tmp_path / "run" / "logs"))
    events.Reload()
    assert {"train/loss", "test/f1"} <= set(events.Tags()["scalars"])
    assert events.Scalars("test/f1")[0].value == pytest.approx(report["test"]["student"]["f1"])
    assert "plots/losses.png" in report["plots"]


def test_csv_holds_training_and_test(finished_run):
    report = json.loads((finished_run / "report.json").read_text())
    rows = read_csv(finished_run)
    assert [row["step"] for row in rows if row["train/loss"]] == ["0", "1"]
    (last,) = [row for row in rows if row["test/f1"]]
    assert float(last["test/f1"]) == pytest.approx(report["test"]["student"]["f1"])
    assert float(last["teacher/test/f1"]) == pytest.approx(report["test"]["teacher"]["f1"])
    settings = yaml.safe_load((finished_run / "logs" / "hparams.yaml").read_text())
    assert settings["objective"]["distill_weight"] == 0.5


@pytest.mark.slow
def test_a_sweep_in_one_process_makes_a_wandb_run_for_each(small_words, tmp_path):
    subprocess.run(
        [sys.executable, "-m", "coefvq.train", "-m", "+recipe=supervised", "logger=wandb",
         "logger.offline=true", "seed=1,2", *small_words],
        cwd=tmp_path, check=True, capture_output=True, timeout=280,
    )  # fmt: skip
    runs = read_wandb(tmp_path / "runs")
    assert sorted(run["config"]["seed"] for run in runs) == [1, 2]
    assert all(len(run["history"]["test/f1"]) == 1 for run in runs)


def test_wandb_without_a_login_is_one_sentence(tmp_path, monkeypatch):
    from wandb.errors import UsageError

    def refuse(self):
        raise UsageError("No API key configured. Use `wandb login` to log in.\nMore words.")

    monkeypatch.setattr(WandbLogger, "experiment", property(refuse))
    logger = WandbLogger(save_dir=str(tmp_path), offline=True)
    sentence = r"logger=wandb cannot start \(No API key .*\); log in with wandb login, or stay offl"
    with (
        pytest.raises(ValueError, match=sentence),
        opened(logger, tmp_path, tmp_path / "last.ckpt"),
    ):
        raise AssertionError("nothing runs")
