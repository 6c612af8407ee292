import numpy as np
import pytest

from coefvq.data.seen_clips import SEEN_CLIPS, clip_hashes, count_seen, read_seen, write_seen
from coefvq.types import Clip


@pytest.fixture
def clips(tmp_path):
    """Five clips, each with a file of its own."""
    made = []
    for number in range(5):
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(b"clip %d" % number)
        made.append(Clip(id=f"clip{number}", path=path, label=float(number % 2)))
    return made


def test_what_is_written_is_counted_again_under_any_name(clips, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    write_seen(folder, clips[:3])
    known = read_seen(folder)
    assert known.dtype == np.uint64 and len(known) == 3
    assert (
        count_seen(clip_hashes(clips), known) == 3
        and count_seen(clip_hashes(clips[3:]), known) == 0
    )
    copy = tmp_path / "another name.mp4"
    copy.write_bytes(clips[1].path.read_bytes())
    assert count_seen(clip_hashes([Clip(id="new", path=copy)]), known) == 1


def test_the_file_holds_eight_bytes_a_clip_and_no_word_of_it(clips, tmp_path):
    write_seen(tmp_path / "a", clips)
    write_seen(tmp_path / "b", clips[::-1])
    stored = (tmp_path / "a" / SEEN_CLIPS).read_bytes()
    assert len(stored) == 128 + 8 * len(clips)
    assert b"clip" not in stored
    assert stored == (tmp_path / "b" / SEEN_CLIPS).read_bytes()  # their order is not kept


def test_what_the_starting_weights_knew_counts(clips, tmp_path):
    write_seen(tmp_path / "first", clips[:2])
    write_seen(tmp_path / "second", clips[1:3], tmp_path / "first")
    assert count_seen(clip_hashes(clips), read_seen(tmp_path / "second")) == 3
    write_seen(tmp_path / "third", clips[3:], tmp_path / "second-hand")  # remembers nothing
    assert count_seen(clip_hashes(clips), read_seen(tmp_path / "third")) == 2


def test_a_clip_without_a_file_is_passed_over(clips, tmp_path):
    clips[0].path.unlink()
    assert len(clip_hashes(clips)) == 4


def test_only_numbers_are_loaded(tmp_path):
    assert read_seen(tmp_path) is None
    path = tmp_path / SEEN_CLIPS
    for content in (b"", b"no array", b"\x93NUMPY\x01\x00"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot be read .* delete it to go on unchecked"):
            read_seen(tmp_path)
    for values in (np.array([{"a": 1}], object), np.array([1.5]), np.zeros((2, 2), np.uint64)):
        np.save(path, values, allow_pickle=True)
        with pytest.raises(ValueError, match="cannot be read"):
            read_seen(tmp_path)
