import csv
import json
import shutil

import hydra
import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra

from coefvq import config
from coefvq.cascade.policy import Policy
from coefvq.data.seen_clips import SEEN_CLIPS, read_seen
from coefvq.fit_cascade import fit_cascade
from coefvq.fit_data import choose_data
from coefvq.serving.served_model import model_fingerprint


@pytest.fixture
def fit(finished_cascade, tmp_path):
    """`fit("data.seed=1")` fits into `fit.out`, with the words as from the command line."""
    paths = json.loads((finished_cascade / "report.json").read_text())["paths"]

    def call(*words, light=finished_cascade / "student", heavy=paths["teacher"]):
        GlobalHydra.instance().clear()
        call.said.clear()
        words = [f"light={light}", f"heavy={heavy}", f"out={call.out}", "device=cpu", *words]
        with hydra.initialize_config_dir(str(config.folder("conf")), version_base="1.3"):
            cfg = hydra.compose("fit_cascade", overrides=words)
        return fit_cascade(cfg, lambda text: call.said.append(text), words)

    call.out, call.said = tmp_path / "out", []
    call.teacher = paths["teacher"]
    return call


@pytest.fixture
def manifest(finished_cascade, home, tmp_path):
    """Write a manifest of clips that no model was trained on: `manifest(split=…, label=…)`."""
    from coefvq.data.shortform.data import Shortform

    found = Shortform(labelled=24, unlabelled=4, val=16, test=16).load()
    clips = [clip for clip in found.clips if clip.split != "train"]

    def write(name="m.csv", clips=clips, **columns):
        path = tmp_path / name
        with path.open("w", newline="") as file:
            out = csv.writer(file)
            out.writerow(["id", "path", "title", *columns])
            for clip in clips:
                row = [make(clip) for make in columns.values()]
                out.writerow([clip.id, clip.path, clip.text["title"], *row])
        return f"data.train={path}"

    write.clips, write.train = clips, found.split("train")
    return write


def number(clip):
    return "" if clip.label is None else int(clip.label)


def test_without_a_data_word_the_runs_own_clips_are_taken(finished_cascade, fit):
    fit("budget=0.1")
    assert fit.said[0] == (
        f"data     shortform_data, task degraded: those of the run {finished_cascade}"
    )
    assert "clips    16 fit the cascade, 16 judge it" in fit.said
    ours, its = (Policy.load(f / "policy.json") for f in (fit.out, finished_cascade / "cascade"))
    assert ours.data == its.data
    assert ours.threshold == pytest.approx(its.threshold, abs=1e-5)


def test_a_data_word_takes_the_config_s_own(fit):
    words = ["data.labelled=20", "data.unlabelled=4", "data.val=8", "data.test=10"]
    fit(*words, "seen_clips=allow")
    assert fit.said[0] == "data     shortform_data, task degraded"
    assert "clips    8 fit the cascade, 10 judge it" in fit.said


def test_a_folder_outside_a_run_has_no_data_of_its_own(fit, tmp_path):
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(config.folder("conf")), version_base="1.3"):
        cfg = hydra.compose("fit_cascade", overrides=["light=a", "heavy=b"])
    found = choose_data(cfg, tmp_path / "alone", None, [], fit.said.append)
    assert found == cfg  # the embedded data's default splits
    assert fit.said == ["data     shortform_data, task degraded"]


def test_clips_of_the_training_are_refused_and_counted(fit):
    # The same clips under another seed of the splits.
    words = ["data.labelled=24", "data.unlabelled=4", "data.val=16", "data.test=16"]
    other = [*words, "data.split_seed=2"]
    with pytest.raises(ValueError) as caught:
        fit(*other)
    sentence = str(caught.value)
    assert sentence.startswith("light=") and "add seen_clips=allow" in sentence
    assert not fit.out.exists()

    from coefvq.data.shortform.data import Shortform

    one, two = (
        Shortform(labelled=24, unlabelled=4, val=16, test=16, split_seed=seed).load()
        for seed in (1, 2)
    )
    trained = {clip.id for clip in one.split("train")}
    fits, judges = (sum(c.id in trained for c in two.split(s)) for s in ("val", "test"))
    assert f"{fits} of the 16 validation and {judges} of the 16 test clips" in sentence
    fit(*other, "seen_clips=allow")
    assert sum("seen_clips=allow" in line for line in fit.said) == 2  # of both models
    with pytest.raises(ValueError, match="seen_clips=maybe is unknown; choose refuse or allow"):
        fit(*words, "seen_clips=maybe", "overwrite=true")


