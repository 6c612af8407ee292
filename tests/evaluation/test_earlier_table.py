import pytest

from coefvq.evaluation.earlier_table import set_aside
from coefvq.evaluation.table import comparison_table


def report(label, seed, value, task="kind"):
    return {
        "recipe": label,
        "task": task,
        "seed": seed,
        "test": {"student": {"f1": value, "accuracy": value}},
    }


def table(*labels, seeds=(1,), **options):
    return comparison_table([report(n, s, 0.5 + s / 10) for n in labels for s in seeds], **options)


@pytest.fixture
def folder(tmp_path):
    table("supervised", "pfd").write(tmp_path)
    return tmp_path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_table_with_fewer_rows_leaves_the_earlier_one(folder):
    text = (folder / "table.md").read_text()
    assert set_aside(folder, table("pfd")) == folder / "table-1.md"
    assert (folder / "table-1.md").read_text() == text
    assert names(folder) == ["table-1.csv", "table-1.json", "table-1.md"]
    table("pfd").write(folder)
    assert set_aside(folder, table("cpfd")) == folder / "table-2.md"


@pytest.mark.parametrize(
    "new", [table("supervised", "pfd"), table("supervised", "pfd", "cpfd", seeds=(1, 2))]
)
def test_a_comparison_that_goes_on_replaces_its_own(folder, new):
    assert set_aside(folder, new) is None
    assert names(folder) == ["table.csv", "table.json", "table.md"]


def test_another_metric_is_another_table(folder):
    assert set_aside(folder, table("supervised", "pfd", metric="accuracy")) is not None


def test_what_is_no_table_of_ours_is_kept(folder):
    (folder / "table.json").write_text("[1, 2]")
    assert set_aside(folder, table("supervised", "pfd")) is not None


def test_an_empty_folder_has_none(tmp_path):
    assert set_aside(tmp_path, table("pfd")) is None
