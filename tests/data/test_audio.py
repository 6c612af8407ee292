import numpy as np
import pytest

from coefvq.data.audio import decode_audio, log_mel
from coefvq.data.media import UnreadableClip
from coefvq.data.video import probe


def clicks(rate, seconds=2.0):
    """Silence with single loud samples at half a second and one second."""
    sound = np.zeros(int(rate * seconds), np.float32)
    sound[rate // 2] = sound[rate] = 0.9
    return sound


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {}),
        ("a.mkv", {}),
        ("a.ts", {}),
        ("fast.mp4", {"options": {"movflags": "faststart"}}),
        ("pieces.mp4", {"options": {"movflags": "frag_keyframe+empty_moov"}}),
        ("no_edit_list.mp4", {"options": {"use_editlist": "0"}}),
        ("a44.mp4", {"sound_rate": 44_100}),
        ("a.webm", {"codec": "libvpx-vp9", "sound_codec": "libopus", "sound_rate": 48_000}),
    ],
)
def test_the_encoders_delay_is_dropped(name, options, write_clip, tmp_path):
    rate = options.get("sound_rate", 16_000)
    path = write_clip(tmp_path / name, 24, sound=clicks(rate), **options)
    sound = decode_audio(path, 16_000, 2.0)
    loudest = sorted(np.argsort(-np.abs(sound))[:2].tolist())
    # Within a millisecond; AAC alone would be 1024 samples, 64 ms, late.
    assert loudest == [pytest.approx(8_000, abs=16), pytest.approx(16_000, abs=16)]


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_a_tone_keeps_its_frequency_and_level(rate, write_clip, tone, tmp_path):
    path = write_clip(tmp_path / "a.mp4", 24, sound=tone(1_000, 2, rate), sound_rate=rate)
    sound = decode_audio(path, 16_000, 2.0)
    assert sound.dtype == np.float32
    spectrum = np.abs(np.fft.rfft(sound[4_000:20_000]))
    assert spectrum.argmax() == 1_000  # one bin per hertz over one second
    assert np.sqrt((sound[4_000:20_000] ** 2).mean()) == pytest.approx(0.5 / 2**0.5, rel=0.05)


def test_length(write_clip, tone, tmp_path):
    path = write_clip(tmp_path / "a.mp4", 24, sound=tone(440, 3.0))
    assert len(decode_audio(path, 16_000, 2.0)) == 32_000  # longer is cut
    short = write_clip(tmp_path / "b.mp4", 24, sound=tone(440, 0.5))
    # AAC fills its last frame of 1024 samples.
    assert 8_000 <= len(decode_audio(short, 16_000, 2.0)) <= 8_000 + 1_024


def test_a_clip_without_sound(write_clip, tmp_path):
    path = write_clip(tmp_path / "a.mp4", 4)
    assert decode_audio(path, 16_000, 2.0) is None
    assert not probe(path).has_sound


def test_stereo_is_mixed(tmp_path):
    import av

    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        video = out.add_stream("libx264", rate=12)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        voice = out.add_stream("pcm_s16le", rate=16_000)
        voice.layout = "stereo"
        out.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8))))
        out.mux(video.encode(None))
        left = np.full(1_600, 8_000, np.int16)
        both = np.stack([left, np.zeros_like(left)], 1).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(both, format="s16", layout="stereo")
        frame.sample_rate, frame.pts = 16_000, 0
        out.mux(voice.encode(frame))
        out.mux(voice.encode(None))
    sound = decode_audio(tmp_path / "a.mkv", 16_000, 2.0)
    assert len(sound) == 1_600
    assert sound.mean() == pytest.approx(8_000 / 32_768 / 2, rel=0.01)


