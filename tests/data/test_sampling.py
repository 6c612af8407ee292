import numpy as np
import pytest

from coefvq.data.sampling import check_policy, frames_at, sample_times, view_name
from coefvq.types import InputSpec


def test_uniform_takes_the_middles_of_equal_segments():
    # 2 seconds in 4 segments of half a second: their middles.
    assert sample_times("uniform", 4, 2.0).tolist() == [0.25, 0.75, 1.25, 1.75]


@pytest.mark.parametrize(
    ("seconds", "frames", "expected"),
    [
        (3.0, 8, [0.5, 1.5, 2.5]),  # one each second, the rest stays empty
        (4.0, 2, [1.5, 3.5]),  # thinned evenly
        (2.6, 8, [0.5, 1.5, 2.5]),  # the middle of the broken second is inside the clip
        (2.4, 8, [0.5, 1.5]),
        (0.3, 8, [0.15]),  # shorter than half a second: its middle
    ],
)
def test_per_second(seconds, frames, expected):
    assert sample_times("per_second", frames, seconds).tolist() == pytest.approx(expected)


def test_random_segments_stay_in_their_segments_and_follow_the_generator():
    times = [sample_times("random_segments", 4, 8.0, np.random.default_rng(s)) for s in (1, 1, 2)]
    assert np.array_equal(times[0], times[1])
    assert not np.array_equal(times[0], times[2])
    for segment, moment in enumerate(times[0]):
        assert 2 * segment <= moment < 2 * segment + 2


@pytest.mark.parametrize("policy", ["uniform", "per_second"])
def test_no_moment_lies_outside_the_clip(policy):
    for seconds in (0.01, 0.5, 0.99, 1.0, 1.49, 1.5, 7.3):
        times = sample_times(policy, 5, seconds)
        assert len(times) >= 1
        assert (times >= 0).all() and (times < seconds).all()


def test_frames_on_the_screen_are_found_by_time():
    shown = np.array([0, 100, 900, 1000])
    assert frames_at(np.array([50, 500, 950]), shown, 100).tolist() == [0, 1, 2]


def test_a_boundary_belongs_to_the_later_frame_in_spite_of_rounding():
    # 12 frames/s stored in milliseconds: 83 and 167 stand for 83.33 and 166.67.
    shown = np.round(np.arange(24) * 1000 / 12)
    assert frames_at(np.array([3, 9, 15, 21]) * 1000 / 12 - 0.4, shown, 83).tolist() == [
        3,
        9,
        15,
        21,
    ]


def test_no_frame_is_taken_twice():
    assert frames_at(np.array([0.1, 0.2, 1.5]), np.array([0.0, 1.0]), 1.0).tolist() == [0, 1]


def test_refusals():
    with pytest.raises(ValueError, match="sampling 'unifrom' is unknown; choose one of uniform"):
        check_policy("unifrom", training=False)
    with pytest.raises(ValueError, match="sampling 'random_segments' is unknown"):
        check_policy("random_segments", training=False)
    with pytest.raises(ValueError, match="num_frames must be at least 1, got 0"):
        sample_times("uniform", 0, 1.0)
    with pytest.raises(ValueError, match="needs a random generator"):
        sample_times("random_segments", 2, 1.0)


def test_a_view_says_which_frames():
    few, many = InputSpec(num_frames=2), InputSpec(num_frames=8)
    names = [
        view_name(few, "uniform"),
        view_name(many, "uniform"),
        view_name(few, "per_second"),
        view_name(InputSpec(num_frames=2, fit="squash"), "uniform"),
        view_name(few, "random_segments", 0),
        view_name(few, "random_segments", 1),
    ]
    assert len(set(names)) == len(names)
