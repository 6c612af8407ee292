from pathlib import Path

from coefvq.data.clip_list import list_clips
from coefvq.data.pairs.sources import contents, look, places
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


def test_places(caplog):
    names = [f"n{i}" for i in range(20)]
    group = {name: f"g{i // 2}" for i, name in enumerate(names)}
    found = places(clips(*names), group, None, 0.1, 0.2, 1)
    for first, second in zip(names[::2], names[1::2], strict=True):
        assert found[first] == found[second]
    assert set(found.values()) == {"train", "val", "test"} and not caplog.text
    assert set(places(clips(*names), group, "test", 0.1, 0.2, 1).values()) == {"test"}
    places(clips(*names[:6]), {n: n for n in names}, None, 0.1, 0.2, 1)
    assert "the val split has one source" in caplog.text
