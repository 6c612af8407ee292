import numpy as np
import pytest

from coefvq.data.pairs.drawing import CASES, Counts, File, draw_pairs, overlap, pair_row


def source(name, kind="k", *, natural=0, copies=(), heard=None):
    """An original, natural copies of it, and copies given as changes to the file."""
    base = {"source": name, "kind": kind, "heard": name if heard is None else heard}
    files = [File(f"{name}", f"{name}.mp4", original=True, **base)]
    files += [
        File(f"{name}.n{i}", f"{name}.n{i}.mp4", original=True, **base) for i in range(natural)
    ]
    for number, change in enumerate(copies):
        values = {**base, "how": ("crop",), **change}
        files.append(File(f"{name}-copy{number}", f"{name}-copy{number}.mp4", **values))
    return files


HALVES = ({"how": ("flip",)}, {"start": 0.0, "end": 0.45, "how": ("trim",)},
          {"start": 0.55, "end": 1.0, "how": ("speed", "trim")})  # fmt: skip


def drawn_of(files, seed=0, **counts):
    return draw_pairs(files, np.random.default_rng(seed), Counts(**counts))


def many():
    return [f for i in range(12) for f in source(f"s{i}", f"k{i % 3}", copies=HALVES)]


def test_every_copy_is_paired_with_its_original_and_says_how():
    pairs = [p for p in drawn_of(many()) if p.case == "copy"]
    assert len(pairs) == 36 and all(p.label == 1 for p in pairs)
    for pair in pairs:
        copy, first = sorted((pair.query, pair.candidate), key=lambda f: f.original)
        assert first.original and not copy.original and first.source == copy.source
        assert pair.how == copy.how
    # The side is chance.
    assert 8 < sum(pair.query.original for pair in pairs) < 28


def test_labels_are_true():
    """A negative shares no moment of any source, a reproduction does."""
    files = many() + source("x", "k0", copies=({"inserted": "s0", "how": ("splice",)},) * 3)
    cases = set()
    for seed in range(5):
        for pair in drawn_of(files, seed, similar=4, random=6, segments=2, copies=3):
            a, b = pair.query, pair.candidate
            cases.add(pair.case)
            if pair.label:
                assert overlap(a, b) > 0
            elif pair.case == "segment":
                assert a.source == b.source and overlap(a, b) == 0 and not a.original
            else:
                assert not a.shows() & b.shows()
    assert cases == set(CASES) - {"natural", "sound"}


def test_counts_are_kept():
    for name, case in (("copies", "copies"), ("segments", "segment"), ("similar", "similar"),
                       ("random", "random")):  # fmt: skip
        none = {"copies": 0, "segments": 0, "similar": 0, "sounds": 0, "random": 0}
        found = [p.case for p in drawn_of(many(), **none) if p.case != "copy"]
        assert found == []
        some = [p.case for p in drawn_of(many(), **(none | {name: 1})) if p.case != "copy"]
        # Each source asks for one; with similar and random, the same two may have been drawn.
        assert set(some) == {case} and 10 <= len(some) <= 12


def test_similar_means_the_same_kind():
    for pair in drawn_of(many(), similar=3):
        if pair.case == "similar":
            assert pair.query.kind == pair.candidate.kind
            assert pair.query.source != pair.candidate.source


def test_a_borrowed_sound_makes_a_negative_with_its_owner():
    files = source("a", copies=({"heard": "b", "how": ("audio_replaced",)},)) + source("b")
    (pair,) = [p for p in drawn_of(files) if p.case == "sound"]
    assert {pair.query.id, pair.candidate.id} == {"a-copy0", "b"} and pair.label == 0
    # But not where it shows that clip, too.
    files = source("a", copies=({"heard": "b", "inserted": "b"},)) + source("b")
    assert not any({p.query.id, p.candidate.id} == {"a-copy0", "b"} for p in drawn_of(files))


def test_natural_copies_are_reproductions_without_a_how():
    pairs = [p for p in drawn_of(source("a", natural=2)) if p.case == "natural"]
    assert len(pairs) == 3 and all(p.label == 1 and p.how is None for p in pairs)


def test_no_two_files_are_paired_twice_nor_one_with_itself():
    pairs = drawn_of(many(), similar=10, random=30, copies=9, segments=9)
    keys = [frozenset((p.query.id, p.candidate.id)) for p in pairs]
    assert len(set(keys)) == len(keys) and all(len(key) == 2 for key in keys)


def test_two_copies_say_nothing_of_the_label():
    """Both kinds of pair, original + copy and copy + copy, hold about as many reproductions."""
    free = ({"how": ("flip",)}, {"end": 0.8, "how": ("trim",)}, {"how": ("scale",)})
    files = [f for i in range(12) for f in source(f"s{i}", copies=HALVES if i % 2 else free)]
    pairs = [p for seed in range(10) for p in drawn_of(files, seed, similar=2, random=2)]
    both = [p.label for p in pairs if not (p.query.original or p.candidate.original)]
    other = [p.label for p in pairs if p.query.original or p.candidate.original]
    assert min(len(both), len(other)) > 200
    assert abs(np.mean(both) - np.mean(other)) < 0.15


def test_equal_generators_draw_equal_pairs():
    assert drawn_of(many(), 3) == drawn_of(many(), 3) != drawn_of(many(), 4)


def test_overlap():
    a, b, c = source("a", copies=HALVES)[1:]
    assert overlap(a, b) == pytest.approx(0.45) and overlap(b, c) == 0
    assert overlap(a, source("b")[0]) == 0


def test_a_file_survives_a_table():
    file = File("a", "a.mp4", "s", 0.1, 0.9, ("crop", "flip"), False, "k", "t", "x", "", "val")
    assert File.from_dict({**file.to_dict(), "other": 1}) == file
    plain = File("a", "a.mp4", "s")
    assert File.from_dict(plain.to_dict()) == plain


def test_rows():
    pairs = drawn_of(source("a", natural=1, copies=HALVES[:1]))
    rows = [pair_row(pair, ("crop", "flip"), "val") for pair in pairs]
    first = pairs[0]
    assert rows[0]["id"] == f"{first.query.id}+{first.candidate.id}" and rows[0]["split"] == "val"
    assert (rows[0]["sub_crop"], rows[0]["sub_flip"]) == (0, 1)
    natural = next(row for row in rows if row["case"] == "natural")
    assert natural["sub_flip"] is None and natural["label"] == 1
