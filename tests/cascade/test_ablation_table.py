import csv

from coefvq.cascade.ablation_table import ablation_table


def report(seed, recall, label="coefvq", **row):
    own = {"calibrator": "affine", "budget": 0.1, "deferred": 0.1, "everywhere": 0.02,
           "inside": 0.1, "metrics": {"recall_at_precision_80": recall, "f1": 0.5}}  # fmt: skip
    none = {"calibrator": "none", "budget": 0.1, "problem": "no reason"}
    return {
        "label": label,
        "task": "t",
        "seed": seed,
        "cascade": {"calibrators": [own | row, none]},
    }


def test_means_over_seeds_with_their_interval(tmp_path):
    table = ablation_table([report(1, 0.4), report(2, None), report(3, 0.8), {"label": "none"}])
    text = table.to_markdown()
    # mean 0.4, standard error 0.2309, t of two degrees of freedom 4.303
    assert "| affine | 0.100 ± 0.000 | 0.400 ± 0.994 | 0.500 ± 0.000 |" in text
    assert "| none | - | - | - | - | - |" in text and "## coefvq, t, 3 seeds" in text
    assert text.count("none: no reason") == 1
    assert "budget 10%" in text
    paths = table.write(tmp_path / "made")
    assert [p.name for p in paths] == ["calibrators.md", "calibrators.csv"]
    rows = list(csv.DictReader(paths[1].read_text().splitlines()))
    assert len(rows) == 6 and rows[0]["recall_at_precision_80"] == "0.4"
    assert rows[1]["problem"] == "no reason" and rows[1]["deferred"] == ""


def test_one_seed_has_no_interval():
    assert "| affine | 0.100 | 0.400 |" in ablation_table([report(1, 0.4)]).to_markdown()


def test_without_a_cascade_there_is_no_table():
    assert ablation_table([{"label": "x", "task": "t", "seed": 1}]) is None