def test_a_student_and_a_teacher_remember_what_they_were_trained_on(finished_cascade, fit, home):
    stored = yaml.safe_load((finished_cascade / "config.yaml").read_text())["data"]
    assert (stored["labelled"], stored["unlabelled"]) == (24, 4)
    assert len(read_seen(finished_cascade / "student")) == 28  # it also learns from unlabelled ones
    assert len(read_seen(fit.teacher)) == 24


def test_memory_is_no_part_of_a_models_identity(finished_cascade, fit, tmp_path):
    for folder in (finished_cascade / "student", fit.teacher):
        copy = tmp_path / f"copy-{len(str(folder))}"
        shutil.copytree(folder, copy)
        (copy / SEEN_CLIPS).unlink()
        assert model_fingerprint(copy) == model_fingerprint(folder)


def test_an_older_folder_is_named_once(finished_cascade, fit, tmp_path):
    old = tmp_path / "old" / "student"
    shutil.copytree(finished_cascade, tmp_path / "old")
    (old / SEEN_CLIPS).unlink()
    fit(light=old)
    found = [line for line in fit.said if "does not say which clips" in line]
    assert len(found) == 1 and str(old) in found[0] and "older version" in found[0]


def test_a_damaged_memory_is_refused(fit, finished_cascade, tmp_path):
    shutil.copytree(finished_cascade, tmp_path / "bad")
    (tmp_path / "bad" / "student" / SEEN_CLIPS).write_bytes(b"x")
    with pytest.raises(ValueError, match="cannot be read"):
        fit(light=tmp_path / "bad" / "student")


def test_rows_without_a_split_are_all_used(manifest, fit, capsys):
    fit("data=manifest", manifest(label=number))
    assert "clips    16 fit the cascade, 16 judge it" in fit.said


def test_marked_rows_keep_their_place_and_the_others_are_counted(manifest, fit):
    rows = [*manifest.clips, *manifest.train]
    fit(
        "data=manifest",
        manifest(clips=rows, split=lambda c: c.split, label=lambda c: c.label and number(c)),
    )
    assert (
        "clips    16 fit the cascade, 16 judge it; rows left out: 28 of the training split"
        in fit.said
    )
    rows = manifest.clips
    word = manifest(label=lambda c: "" if c.id == rows[0].id else number(c))
    fit("data=manifest", word, "overwrite=true")
    assert any(line.endswith("rows left out: 1 without a label") for line in fit.said)


def test_training_clips_of_a_manifest_are_seen_through(manifest, fit):
    labelled = [clip for clip in manifest.train if clip.label is not None]
    with pytest.raises(ValueError, match=r"was trained on 1[0-4] of the \d+ validation"):
        fit("data=manifest", manifest(clips=labelled, label=number))


def test_classes_are_the_models_own(manifest, fit, caplog):
    fit("data=manifest", manifest(label=lambda c: ("fine", "degraded")[number(c)]))
    ours = Policy.load(fit.out / "policy.json").threshold
    fit("data=manifest", manifest(label=number), "overwrite=true")
    assert Policy.load(fit.out / "policy.json").threshold == ours
    assert "nothing can be learned" not in caplog.text
    with pytest.raises(ValueError, match="is outside the classes fine, degraded"):
        fit("data=manifest", manifest(label=lambda c: ("good", "bad")[number(c)]), "overwrite=true")
    named = manifest(label=lambda c: ("good", "bad")[number(c)])
    with pytest.raises(ValueError, match="give data of the model's own task"):
        fit("data=manifest", named, "data.classes=[good,bad]", "overwrite=true")


def test_an_empty_half_is_still_refused(manifest, fit):
    with pytest.raises(ValueError, match="the test split is empty"):
        fit("data=manifest", manifest(split=lambda c: "val", label=number))
