import json
import runpy
import shutil
import sys

import pandas
import pytest
import torch
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from coefvq import engine, pipeline, predict
from coefvq.evaluation.collect import collect
from coefvq.modules.pretrained import load_metadata
from coefvq.prepare import prepared_data
from coefvq.serving import prediction_parts
from coefvq.students.load import load_student


@pytest.fixture(scope="module")
def tested(finished_run, home):
    """The finished run's own data, and what its student says of the test split."""
    cfg = OmegaConf.create(yaml.safe_load((finished_run / "config.yaml").read_text()))
    cfg.cache_dir = str(home)
    engine.quiet()
    data = prepared_data(cfg)
    student = load_student(finished_run / "student")
    found = collect(lambda batch: student(batch.public()), data.test_dataloader())
    return data.splits["test"], dict(zip(found.ids, found.logits.sigmoid().tolist(), strict=True))


@pytest.fixture
def model(finished_run):
    return finished_run / "student"


@pytest.fixture
def manifest(tested, tmp_path):
    """A manifest of the test clips with their titles, in another order, without labels."""
    clips, _ = tested
    rows = [
        {"id": clip.id, "path": str(clip.path), "title": clip.text["title"]}
        for clip in reversed(clips)
    ]
    path = tmp_path / "list.csv"
    pandas.DataFrame(rows).to_csv(path, index=False)
    return path


@pytest.fixture
def root(tested):
    return tested[0][0].path.parent


def score(model, clips, out, **options):
    return predict.predict(model, clips, out=out, **options)


def test_scores_are_the_ones_of_the_runs_own_test(model, manifest, root, tested, tmp_path):
    clips, expected = tested
    table = score(model, manifest, tmp_path / "s.parquet", root=root)
    assert list(table.columns) == ["id", "path", "probability", "prediction", "problem"]
    assert list(table["id"]) == [clip.id for clip in reversed(clips)]
    values = [expected[name] for name in table["id"]]
    assert list(table["probability"]) == pytest.approx(values, abs=1e-5)
    assert (table["problem"] == "").all()
    metadata = load_metadata(model)
    yes = table["probability"] >= metadata["threshold"]
    assert list(table["prediction"] == metadata["task"]["classes"][1]) == list(yes)
    pandas.testing.assert_frame_equal(pandas.read_parquet(tmp_path / "s.parquet"), table)
    assert not (tmp_path / "s.parquet.parts").exists()


def test_scores_do_not_depend_on_the_batch(model, manifest, root, tmp_path):
    tables = [
        score(model, manifest, tmp_path / f"{size}.parquet", root=root, batch_size=size)
        for size in (1, 5, 16)
    ]
    for table in tables[1:]:
        assert list(table["probability"]) == pytest.approx(list(tables[0]["probability"]), abs=1e-5)


def test_titles_are_read(model, manifest, root, tmp_path):
    table = pandas.read_csv(manifest)
    table["title"] = "something else entirely"
    table.to_csv(tmp_path / "other.csv", index=False)
    first = score(model, manifest, tmp_path / "a.parquet", root=root)
    second = score(model, tmp_path / "other.csv", tmp_path / "b.parquet", root=root)
    assert not torch.allclose(*(torch.tensor(t["probability"]) for t in (first, second)))


@pytest.fixture
def folder(tested, tmp_path):
    """Three good clips, a truncated one and one that is no video."""
    clips, _ = tested
    folder = tmp_path / "clips"
    folder.mkdir()
    for number, clip in enumerate(clips[:3]):
        shutil.copy(clip.path, folder / f"{number}.mp4")
    (folder / "half.mp4").write_bytes(clips[3].path.read_bytes()[:900])
    (folder / "words.mp4").write_text("no video")
    return folder


