from coefvq.teacher_cache import CacheIdentity
from coefvq.teacher_cache.identity import read_identity, write_identity


def test_equal_parts_have_one_fingerprint_in_any_order():
    a = CacheIdentity({"x": 1, "y": {"z": (1, 2)}})
    b = CacheIdentity({"y": {"z": [1, 2]}, "x": 1})
    assert a.fingerprint == b.fingerprint and a.differences(b) == []
    assert CacheIdentity({"x": 2}).fingerprint != a.fingerprint


def test_differences_name_the_key_and_both_values():
    a = CacheIdentity({"versions": {"torch": "2.13"}, "same": 1, "only": None})
    b = CacheIdentity({"versions": {"torch": "2.14"}, "same": 1})
    assert a.differences(b) == ["only: None -> None", "versions.torch: '2.13' -> '2.14'"]


def test_what_it_is_about_is_no_part_of_it(tmp_path):
    one = CacheIdentity({"x": 1}, {"seed": 3})
    assert one == CacheIdentity({"x": 1}) and one.fingerprint == CacheIdentity({"x": 1}).fingerprint
    write_identity(tmp_path, one)
    assert read_identity(tmp_path).about == {"seed": 3}
