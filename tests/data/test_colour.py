import logging
import shutil

import av
import numpy as np
import pytest

from coefvq.data.colour import colour_note, colour_of, colours_of
from coefvq.data.decoding import fill_cache
from coefvq.data.frame_cache import FrameCache
from coefvq.data.video import decode_frames
from coefvq.types import Clip, InputSpec

BT709, BT2020, PQ, HLG = 1, 9, 16, 18


def write(path, *, codec="libx265", pixels="yuv420p10le", transfer=PQ, primaries=BT2020):
    """Twelve grey ramps; x265 is told the colours in its own words, others by the context."""
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    names = {PQ: "smpte2084", HLG: "arib-std-b67", BT709: "bt709"}
    own = {}
    if codec == "libx265":
        matrix = {BT2020: "bt2020nc", BT709: "bt709"}[primaries]
        gamut = matrix.removesuffix("nc")
        words = f"colorprim={gamut}:transfer={names[transfer]}:colormatrix={matrix}"
        own = {"x265-params": f"log-level=none:{words}"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=12, options=own)
        stream.width = stream.height = 128
        stream.pix_fmt = pixels
        context = stream.codec_context
        context.color_trc, context.color_primaries = transfer, primaries
        context.colorspace = 9 if primaries == BT2020 else 1
        ramp = np.broadcast_to(np.arange(128, dtype=np.uint8)[None, :, None] * 2, (128, 128, 3))
        for _ in range(12):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(ramp), format="rgb24")
            for packet in stream.encode(picture.reformat(format=pixels)):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("colours")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "PQ, BT.2020, 10 bits"),
        ({"transfer": HLG}, "HLG, BT.2020, 10 bits"),
        ({"transfer": BT709, "primaries": BT709}, "10 bits"),
        ({"codec": "libx264", "pixels": "yuv420p", "transfer": BT709}, "BT.2020"),
        (
            {"codec": "libx264", "pixels": "yuv420p", "transfer": BT709, "primaries": BT709},
            None,
        ),
    ],
)
def test_what_a_file_says_of_its_colours(folder, options, words):
    path = write(folder / f"{len(list(folder.iterdir()))}.mp4", **options)
    assert colour_of(path) == words
    # It is decoded all the same: a grey ramp stays one, in eight bits, whatever it is tagged.
    frames, mask, _ = decode_frames(path, 2)
    row = frames[0, :, 64].astype(int)
    assert mask.all() and frames.dtype == np.uint8 and (np.ptp(row, axis=0) <= 3).all()
    assert np.abs(row[0] - 2 * np.arange(128)).max() <= 6


def test_one_sentence_with_their_number(folder, clip_files):
    sdr = sorted(clip_files.iterdir())[:2]
    assert colour_note(*colours_of(sdr)) is None and colour_note({}, 0) is None
    hdr = write(folder / "hdr.mp4")
    note = colour_note(*colours_of([*sdr, hdr]))
    assert note.startswith("1 of 3 clips are HDR") and "(hdr.mp4: PQ, BT.2020, 10 bits)" in note
    assert "\n" not in note
    more = [shutil.copy(hdr, folder / f"copy{k}.mp4") for k in range(3)]
    assert "copy1.mp4: PQ, BT.2020, 10 bits; …)" in colour_note(*colours_of(more))


def test_what_cannot_be_opened_is_nobodys_colour(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    assert colour_of(tmp_path / "text.mp4") is None and colour_of(tmp_path / "none.mp4") is None


def test_decoding_for_training_says_it_once(folder, tmp_path, caplog):
    path = write(folder / "training.mp4")
    inputs = InputSpec(num_frames=1, frame_size=32, audio=False)
    cache = FrameCache(inputs, "uniform", tmp_path)
    clips = [Clip(str(k), path) for k in range(2)]
    with caplog.at_level(logging.WARNING):
        fill_cache(cache, clips, inputs, "uniform")
        fill_cache(cache, clips, inputs, "uniform")
    assert [r.getMessage().partition(" clips")[0] for r in caplog.records] == ["1 of 1"]
