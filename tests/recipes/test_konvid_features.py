"""The study of real scores: it runs, and its figures are not nonsense."""

import math
import re
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from scripts import load_script

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT.parent / "shared/data/konvid_features/konvid1k_features.parquet"


@pytest.fixture(scope="module")
def script():
    module = load_script("studies/konvid_features.py")
    module.STEPS, module.MEMBERS = 40, 2
    return module


def made_up(rows=60):
    rng = np.random.default_rng(0)
    mos = rng.uniform(1, 5, rows)
    columns = {"mos": mos}
    for kind, noise in (("dense", 0.2), ("light", 0.6), ("brisque", 1.5)):
        for place in range(4):
            columns[f"{kind}_{place:02d}"] = mos + noise * rng.normal(size=rows)
    columns["dense_00"][3] = np.nan
    return pandas.DataFrame(columns)


def test_a_split_hides_labels_and_standardises_on_training_rows(script):
    split = script.draw_split(made_up(), 0.25, np.random.default_rng(0))
    assert len(split.points) == 48 and int(split.labelled.sum()) == 12 and len(split.wanted) == 12
    assert abs(split.train["dense"].mean().item()) < 1e-5
    assert all(x.isfinite().all() for x in (*split.train.values(), *split.test.values()))
    assert split.points.min() >= 0 and split.points.max() <= 100


def test_it_prints_a_row_for_everybody(script, tmp_path, capsys):
    made_up().to_parquet(tmp_path / "t.parquet")
    table = script.main([f"path={tmp_path / 't.parquet'}", "splits=2", "labels=0.3"])
    assert set(table["features"]) == {"dense", "light", "brisque"}
    assert table["srcc"].between(-1, 1).all()
    said = capsys.readouterr().out
    assert "loss=smooth_l1" in said and "CPFD, teacher: process, 30 %" in said


@pytest.mark.parametrize("loss", ["smooth_l1", "squared"])
def test_a_teacher_that_says_the_labels_adds_nothing_to_them(script, loss):
    """One distance for all: nobody is better off by it."""
    split = script.draw_split(made_up(), 1.0, np.random.default_rng(0))
    rows, scores = torch.arange(48), torch.linspace(0, 90, 48)
    told = script.losses(split, split.points, torch.ones(48), loss)
    expected = script.supervised(split, loss)(scores, rows)
    for method in ("score KD", "PFD", "CPFD"):
        torch.testing.assert_close(told[method](scores, rows), expected)
    near = split.points + 2.0  # small differences cost the same in either
    torch.testing.assert_close(script.supervised(split, loss)(near, rows), torch.tensor(0.2))


def test_a_process_knows_what_it_was_told_and_doubts_what_is_far(script):
    x = torch.linspace(-2, 2, 30)[:, None]
    process = script.Process(x, 50 + 20 * x[:, 0].sin())
    points, doubt = process(torch.tensor([[0.5], [30.0]]))
    assert abs(points[0] - (50 + 20 * math.sin(0.5))) < 1 and doubt[1] > 3 * doubt[0]


def test_a_mixture_leans_on_labels_where_there_are_some(script):
    split = script.draw_split(made_up(), 0.25, np.random.default_rng(0))
    told, weight = script.mixture(split, split.points + 8.0, torch.ones(48))
    # 12 of 48: a label counts 1/12 and an answer 1/48, so labelled videos are told 8/5 too much.
    torch.testing.assert_close(told - split.points, torch.where(split.labelled, 1.6, 8.0))
    torch.testing.assert_close(weight, torch.where(split.labelled, 1.25, 0.25))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no table was given; say path="),
        (["path=gone.parquet"], "path=gone.parquet is not a file; give a Parquet file"),
        (["path=text.parquet"], "path=text.parquet cannot be read"),
        (["path=other.parquet"], "path=other.parquet has no light, brisque, mos; give"),
        (["split=2"], "'split=2' is unknown; give path="),
        (["splits=few"], "'splits=few' is no number; give splits=20"),
        (["labels=0"], "labels a share above 0"),
        (["loss=cubed"], "loss=cubed is unknown; give one of smooth_l1, squared"),
    ],
)
def test_mistakes_are_a_sentence(script, words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text.parquet").write_text("no table")
    pandas.DataFrame({"dense_00": [1.0]}).to_parquet("other.parquet")
    with pytest.raises(SystemExit, match=re.escape(said)) as error:
        script.main(words)
    assert "\n" not in str(error.value)


def test_help_says_how(script, capsys):
    with pytest.raises(SystemExit) as end:
        script.main(["--help"])
    assert end.value.code == 0 and "path=konvid1k_features.parquet" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(not TABLE.exists(), reason="the features of KoNViD-1k are not there")
def test_real_scores_are_learned(script):
    table = script.main([f"path={TABLE}", "splits=2"])
    assert (table["srcc"] > 0.4).all()
