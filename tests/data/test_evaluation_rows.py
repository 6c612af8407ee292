from pathlib import Path

from coefvq.data.evaluation_rows import evaluation_rows, keys_of
from coefvq.data.rows import Row


def rows_of(*cells):
    """Rows of `(name, split, label, keys)`."""
    made = []
    for number, (name, split, label, *keys) in enumerate(cells):
        values = {"id": name, "label": label, "keys": (name, *keys)}
        made.append(Row(Path("m.csv"), number + 1, values, split))
    return made


def divide(rows, files=("train",), seed=1):
    kept, left_out = evaluation_rows(
        rows, files, lambda row: row.cells["keys"], lambda row: not row.cells["label"], seed
    )
    return {row.cells["id"]: row.split for row in kept}, left_out


def test_rows_without_a_split_are_halved_whatever_their_order():
    cells = [(f"clip{n}", None, "1") for n in range(101)]
    found, left_out = divide(rows_of(*cells))
    sides = list(found.values())
    assert {sides.count("val"), sides.count("test")} == {50, 51}
    assert left_out == {"of the training split": 0, "without a label": 0}
    assert divide(rows_of(*cells[::-1]))[0] == found
    assert divide(rows_of(*cells), seed=2)[0] != found


def test_what_hangs_together_stays_on_one_side():
    cells = [(f"clip{n}", None, "1", f"group {n // 10}") for n in range(40)]
    cells += [("copy", None, "1", "file a"), ("of", None, "1", "file a", "group 3")]
    found, _ = divide(rows_of(*cells))
    for group in range(4):
        assert len({found[f"clip{n}"] for n in range(40) if n // 10 == group}) == 1
    assert found["copy"] == found["of"] == found["clip30"]
    assert set(found.values()) == {"val", "test"}


def test_marked_rows_keep_their_place_and_training_rows_are_left_out():
    found, left_out = divide(
        rows_of(
            ("a", "val", "1", "g"), ("b", "test", "1"), ("c", "train", "1"), ("d", None, ""),
            ("e", "train", ""), ("f", None, "0", "g"),
        )
    )  # fmt: skip
    assert found == {"a": "val", "b": "test", "f": "val"}  # f is of a's group
    assert left_out == {"of the training split": 2, "without a label": 1}


def test_rows_go_to_the_split_that_has_no_file():
    cells = [("a", "val", "1"), *((name, None, "1") for name in "bcd")]
    assert divide(rows_of(*cells), ("train", "val"))[0] == {"a": "val"} | dict.fromkeys(
        "bcd", "test"
    )
    found, left_out = divide(rows_of(*cells, ("e", "test", "1")), ("train", "val", "test"))
    assert found == {"a": "val", "e": "test"} and left_out["of the training split"] == 3


def test_a_row_hangs_on_its_group_and_its_files_content(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"same")
    (tmp_path / "c").write_bytes(b"other")
    rows = [Row(tmp_path / "m.csv", 1, {"path": name}) for name in (*"abc", "gone")]
    a, b, c, gone = (keys_of(row, lambda row: row.cells["path"], "path", None) for row in rows)
    assert a[0] == "a" and a[1] == b[1] != c[1]
    assert gone == ["gone"]
