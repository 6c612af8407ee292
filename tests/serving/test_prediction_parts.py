import pandas
import pytest

from coefvq.serving.prediction_parts import Parts, check_out, write_table
from coefvq.types import Clip


@pytest.fixture
def clips(tmp_path):
    return [Clip(name, tmp_path / name) for name in "cab"]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "s.parquet"


def rows(*names, **columns):
    return pandas.DataFrame({"id": list(names), **columns})


def test_rows_come_in_the_order_of_the_clips(out, clips):
    parts = Parts(out, "m", clips)
    assert parts.done == set()
    parts.add(rows("b", score=[2.0], extra=[1]))
    parts.add(rows("c", "a", score=[0.0, 1.0]))
    table = parts.finish(["id", "score", "problem"])
    assert list(table["id"]) == ["c", "a", "b"] and list(table["score"]) == [0.0, 1.0, 2.0]
    assert list(table.columns) == ["id", "score", "problem"]
    assert table["problem"].isna().all()  # asked for, given by nobody
    pandas.testing.assert_frame_equal(pandas.read_parquet(out), table)
    assert not parts.folder.exists()


def test_a_later_call_knows_what_is_done(out, clips):
    Parts(out, "m", clips).add(rows("c", "b", score=[0.0, 2.0]))
    again = Parts(out, "m", clips)
    assert again.done == {"b", "c"} and not out.exists()
    again.add(rows("a", score=[1.0]))
    assert list(again.finish(["id", "score"])["score"]) == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("change", ["model", "clips", "text"])
def test_parts_of_another_call_are_refused(out, clips, change):
    Parts(out, "m", clips)
    other = {"model": clips, "clips": clips[:2], "text": [*clips[:2], Clip("b", clips[2].path,
             {"title": "x"})]}[change]  # fmt: skip
    with pytest.raises(ValueError, match="remove it or give another out"):
        Parts(out, "n" if change == "model" else "m", other)


def test_what_is_there_is_not_replaced_unasked(out, clips, tmp_path):
    out.write_text("mine")
    with pytest.raises(ValueError, match="exists; add overwrite=true"):
        Parts(out, "m", clips)
    with pytest.raises(ValueError, match=r"must end in \.parquet"):
        check_out(tmp_path / "s.csv", overwrite=True)
    assert check_out(str(out), overwrite=True) == out
    parts = Parts(out, "m", clips, overwrite=True)
    parts.add(rows(*"abc"))
    assert out.read_text() == "mine"  # until all is there
    parts.finish(["id"])
    assert len(pandas.read_parquet(out)) == 3


def test_a_table_is_never_there_by_half(out, monkeypatch):
    write_table(rows("a"), out)

    def broken(self, path, **options):
        path.write_text("half of a t")
        raise OSError("disk full")

    monkeypatch.setattr(pandas.DataFrame, "to_parquet", broken)
    with pytest.raises(OSError, match="disk full"):
        write_table(rows("b"), out)
    assert list(pandas.read_parquet(out)["id"]) == ["a"]
    assert [p.name for p in out.parent.iterdir()] == [out.name]