def test_a_clip_that_cannot_be_read_gets_a_row_with_the_reason(model, folder, tmp_path):
    table = score(model, folder, tmp_path / "s.parquet", batch_size=2).set_index("id")
    assert list(table.index) == ["0.mp4", "1.mp4", "2.mp4", "half.mp4", "words.mp4"]
    for name in ("half.mp4", "words.mp4"):
        assert name in table.loc[name, "problem"]
        assert pandas.isna(table.loc[name, "probability"])
        assert pandas.isna(table.loc[name, "prediction"])
    assert table.loc[["0.mp4", "1.mp4", "2.mp4"], "probability"].between(0, 1).all()


def test_columns_are_there_even_without_a_readable_clip(model, folder, tmp_path):
    for path in folder.glob("[0-9].mp4"):
        path.unlink()
    table = score(model, folder, tmp_path / "s.parquet")
    assert list(table.columns) == ["id", "path", "probability", "prediction", "problem"]
    assert table["probability"].isna().all() and (table["problem"] != "").all()


def test_or_it_stops_the_call(model, folder, tmp_path):
    with pytest.raises(ValueError, match=r"half\.mp4"):
        score(model, folder, tmp_path / "s.parquet", on_bad_clip="error")
    assert not (tmp_path / "s.parquet").exists()


def test_a_file_of_the_manifest_that_is_missing_is_a_row_too(model, root, tmp_path):
    (tmp_path / "list.csv").write_text("id,path\nx,gone.mp4\n")
    (problem,) = score(model, tmp_path / "list.csv", tmp_path / "s.parquet", root=root)["problem"]
    assert "gone.mp4" in problem


def test_a_file_is_not_overwritten_unasked(model, folder, tmp_path):
    out = tmp_path / "s.parquet"
    out.write_text("mine")
    with pytest.raises(ValueError, match="exists; add overwrite=true"):
        score(model, folder, out)
    assert out.read_text() == "mine"
    score(model, folder, out, overwrite=True)
    assert len(pandas.read_parquet(out)) == 5


class Killed(BaseException):
    """What no handler for errors catches."""


def test_a_killed_call_goes_on_where_it_was(model, manifest, root, tmp_path, monkeypatch):
    whole = score(model, manifest, tmp_path / "whole.parquet", root=root)
    monkeypatch.setattr(predict, "PART", 5)
    write, scored = prediction_parts.write_table, []

    def killed_after_two(table, path):
        if len(scored) == 2:
            raise Killed
        scored.append(len(table))
        write(table, path)

    monkeypatch.setattr(prediction_parts, "write_table", killed_after_two)
    out = tmp_path / "killed.parquet"
    with pytest.raises(Killed):
        score(model, manifest, out, root=root)
    assert scored == [5, 5] and not out.exists()

    parts: list[int] = []

    def count(table, path):
        parts.append(len(table))
        write(table, path)

    monkeypatch.setattr(prediction_parts, "write_table", count)
    table = score(model, manifest, out, root=root)
    assert parts == [5, 1, 16]  # what was missing, then the whole table
    pandas.testing.assert_frame_equal(table, whole)
    assert not out.with_name("killed.parquet.parts").exists()


@pytest.mark.parametrize("changed", ["model", "clips"])
def test_parts_of_another_call_are_refused(model, folder, tested, tmp_path, monkeypatch, changed):
    out = tmp_path / "s.parquet"

    def killed(table, path):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(prediction_parts, "write_table", killed)
        score(model, folder, out)
    if changed == "model":
        other = tmp_path / "other"
        student = load_student(model)
        with torch.no_grad():
            next(student.parameters()).add_(1)
        shutil.copytree(model, other)
        student.save_pretrained(
            other, tokenizer=None, metadata=load_metadata(model), overwrite=True
        )
        shutil.copy(model / "tokenizer.json", other)
        shutil.copy(model / "tokenizer_config.json", other)
        model = other
    else:
        (folder / "words.mp4").unlink()
    with pytest.raises(ValueError, match="parts of another model or other clips"):
        score(model, folder, out)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"on_bad_clip": "ignore"}, "on_bad_clip is skip or error, got 'ignore'"),
        ({"out": "scores.csv"}, r"must end in \.parquet"),
        ({"clips": "nowhere"}, "clips=nowhere does not exist"),
        ({"model": "nowhere"}, "holds no model"),
        ({"device": "cuda"}, "no CUDA device is here; use device=cpu"),
    ],
)
def test_what_cannot_be_done_is_said(model, folder, tmp_path, options, sentence):
    if options.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    given = {"model": model, "clips": folder, "out": tmp_path / "s.parquet", **options}
    with pytest.raises(ValueError, match=sentence):
        predict.predict(given.pop("model"), given.pop("clips"), **given)


