"""Costs on the page: of what, of which models, and what is not counted."""

from coefvq.evaluation.compute_page import compute_lines

ONE = {"gflop": 0.5, "ms": 1.25, "batch": 8, "parameters": 250_000, "frames": 4}


def test_a_clip_of_both_models():
    costs = {"teacher": {**ONE, "privileged": True, "parameters": 3_000_000}, "student": ONE}
    head, rows, below = compute_lines({"compute": costs})
    assert head == "### Cost of a clip"
    assert "| teacher | 3.00 | 0.500 | 1.25 |" in rows and "| student | 0.25 | 0.500 |" in rows
    assert below.startswith("On decoded frames, 4 frames a clip, 8 clips at a time. What it takes")
    assert "the teacher's privileged features is not counted" in below


def test_pairs_of_an_earlier_version():
    old = {name: value for name, value in ONE.items() if name not in ("parameters", "frames")}
    costs = {"student": old, "student_known_clips": {**old, "gflop": 0.125}}
    head, rows, below = compute_lines({"compute": costs, "pairs": {"student": {}}})
    assert head == "### Cost of a pair" and "| student known clips |  | 0.125 | 1.25 |" in rows
    assert below == "On decoded frames, 8 pairs at a time."


def test_nothing_was_measured():
    assert compute_lines({}) == compute_lines({"compute": {}}) == []
