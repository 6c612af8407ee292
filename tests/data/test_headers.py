"""Headers: what is asked of the first video stream, and how clips are named."""

import pytest

from coefvq.data.headers import SHOWN, examples, from_header


def test_the_first_video_stream_is_asked(write_clip, tmp_path):
    path = tmp_path / "a.mp4"
    write_clip(path, 4)
    size = from_header(path, lambda s: (s.codec_context.width, s.codec_context.height))
    assert size is not None and min(size) > 0


@pytest.mark.parametrize("content", [None, b"", b"no video"])
def test_a_file_that_cannot_be_opened_says_nothing(tmp_path, content):
    path = tmp_path / "a.mp4"
    if content is not None:
        path.write_bytes(content)
    assert from_header(path, lambda stream: "something") is None


def test_examples_stop_after_some():
    words = {f"{i}.mp4": "said" for i in range(SHOWN + 1)}
    assert examples(words).endswith("; …")
    del words["0.mp4"]
    assert "…" not in examples(words) and examples(words).count("said") == SHOWN
    assert examples({}) == ""
