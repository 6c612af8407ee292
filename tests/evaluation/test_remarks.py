"""Remarks: a teacher that is not above its student, and one that costs less."""

from __future__ import annotations

import math

import pytest

from coefvq.evaluation.remarks import remarks


def said(test: dict, **rest) -> list[str]:
    return list(remarks({"test": test, **rest}))


@pytest.mark.parametrize("metric", ["average_precision", "srcc"])
def test_a_teacher_above_its_student_needs_no_remark(metric):
    assert not said({"teacher": {metric: 0.8}, "student": {metric: 0.7}})
    assert not said(
        {"teacher": {metric: 0.8}, "student": {metric: 0.7}, "first_stage": {metric: 0.6}}
    )


@pytest.mark.parametrize("metric", ["average_precision", "srcc"])
def test_a_teacher_below_the_first_stage_is_named_with_both_numbers(metric):
    (line,) = said(
        {"teacher": {metric: 0.7}, "student": {metric: 0.9}, "first_stage": {metric: 0.75}}
    )
    assert "0.700" in line and "0.750" in line and "0.900" not in line


def test_a_student_above_its_teacher_is_named_once():
    (line,) = said(
        {
            "teacher": {"average_precision": 0.7},
            "student": {"average_precision": 0.7},
            "first_stage": {"average_precision": 0.6},
        }
    )
    assert "not above the student's (0.700)" in line


def test_one_model_or_an_undefined_metric_says_nothing():
    assert not said({"student": {"average_precision": 0.7}})
    assert not said({"teacher": {"average_precision": 0.7}})
    assert not said({})
    nan = math.nan
    assert not said({"teacher": {"average_precision": nan}, "student": {"average_precision": 0.7}})
    assert not said({"teacher": {"average_precision": 0.7}, "student": {"average_precision": nan}})


def test_a_teacher_that_costs_less_is_named():
    costs = {"teacher": {"gflop": 0.05}, "student": {"gflop": 0.3}, "student_known_clips": {}}
    (line,) = said({}, compute=costs)
    assert "0.050" in line and "0.300" in line
    costs["teacher"]["gflop"] = 27.0
    assert not said({}, compute=costs)
    assert not said({}, compute={"student": {"gflop": 0.3}})
    costs["teacher"] = {"gflop": 0.05, "privileged": True}
    assert not said({}, compute=costs)  # dear is what it reads
