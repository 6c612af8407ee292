import dataclasses

import numpy as np
import pytest

from coefvq.data.shortform import codec, sources


def luma(frames):
    return frames[:, : sources.SIZE].astype(float)


@pytest.mark.parametrize("kind", sources.KINDS)
def test_every_kind_renders_and_moves(kind, picture_of):
    frames, _ = codec.render(picture_of(kind), [])
    assert frames.shape == (24, 192, 128) and frames.dtype == np.uint8
    still = np.abs(np.diff(luma(frames), axis=0)).mean((1, 2)) < 0.02
    assert still.sum() <= 2, "a frozen frame must be one that we froze"
    assert luma(frames).std() > 2, "there is something to see"
    assert luma(frames).min() >= 16 and luma(frames).max() <= 235


@pytest.mark.parametrize("kind", sources.KINDS)
def test_equal_pictures_have_equal_pixels(kind, picture_of):
    once, _ = codec.render(picture_of(kind), [])
    again, _ = codec.render(picture_of(kind), [])
    assert np.array_equal(once, again)


@pytest.mark.parametrize("kind", sources.KINDS)
def test_other_pictures_of_a_kind_have_other_pixels(kind, picture_of):
    one, _ = codec.render(picture_of(kind, 0), [])
    other, _ = codec.render(picture_of(kind, 1), [])
    assert np.abs(one.astype(int) - other).mean() > 1


@pytest.mark.parametrize("kind", sources.KINDS)
def test_only_kinds_that_are_named_start_with_the_same_picture(kind):
    rng, starts = np.random.default_rng(0), set()
    pictures = [p for p in (sources.draw_picture(rng) for _ in range(80)) if p.kind == kind][:6]
    for picture in pictures:
        grey = dataclasses.replace(picture, contrast=1.0, hue=0.0)
        starts.add(luma(codec.render(grey, [])[0])[0].tobytes())
    assert len(pictures) >= 4
    assert (len(starts) < len(pictures)) == (kind in sources.SAME_PICTURES)


def test_contrast_and_hue_change_the_picture(picture_of):
    picture = dataclasses.replace(picture_of("testsrc2"), contrast=1.0, hue=0.0)
    plain, _ = codec.render(picture, [])
    flat, _ = codec.render(dataclasses.replace(picture, contrast=0.5), [])
    turned, _ = codec.render(dataclasses.replace(picture, hue=180.0), [])
    assert np.allclose(luma(flat) - 128, (luma(plain) - 128) / 2, atol=1.5)
    assert np.array_equal(luma(turned), luma(plain))
    assert np.abs(turned[:, 128:].astype(int) - plain[:, 128:]).mean() > 10


def test_equal_generators_draw_equal_pictures():
    first = [sources.draw_picture(np.random.default_rng(s)) for s in range(20)]
    assert first == [sources.draw_picture(np.random.default_rng(s)) for s in range(20)]
    assert len(set(first)) == 20


def test_kinds_are_equally_frequent(within):
    rng = np.random.default_rng(0)
    drawn = [sources.draw_picture(rng) for _ in range(2000)]
    for kind in sources.KINDS:
        assert within(sum(p.kind == kind for p in drawn), len(drawn), 1 / len(sources.KINDS))
    assert all(0 <= p.hue < 360 and 0.7 <= p.contrast < 1.2 for p in drawn)


@pytest.mark.parametrize("kind", sources.KINDS)
def test_a_title_is_about_the_picture_unless_it_mismatches(kind):
    rng = np.random.default_rng(1)
    own = sources._NOUNS[kind]
    others = [noun for k, nouns in sources._NOUNS.items() if k != kind for noun in nouns]
    for _ in range(40):
        right = sources.draw_title(rng, kind, mismatch=False)
        wrong = sources.draw_title(rng, kind, mismatch=True)
        assert any(noun in right for noun in own)
        assert not any(noun in wrong for noun in own)
        assert any(noun in wrong for noun in others)


def test_titles_tell_the_kinds_apart():
    nouns = [noun for nouns in sources._NOUNS.values() for noun in nouns]
    assert set(sources._NOUNS) == set(sources.KINDS)
    assert len(set(nouns)) == len(nouns)
