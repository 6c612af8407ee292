from coefvq.evaluation.same_clips import different_data


def reports(*rows):
    """Rows of label, seed, fingerprint of the data and of the test clips."""
    return {
        (label, "kind", seed): {"data_fingerprint": data, "test_fingerprint": test}
        for label, seed, data, test in rows
    }


def test_equal_data_need_no_word():
    runs = reports(("a", 1, "x", "t"), ("b", 1, "x", "t"), ("a", 2, "y", "u"), ("b", 2, "y", "u"))
    assert different_data("kind", [1, 2], runs) == []


def test_other_test_clips_are_named():
    runs = reports(("a", 1, "x", "t"), ("b", 1, "y", "u"))
    assert different_data("kind", [1], runs) == ["different test clips on kind, seed 1: a | b"]


def test_ablations_of_the_data_are_named_once_for_all_seeds():
    runs = reports(
        ("a", 1, "x", "t"), ("b", 1, "x", "t"), ("few", 1, "y", "t"),
        ("a", 2, "v", "u"), ("b", 2, "v", "u"), ("few", 2, "w", "u"),
    )  # fmt: skip
    assert different_data("kind", [1, 2], runs) == [
        "same test clips, other training data or reading on kind, seeds 1, 2: a, b | few"
    ]


def test_older_reports_do_not_say_where_the_difference_is():
    runs = reports(("a", 1, "x", None), ("b", 1, "y", "t"))
    assert different_data("kind", [1], runs) == ["different data on kind, seed 1: a | b"]


def test_other_columns_are_left_alone():
    runs = {("a", "other", 1): {"test_fingerprint": "t"}, **reports(("b", 1, "x", "u"))}
    assert different_data("kind", [1], runs) == []
