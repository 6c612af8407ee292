from pathlib import Path

import pytest

from coefvq.data.clip_list import list_clips
from coefvq.data.pairs.sources import contents, listed, look, places, same_bytes
from coefvq.types import Clip


def clips(*names):
    return [Clip(name, Path(f"/c/{name}.mp4")) for name in names]


def test_looking(few_clips, tmp_path):
    name, (sound, seconds) = look("x", few_clips / "a" / "clip 0.mp4")
    assert name == "x" and sound and 1.9 < seconds < 2.1
    assert look("x", few_clips / "b" / "clip 8.mp4")[1][0] is False
    (tmp_path / "bad.mp4").write_bytes(b"")
    assert look("x", tmp_path / "bad.mp4") == ("x", "the file is empty (0 bytes)")


def test_one_stem_in_one_folder_is_one_content(few_clips):
    found = list_clips(few_clips)
    content, group = contents(found, few_clips)
    assert content["a/clip 0.webm"] == content["a/clip 0.mp4"] == "a/clip 0.mp4"
    assert len(set(content.values())) == len(group) == 9


def test_a_manifest_names_contents_and_groups(write_manifest):
    manifest = write_manifest(
        [
            {"id": "a", "path": "a.mp4", "content": "x", "group": "g"},
            {"id": "b", "path": "b.mp4", "content": "x"},
            {"id": "c", "path": "a.webm", "group": "g"},
        ]
    )
    content, group = contents(clips("a", "b", "c"), manifest)
    assert content == {"a": "a", "b": "a", "c": "c"} and group == {"a": "g", "c": "g"}


def files(folder, **contents):
    for name, text in contents.items():
        (folder / f"{name}.mp4").write_text(text)
    return [Clip(name, folder / f"{name}.mp4") for name in contents]


def test_equal_bytes_are_one_content(tmp_path, caplog):
    """b has the size of a and other bytes, c and e have a's."""
    found = files(tmp_path, a="one", b="two", c="one", d="three", e="one")
    content, group = contents(found, tmp_path)
    assert content == {"a": "a", "b": "b", "c": "a", "d": "d", "e": "a"}
    assert list(group) == ["a", "b", "d"]
    (line,) = caplog.messages
    assert (
        line == "2 of 5 clips have the same bytes as another (c as a, …) and count as one content"
    )
    assert [(c.id, first.id) for c, first in same_bytes(found)] == [("c", "a"), ("e", "a")]


def test_files_of_different_sizes_are_not_read(tmp_path, monkeypatch):
    found = files(tmp_path, a="1", b="22")
    monkeypatch.setattr(Path, "open", lambda *_, **__: pytest.fail("read"))
    assert same_bytes([*found, Clip("none", tmp_path / "none.mp4")]) == []


def test_a_manifest_that_says_otherwise_is_joined_by_equal_bytes(tmp_path, write_manifest, caplog):
    """Contents x and y share bytes, and with them groups g and h; z is alone in group h."""
    found = files(tmp_path, a="a", b="same", c="same", d="d", e="e")
    said = {"a": ("x", ""), "b": ("x", "g"), "c": ("y", "h"), "d": ("y", ""), "e": ("z", "h")}
    rows = [
        {"id": i, "path": f"{i}.mp4", "content": some, "group": group}
        for i, (some, group) in said.items()
    ]
    content, group = contents(found, write_manifest(rows))
    assert content == {"a": "a", "b": "a", "c": "a", "d": "a", "e": "e"}
    assert group == {"a": "g", "e": "g"}
    assert "1 of 5 clips have the same bytes as another (c as b)" in caplog.text


def test_bytes_that_are_one_content_already_are_no_news(tmp_path, write_manifest, caplog):
    found = files(tmp_path, a="same", b="same")
    rows = [{"id": i, "path": f"{i}.mp4", "content": "x"} for i in "ab"]
    assert contents(found, write_manifest(rows))[0] == {"a": "a", "b": "a"} and not caplog.text


def test_places(caplog):
    names = [f"n{i}" for i in range(20)]
    group = {name: f"g{i // 2}" for i, name in enumerate(names)}
    found = places(clips(*names), group, None, 0.1, 0.2, 1)
    for first, second in zip(names[::2], names[1::2], strict=True):
        assert found[first] == found[second]
    assert set(found.values()) == {"train", "val", "test"} and not caplog.text
    assert set(places(clips(*names), group, "test", 0.1, 0.2, 1).values()) == {"test"}


@pytest.mark.parametrize("count", [6, 9, 12, 19])
def test_every_split_of_few_sources_has_negatives(count, caplog):
    names = [f"n{i}" for i in range(count)]
    found = places(clips(*names), {n: n for n in names}, None, 0.1, 0.2, 1)
    assert all(list(found.values()).count(s) >= 2 for s in ("train", "val", "test"))
    assert not caplog.text
    without = places(clips(*names), {n: n for n in names}, None, 0.0, 0.2, 1)
    assert set(without.values()) == {"train", "test"}


def test_fractions_that_leave_nothing_are_told_as_they_were_given():
    names = [f"n{i}" for i in range(6)]
    with pytest.raises(ValueError, match=r"val_fraction=0.7 and test_fraction=0.1 of 6 clips, two"):
        places(clips(*names), {n: n for n in names}, None, 0.7, 0.1, 1)


def test_a_split_of_one_source_is_told_of(caplog):
    names = [f"n{i}" for i in range(6)]
    groups = dict.fromkeys(names, "g") | {"n0": "alone"}
    places(clips(*names), groups, None, 0.1, 0.2, 1)
    assert "has one source" in caplog.text


def test_what_is_listed(few_clips, write_manifest, tmp_path):
    assert len(listed(few_clips, None, ("title",))) == 10
    rows = [{"id": "a", "path": "a.mp4", "title": "t", "words": "w"}]
    manifest = write_manifest(rows)
    assert listed(manifest, None, ("title", "words"))[0].text == {"title": "t", "words": "w"}
    with pytest.raises(ValueError, match=r"text names subs, but clips=.* has the columns id, path"):
        listed(manifest, None, ("title", "subs"))
    with pytest.raises(ValueError, match=r"text names title, subs, but clips=.* is a folder"):
        listed(few_clips, None, ("title", "subs"))
    with pytest.raises(ValueError, match="is one video file; give a folder of clips"):
        listed(few_clips / "a" / "clip 0.mp4", None, ())
    with pytest.raises(ValueError, match=r"root=.*none is no folder"):
        listed(manifest, tmp_path / "none", ())