def test_sound_that_starts_late_or_has_a_hole_stays_in_its_place(tmp_path):
    from fractions import Fraction

    import av

    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        video = out.add_stream("libx264", rate=12)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        voice = out.add_stream("pcm_s16le", rate=16_000)
        voice.layout = "mono"
        for number in range(24):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8))
            frame.pts = number
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        for start in (8_000, 24_000):  # half a second in, and after a hole of half a second
            frame = av.AudioFrame.from_ndarray(np.full((1, 8_000), 9_000, np.int16), "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 16_000, start, Fraction(1, 16_000)
            out.mux(voice.encode(frame))
        out.mux(voice.encode(None))
    sound = decode_audio(tmp_path / "a.mkv", 16_000, 2.0)
    loud = np.abs(sound) > 0.1
    assert len(sound) == 32_000
    for first, last, expected in ((0, 8_000, 0), (8_000, 16_000, 1), (16_000, 24_000, 0)):
        assert loud[first + 20 : last - 20].mean() == expected
    assert loud[24_020:].all()


def test_sound_that_cannot_be_decoded_at_all(write_clip, tone, tmp_path):
    from coefvq.data.media import Media

    path = write_clip(tmp_path / "a.mkv", 12, sound=tone(440, 1), sound_codec="flac")
    content = bytearray(path.read_bytes())
    with Media(path, sound=True) as media:
        places = [(packet.pos, packet.size) for packet in media.sound_packets]
    for start, size in places:
        content[start + 8 : start + size] = bytes(size - 8)
    path.write_bytes(content)
    with pytest.raises(UnreadableClip, match="its sound is damaged"):
        decode_audio(path, 16_000, 2.0)


def test_a_tone_lights_up_its_mel_band():
    from transformers.audio_utils import hertz_to_mel

    centres = np.linspace(0, hertz_to_mel(8_000.0, "slaney"), 66)[1:-1]
    for hertz in (400, 1_500, 5_000):
        sound = np.sin(2 * np.pi * hertz * np.arange(32_000) / 16_000).astype(np.float32)
        mel, mask = log_mel(sound)
        assert mel.shape == (64, 200) and mel.dtype == np.float16 and mask.all()
        band = int(mel[:, 100].argmax())
        assert band == pytest.approx(
            np.abs(centres - hertz_to_mel(hertz, "slaney")).argmin(), abs=1
        )
        assert 0.8 < mel.max() < 1.1  # full scale


def test_equal_sound_gives_equal_values_whatever_surrounds_it(tone):
    quiet = tone(440, 1.0).astype(np.float32) / 50
    loud = np.concatenate([quiet, tone(900, 1.0).astype(np.float32)])
    # Not near the boundary, where the windows overlap.
    assert np.array_equal(log_mel(quiet)[0][:, :97], log_mel(loud)[0][:, :97])


def test_silence_short_sound_and_no_sound():
    assert (log_mel(np.zeros(32_000, np.float32))[0] == -1).all()
    mel, mask = log_mel(np.ones(8_000, np.float32) * 0.1)
    assert mask.sum() == 50 and mask[:50].all()
    assert not mel[:, 50:].any()
    mel, mask = log_mel(None, num_frames=30, mel_bins=8)
    assert mel.shape == (8, 30) and not mel.any() and not mask.any()


def test_real_sound_tracks(real_clips):
    # AAC, Vorbis and Opus at 44.1 and 48 kHz, and a film with two sound tracks.
    for name in ("mdn_pig.mp4", "mdn_pig.webm", "pancake.mkv", "nasa.mp4"):
        sound = decode_audio(real_clips / name, 16_000, 2.0)
        assert len(sound) == 32_000 and 0.0005 < np.abs(sound).max() < 1.5
    assert decode_audio(real_clips / "asl_no.mkv", 16_000, 2.0) is None


def test_two_codings_of_one_recording_are_in_step(real_clips):
    first, second = (
        decode_audio(real_clips / f"mdn_pig.{x}", 16_000, 4.0) for x in ("mp4", "webm")
    )
    size = 2 ** (len(first) * 2 - 1).bit_length()
    product = np.fft.rfft(first, size) * np.conj(np.fft.rfft(second, size))
    lag = int(np.fft.irfft(product, size).argmax())
    lag = lag - size if lag > size // 2 else lag
    assert abs(lag) < 0.02 * 16_000  # one coder's priming differs from the other's
