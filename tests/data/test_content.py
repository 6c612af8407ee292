import dataclasses
import os
import shutil

import pytest

from coefvq.data.content import BLOCK, clip_content, file_content
from coefvq.types import Clip


@pytest.mark.parametrize("size", [0, 100, 3 * BLOCK, 5 * BLOCK])
def test_a_copy_has_the_same_content_and_a_change_of_equal_size_another(tmp_path, size):
    path = tmp_path / "clip.mp4"
    path.write_bytes(bytes(n % 251 for n in range(size)))
    first = file_content(path)
    assert len(first) == 32
    shutil.copy(path, tmp_path / "copy.mp4")
    os.utime(tmp_path / "copy.mp4", (1, 1))
    assert file_content(tmp_path / "copy.mp4") == first
    for place in (0, size // 2, size - 1) if size else ():
        changed = bytearray(path.read_bytes())
        changed[place] ^= 1
        (tmp_path / "other.mp4").write_bytes(changed)
        assert file_content(tmp_path / "other.mp4") != first


def test_the_size_counts(tmp_path):
    for name, size in (("a", 5 * BLOCK), ("b", 6 * BLOCK)):
        (tmp_path / name).write_bytes(bytes(size))
    assert file_content(tmp_path / "a") != file_content(tmp_path / "b")


def test_no_file_has_no_content(tmp_path):
    assert file_content(tmp_path / "gone") is None
    assert file_content(tmp_path) is None


def test_a_clip_is_its_file_texts_features_and_split(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"film")
    clip = Clip("a", path, {"title": "x", "unread": "y"}, 1.0, {"p": 0.5})
    first = clip_content(clip, ["title"])
    for same in ({"label": None}, {"id": "b"}, {"text": {"title": "x"}}, {"group": "g"}):
        assert clip_content(dataclasses.replace(clip, **same), ["title"]) == first
    other = tmp_path / "other.mp4"
    other.write_bytes(b"flim")
    for change in (
        {"path": other}, {"text": {"title": "z"}}, {"privileged": {"p": 0.6}}, {"split": "test"},
    ):  # fmt: skip
        assert clip_content(dataclasses.replace(clip, **change), ["title"]) != first
