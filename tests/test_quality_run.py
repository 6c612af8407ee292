"""A quality model from training to a score with a unit."""

import json
import shutil

import av
import hydra
import numpy as np
import pandas
import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from coefvq import pipeline, predict
from coefvq.compare import Job, compose
from coefvq.data.vqa_manifests import make_manifest, training_words
from coefvq.evaluate import evaluate
from coefvq.scoring import vqa_lines

WORDS = ("+recipe=blind_quality", "data.labelled=16", "data.val=24", "data.num_frames=2")


@pytest.fixture(scope="module")
def run(home, small, tmp_path_factory):
    """A small run of the recipe, its report, and the folder of its clips."""
    folder = tmp_path_factory.mktemp("quality") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COEFVQ_HOME", str(home))
        report = pipeline.run(small(*WORDS, folder=folder), show=False)
    return folder, report


@pytest.fixture(scope="module")
def clips(run, home, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for clip in sorted((home / "shortform").rglob("00000[0-4].mp4")):
        shutil.copy(clip, folder)
    return folder


def test_the_report_has_the_fields_numbers_and_the_unit(run):
    _, report = run
    found = report["test"]["student"]
    assert {"srcc", "plcc", "krcc", "rmse", "logistic_fit", "level_accuracy"} <= found.keys()
    stored = report["score_calibration"]
    assert stored["label_range"] == [1.0, 5.0] and stored["clips"] == 24
    assert report["calibrated_scores"]["n"] == found["n"] == 16
    assert any("ten simulated opinions" in note for note in report["notes"])
    text = (run[0] / "report.md").read_text()
    assert "### Scores with a unit" in text and "privileged" not in text


def test_predict_gives_scores_with_intervals_and_words(run, clips, tmp_path):
    model = run[0] / "student"
    table = predict.predict(model, clips, out=tmp_path / "a.parquet", batch_size=2)
    assert list(table.columns) == [
        "id", "path", "score", "unit", "low", "high", "level", "label_score", "remarks", "problem",
    ]  # fmt: skip
    assert ((table["low"] <= table["score"]) & (table["score"] <= table["high"])).all()
    assert table[["low", "high"]].stack().between(0, 100).all()
    assert np.allclose(table["score"], 25 * (table["label_score"] - 1))
    again = predict.predict(model, clips, out=tmp_path / "b.parquet", batch_size=5)
    assert np.allclose(again["score"], table["score"], atol=1e-3)


def test_clips_of_any_shape_get_a_score_and_others_a_reason(run, clips, tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    shapes = {"still": (128, 128, 1), "tiny": (4, 4, 24), "portrait": (90, 160, 24),
              "long": (16, 16, 900), "wide": (640, 34, 6)}  # fmt: skip
    for name, (width, height, count) in shapes.items():
        with av.open(str(folder / f"{name}.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=12)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            grey = np.full((height, width, 3), 90, np.uint8)
            for number in range(count):
                grey[number % height] = 200
                picture = av.VideoFrame.from_ndarray(grey, format="rgb24")
                for packet in stream.encode(picture):
                    container.mux(packet)
            for packet in stream.encode():
                container.mux(packet)
    whole = sorted(clips.iterdir())[0].read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 3])
    (folder / "empty.mp4").touch()
    table = predict.predict(run[0] / "student", folder, out=tmp_path / "odd.parquet")
    bad = table["id"].isin(["cut.mp4", "empty.mp4"])
    assert table.loc[~bad, "score"].between(0, 100).all() and (~bad).sum() == 5
    assert (table.loc[~bad, "problem"] == "").all() and table.loc[bad, "score"].isna().all()
    assert table.loc[bad, "problem"].str.contains("cannot be read").all()
    remarks = dict(zip(table["id"], table["remarks"], strict=True))
    assert remarks["still.mp4"] == "a single frame"
    assert remarks["tiny.mp4"] == "4×4 pixels, enlarged to 126"
    assert remarks["wide.mp4"] == "640×34 pixels, enlarged to 126"


def test_the_protocol_of_the_field(run):
    found = evaluate(run[0], protocol="vqa", splits=6)
    spread = found["vqa"]["student"]["subsets"]
    assert spread["srcc"]["n"] <= 6 and spread["rmse"]["low"] <= spread["rmse"]["high"]
    assert found["vqa"]["student"]["contents"] == {}  # every clip is a content of its own
    assert "none has 3 labelled clips" in found["vqa"]["student"]["contents_note"]
    lines = list(vqa_lines(found))
    assert "model fixed" in lines[0]
    assert [line.split()[0] for line in lines[1:5]] == ["SRCC", "PLCC", "KRCC", "RMSE"]
    assert "vqa" not in evaluate(run[0])


def test_the_protocol_is_for_scores(run, finished_run):
    with pytest.raises(ValueError, match="protocol=vqa is for quality scores"):
        evaluate(finished_run, protocol="vqa")
    with pytest.raises(ValueError, match="protocol is report or vqa, got 'iqa'"):
        evaluate(run[0], protocol="iqa")
    with pytest.raises(ValueError, match="splits is a whole number from 1 to 10000, got 0"):
        evaluate(run[0], protocol="vqa", splits=0)


def test_a_failed_fit_is_said(run, monkeypatch):
    """The logistic that the field fits before PLCC and RMSE; here it gets one step."""
    monkeypatch.setattr("coefvq.evaluation.quality._ITERATIONS", 1)
    found = evaluate(run[0], protocol="vqa", splits=4)
    assert found["test"]["student"]["logistic_fit"] == 0.0
    (note,) = found["notes"]
    assert note.startswith("student: plcc and rmse are of raw scores, the logistic was not fitted")
    spread = found["vqa"]["student"]["subsets"]
    assert spread["plcc"]["n"] == spread["rmse"]["n"] == 0 < spread["plcc_raw"]["n"]
    assert any(line.startswith("  PLCC and RMSE leave out 4 of 4") for line in vqa_lines(found))


def test_a_student_whose_scores_have_no_unit_gives_them_as_they_are(run, clips, tmp_path):
    shutil.copytree(run[0] / "student", tmp_path / "student")
    path = tmp_path / "student" / "config.json"
    content = json.loads(path.read_text())
    content["metadata"]["score_calibration"] = None
    path.write_text(json.dumps(content))
    table = predict.predict(tmp_path / "student", clips, out=tmp_path / "s.parquet")
    assert list(table.columns) == ["id", "path", "score", "unit", "remarks", "problem"]
    assert set(table["unit"]) == {"1–5"}


def test_the_commands(run, clips, capsys, tmp_path, monkeypatch):
    one, other = sorted(clips.iterdir())[:2]
    base = OmegaConf.to_container(
        OmegaConf.load(predict.config.folder("conf") / "predict.yaml"), throw_on_missing=False
    )
    base = {key: value for key, value in base.items() if key not in ("hydra", "defaults")}

    def say(**words):
        GlobalHydra.instance().clear()
        predict._main.__wrapped__(
            OmegaConf.create(base | {"model": str(run[0] / "student")} | words)
        )
        said = capsys.readouterr()
        return said.out + said.err

    assert "is the better one" in say(compare=[str(one), str(other)])
    # What is read as SDR and is more than that is said, once, beside the scores.
    monkeypatch.setattr("coefvq.data.colour.colour_of", {str(one): "PQ, 10 bits"}.get)
    (clips / "words.mp4").write_text("no video")
    said = say(clips=str(clips), out=str(tmp_path / "x.parquet"))
    (clips / "words.mp4").unlink()
    assert "clip        score 0–100, 90% interval, word" in said
    assert (
        "words.mp4 cannot be read: " in said
        and "6 clips in" in said
        and "1 of them unreadable" in said
    )
    assert said.count("1 of 5 clips are HDR, of wide colours") == 1
    said = say(clips=str(one), out=str(tmp_path / "one.parquet"))
    assert "1 clip in" in said and "unlike" not in said
    assert any(word in said for word in ("bad", "poor", "fair", "good"))
    assert predict.listed(f"compare={one},{other}") == f'compare=["{one}","{other}"]'
    assert json.loads(predict.listed("compare=a,b").partition("=")[2]) == ["a", "b"]


@pytest.mark.parametrize(
    ("word", "files"),
    [
        ("compare=a.mp4,b c.mp4", ["a.mp4", "b c.mp4"]),
        ("compare=[a.mp4,b(1).mp4]", ["a.mp4", "b(1).mp4"]),
        ("compare=['a,1.mp4','b.mp4']", ["a,1.mp4", "b.mp4"]),
        ('compare=["a,1.mp4",b.mp4]', ["a,1.mp4", "b.mp4"]),
    ],
)
def test_two_files_reach_hydra_as_a_list(word, files):
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(predict.config.folder("conf")), version_base="1.3"):
        cfg = hydra.compose("predict", overrides=["model=x", predict.listed(word)])
    assert list(cfg.compare) == files


def test_clips_unlike_others_are_counted_on_the_screen(capsys):
    table = pandas.DataFrame(
        {
            "id": ["a", "b", "c"],
            "problem": ["", "", "gone"],
            "remarks": ["a single frame", "", None],
        }
    )
    predict._say_remarks(table)
    assert capsys.readouterr().err.startswith("1 of 2 clips are unlike what models are trained on")
    predict._say_remarks(table.drop(columns="remarks"))
    assert capsys.readouterr().err == ""


OWN = ("data.val_fraction=0.3", "data.test_fraction=0.3", "data.num_frames=2",
       "data.batch_size=8", "trainer.max_steps=2", "++teacher.training.max_steps=2",
       "teacher.preflight=false")  # fmt: skip


@pytest.fixture(scope="module")
def own_clips(home, run, tmp_path_factory):
    """Clips of one's own with scores of KoNViD's kind; the words that read them."""
    folder, names = tmp_path_factory.mktemp("own"), []
    for clip in sorted((home / "shortform").rglob("*.mp4"))[:60]:
        names.append(clip.stem)
        shutil.copy(clip, folder)
    labels, out = folder / "labels.csv", folder / "manifest.csv"
    scores = [1 + (7 * i % 60) / 15 for i in range(60)]
    pandas.DataFrame({"flickr_id": names, "MOS": scores}).to_csv(labels, index=False)
    table = make_manifest("konvid", labels, folder, out)
    words = training_words("konvid", out, folder, table).split()
    table.assign(sharpness=range(60)).to_csv(out, index=False)
    return words


@pytest.mark.parametrize("recipe", ["blind_quality", "lmm_vqa", "lmm_vqa_kd", "pfd_quality"])
def test_recipes_run_on_clips_of_ones_own(recipe, own_clips, tmp_path):
    """With the words that `vqa_manifests` prints; privileged columns have to be named."""
    told = ["data.privileged=[sharpness]"] if recipe == "pfd_quality" else []
    words = [f"+recipe={recipe}", *own_clips, *told, *OWN]
    report = pipeline.run(compose(Job("x", None, 1, tuple(words), tmp_path / "run")), show=False)
    who = "teacher" if recipe == "lmm_vqa" else "student"
    assert report["test"][who]["n"] >= 10
    assert (report["test"].keys() == {"student", "teacher", "agreement"}) == (
        recipe in ("lmm_vqa_kd", "pfd_quality")
    )


def test_features_of_a_language_model_are_followed(own_clips, tmp_path):
    words = ["+recipe=lmm_vqa_kd", "objective=score_feature_kd", "trainer.log_every_n_steps=1"]
    words += [*own_clips, *OWN]
    cfg = compose(Job("x", None, 1, tuple(words), tmp_path / "run"))
    assert set(cfg.objective.weights) == {"task", "score", "rank", "plcc", "feature"}
    report = pipeline.run(cfg, show=False)
    assert report["test"]["student"]["n"] >= 10
    logged = pandas.read_csv(tmp_path / "run" / "logs" / "metrics.csv")
    terms = logged.filter(like="loss/feature").stack().dropna()
    assert len(terms) and terms.between(0, 2).all()  # 1 - cosine


def test_what_a_manifest_leaves_out_is_said_in_a_sentence(own_clips, tmp_path):
    def go(recipe, *words):
        words = (f"+recipe={recipe}", *words, *OWN)
        pipeline.run(compose(Job("x", None, 1, words, tmp_path / "run")), show=False)

    with pytest.raises(ValueError, match="name privileged columns in the data"):
        go("pfd_quality", *own_clips)
    without = [word for word in own_clips if "label_range" not in word]
    for recipe in ("lmm_vqa", "lmm_vqa_kd"):
        with pytest.raises(ValueError, match=r"data\.label_range=\[0,100\]"):
            go(recipe, *without)
