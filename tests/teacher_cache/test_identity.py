from coefvq.teacher_cache import CacheIdentity, view_name
from coefvq.types import InputSpec


def test_equal_parts_have_one_fingerprint_in_any_order():
    a = CacheIdentity({"x": 1, "y": {"z": (1, 2)}})
    b = CacheIdentity({"y": {"z": [1, 2]}, "x": 1})
    assert a.fingerprint == b.fingerprint and a.differences(b) == []
    assert CacheIdentity({"x": 2}).fingerprint != a.fingerprint


def test_differences_name_the_key_and_both_values():
    a = CacheIdentity({"versions": {"torch": "2.13"}, "same": 1, "only": None})
    b = CacheIdentity({"versions": {"torch": "2.14"}, "same": 1})
    assert a.differences(b) == ["only: None -> None", "versions.torch: '2.13' -> '2.14'"]


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
