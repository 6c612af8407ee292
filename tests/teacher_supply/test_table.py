import math

import pandas
import pytest
import torch
from toys import toy_batches

from coefvq.teacher_supply.table import open_table
from coefvq.types import TaskSpec

TASK = TaskSpec("degraded", "binary", ("clean", "degraded"))
ROWS = {"id": [f"clip{i}" for i in range(8)], "degraded": [0.8] * 8, "clean": [0.2] * 8}


def write(file):

    frame = pandas.DataFrame(ROWS)
    if file.suffix == ".csv":
        frame.to_csv(file, index=False)
    elif file.suffix == ".jsonl":
        frame.to_json(file, orient="records", lines=True)
    else:
        frame.to_parquet(file)
    return file


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_three_kinds_of_file_say_the_same(tmp_path, suffix):
    teacher = open_table(write(tmp_path / f"scores{suffix}"), TASK, ROWS["id"])
    logits = teacher(toy_batches()[0]).logits
    assert torch.allclose(logits, torch.full((8,), math.log(4)))


def test_errors_name_the_switch(tmp_path):
    with pytest.raises(ValueError, match=r"needs teacher\.path"):
        open_table(None, TASK, [])
    with pytest.raises(ValueError, match=r"teacher\.path=.*does not exist"):
        open_table(tmp_path / "no.csv", TASK, [])
    (tmp_path / "scores.txt").write_text("x")
    with pytest.raises(ValueError, match=r"unknown kind; give \.csv"):
        open_table(tmp_path / "scores.txt", TASK, [])
    file = write(tmp_path / "scores.csv")
    with pytest.raises(ValueError, match=r"teacher\.path=.*scores\.csv has no row for 1 of 9"):
        open_table(file, TASK, [*ROWS["id"], "other"])


def test_the_index_that_pandas_writes_is_no_column(tmp_path):
    file = tmp_path / "scores.csv"
    pandas.DataFrame(ROWS).to_csv(file)
    teacher = open_table(file, TASK, ROWS["id"])
    assert torch.allclose(teacher(toy_batches()[0]).logits, torch.full((8,), math.log(4)))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("id;probability\nclip0;0,5\n", "has semicolons between its columns"),
        ("id\tprobability\nclip0\t0.5\n", "has tabs between its columns"),
        ("clip,probability\nclip0,0.5\n", r"no column 'id' .* name the one .* teacher\.id_column"),
        ("id,logit\nclip0,0.5\n", r"found \['logit'\]; for 'logit' set teacher\.numbers=logits"),
        (
            "id,probability\nclip0,0.5\nclip1,1,2\n",
            "cannot be read: .* line 3.*; correct it, or sa",
        ),
        ("", r"teacher\.path=.*scores\.csv' has no row"),
        ("id,probability\n", r"teacher\.path=.*scores\.csv.* has no row"),
        ("id,probability\nclip0,NaN\n", r"row 1 \('clip0'\) has probability='NaN', expected a fin"),
        ("id,probability\nclip0,\n", r"row 1 \('clip0'\) has nothing in column 'probability'"),
    ],
)
def test_a_csv_that_is_none_says_why(tmp_path, content, sentence):
    file = tmp_path / "scores.csv"
    file.write_text(content)
    with pytest.raises(ValueError, match=sentence):
        open_table(file, TASK, ["clip0"])
