import dataclasses
import math
import pickle
from pathlib import Path

from coefvq.data.manifest import Manifest, ManifestError, Problem, fingerprint_of
from coefvq.types import Clip, TaskSpec

TASK = TaskSpec("label", "binary", ("0", "1"))


def clip(number, **changes):
    made = Clip(
        f"c{number}", Path(f"/data/{number}.mp4"), {"title": "t"}, 1.0, {"p": float(number)}
    )
    return dataclasses.replace(made, **changes)


def manifest(*clips, **changes):
    options = {"privileged_names": ("p",)} | changes
    return Manifest(clips or (clip(1), clip(2)), TASK, **options)


def test_the_fingerprint_follows_the_content_and_not_the_order():
    first = manifest()
    assert len(first.fingerprint) == 32
    assert manifest(clip(2), clip(1)).fingerprint == first.fingerprint
    changed = [
        manifest(clip(1)),
        manifest(clip(1), clip(3)),
        manifest(clip(1), clip(2, label=0.0)),
        manifest(clip(1), clip(2, label=None)),
        manifest(clip(1), clip(2, split="val")),
        manifest(clip(1), clip(2, text={"title": "other"})),
        manifest(clip(1), clip(2, privileged={"p": 2.5})),
        manifest(clip(1), clip(2, privileged={"p": math.nan})),
        manifest(clip(1), clip(2, path=Path("/data/other.mp4"))),
        manifest(privileged_names=()),
        manifest(log1p=("p",)),
        Manifest((clip(1), clip(2)), TaskSpec("other", "binary", ("0", "1")), ("p",)),
    ]
    prints = {first.fingerprint, *(each.fingerprint for each in changed)}
    assert len(prints) == len(changed) + 1


def test_a_moved_data_set_keeps_its_fingerprint():
    here = manifest(clip(1, path=Path("/a/x/1.mp4")))
    there = manifest(clip(1, path=Path("/b/x/1.mp4")))
    assert fingerprint_of(here, "/a") == fingerprint_of(there, "/b")
    assert fingerprint_of(here, "/a") != fingerprint_of(here, "/")


def test_the_public_fingerprint_knows_no_privileged_features():
    public = manifest().public_fingerprint
    assert public != manifest().fingerprint and len(public) == 32
    same = [
        manifest(clip(1), clip(2, privileged={"p": 2.5})),
        manifest(log1p=("p",)),
        manifest(privileged_names=()),
    ]
    assert {each.public_fingerprint for each in same} == {public}
    assert same[-1].fingerprint == public  # where there are none, both are one
    assert manifest(clip(1), clip(2, label=0.0)).public_fingerprint != public


def test_a_given_fingerprint_is_kept():
    assert manifest(fingerprint="abc").fingerprint == "abc"


def test_splits():
    made = manifest(clip(1), clip(2, split="val"), clip(3))
    assert [c.id for c in made.split("train")] == ["c1", "c3"]


def test_an_error_counts_all_problems_and_shows_the_first_ones():
    names = "abcdefghijklmnopqrstuvwxyzABCD"
    problems = [Problem(Path("m.csv"), i + 1, f"{name} is empty") for i, name in enumerate(names)]
    error = ManifestError(problems)
    lines = str(error).splitlines()
    assert lines[0].startswith("the manifest has 30 problems")
    assert lines[1] == "  m.csv row 1: a is empty"
    assert lines[-1] == "  ... and 10 more" and len(lines) == 22
    assert error.problems == tuple(problems)
    assert pickle.loads(pickle.dumps(error)).problems == error.problems
    assert "has 1 problem " in str(ManifestError(problems[:1]))


def test_problems_of_other_columns_or_of_the_whole_file_are_not_alike():
    columns = [Problem(Path("m.csv"), 1, f"dense_{i:02d} is infinite") for i in range(5)]
    whole = [Problem(Path("m.csv"), None, f"has no column {name!r}") for name in "abcde"]
    assert len(str(ManifestError([*columns, *whole])).splitlines()) == 11


def test_rows_that_have_the_same_problem_are_not_all_spelt_out():
    bad = [Problem(Path("m.csv"), row, f"label 'good{row}' is no number") for row in range(1, 61)]
    other = Problem(Path("m.csv"), 7, "id is empty")
    lines = str(ManifestError([*bad, other])).splitlines()
    assert lines[0].startswith("the manifest has 61 problems")
    assert lines[3:] == [
        "  m.csv row 3: label 'good3' is no number",
        "  ... and 57 more rows like these",
        "  m.csv row 7: id is empty",
    ]
    assert str(Problem(Path("m.csv"), None, "the val split is empty")).startswith("m.csv: the")
