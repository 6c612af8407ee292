"""The study of real scores: it runs, and its figures are not nonsense."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas
import pytest

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT.parent / "shared/data/konvid_features/konvid1k_features.parquet"


@pytest.fixture(scope="module")
def script():
    path = ROOT / "recipes/studies/konvid_features.py"
    spec = importlib.util.spec_from_file_location("konvid_features", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
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
    assert "CPFD" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="is unknown"):
        script.main(["split=2"])


@pytest.mark.slow
@pytest.mark.skipif(not TABLE.exists(), reason="the features of KoNViD-1k are not there")
def test_real_scores_are_learned(script):
    table = script.main([f"path={TABLE}", "splits=2"])
    assert (table["srcc"] > 0.4).all()