def test_an_empty_folder_is_said(model, tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="holds no video file"):
        score(model, tmp_path / "none", tmp_path / "s.parquet")


@pytest.mark.parametrize(
    ("task", "columns"),
    [
        ("level", ["p_", "p_", "p_", "prediction"]),
        ("artefacts", ["p_", "p_", "p_", "p_", "prediction"]),
    ],
)
def test_students_of_other_tasks_are_served(small, root, tmp_path, task, columns):
    cfg = small("+recipe=supervised", f"data.task={task}", folder=tmp_path / "run")
    pipeline.run(cfg, show=False)
    (tmp_path / "clips").mkdir()
    for path in sorted(root.glob("*.mp4"))[:2]:
        shutil.copy(path, tmp_path / "clips")
    table = score(tmp_path / "run" / "student", tmp_path / "clips", tmp_path / "s.parquet")
    found = list(table.columns)[2:-1]
    assert [name[: len(c)] for name, c in zip(found, columns, strict=True)] == columns
    classes = json.loads((tmp_path / "run" / "report.json").read_text())["data"]["classes"]
    assert found[:-1] == [f"p_{name}" for name in classes]
    if task == "level":
        assert set(table["prediction"]) <= set(classes)


def test_a_teacher_that_can_be_served_scores_clips_too(finished_cascade, manifest, root, tmp_path):
    """It knows no threshold of its own: one half."""
    teacher = json.loads((finished_cascade / "report.json").read_text())["paths"]["teacher"]
    table = score(teacher, manifest, tmp_path / "s.parquet", root=root)
    classes = load_metadata(teacher)["task"]["classes"]
    assert list(table["prediction"] == classes[1]) == list(table["probability"] >= 0.5)


def test_a_teacher_that_needs_privileged_features_cannot(finished_run, folder, tmp_path):
    teacher = json.loads((finished_run / "report.json").read_text())["paths"]["teacher"]
    with pytest.raises(ValueError, match=r"DFXVLM.*privileged features"):
        score(teacher, folder, tmp_path / "s.parquet")


@pytest.mark.filterwarnings("ignore:.*found in sys.modules after import of package")
def test_from_the_command_line(model, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["predict.py", f"model={model}", f"clips={folder}"])
    GlobalHydra.instance().clear()
    try:
        runpy.run_module("coefvq.predict", run_name="__main__")
    finally:
        HydraConfig.instance().cfg = None
        GlobalHydra.instance().clear()
    printed = capsys.readouterr()
    rule, count = printed.out.splitlines()
    assert "give a manifest with the columns id, path, title" in printed.err
    assert rule.startswith("prediction: degraded from a probability of ")
    assert count == "5 clips in scores.parquet, 2 of them unreadable"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clips", "scores.parquet"]


@pytest.mark.parametrize(
    "title",
    ["hello, world", "'tis the season", '"Hello" she said', "{music} on", "1e3", "a\\",
     'say \\"x\\"', "100 % [live] (part: 2)", "null and void"],
)  # fmt: skip
def test_a_title_arrives_as_it_was_written(title):
    word = predict.listed(f"query_text={title}")
    assert OverridesParser.create().parse_override(word).value() == title


def test_quotes_and_braces_of_hydra_stay_its_own():
    for word in ('query_text="a, b"', "query_text={title: hello}", "query_text=null"):
        assert predict.listed(word) == word
