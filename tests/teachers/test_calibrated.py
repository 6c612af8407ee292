import json

import pytest
import torch
from toys import toy_batches

from coefvq.teachers.calibrated import CalibratedTeacher, Calibration
from coefvq.types import TeacherOutput

BATCH = toy_batches(n=4, batch_size=4)[0]
NUMBERS = {"clips": 9, "nll_before": 0.7, "nll_after": 0.5, "ece_before": 0.2, "ece_after": 0.1}


def test_logits_are_divided_and_the_rest_stays():
    answer = TeacherOutput(torch.tensor([2.0, -1.0, 0.0, 1e4]), torch.randn(4, 3))
    teacher = CalibratedTeacher(lambda batch: answer, Calibration((2.0,), **NUMBERS))
    output = teacher(BATCH)
    assert output.logits.tolist() == [1.0, -0.5, 0.0, 5e3]
    assert output.features is answer.features and answer.logits[0] == 2.0


def test_each_label_has_its_own():
    answer = TeacherOutput(torch.ones(4, 3))
    calibration = Calibration((1.0, 2.0, 4.0), **NUMBERS)
    output = CalibratedTeacher(lambda batch: answer, calibration)(BATCH)
    assert output.logits[2].tolist() == [1.0, 0.5, 0.25]
    short = Calibration((1.0, 2.0), **NUMBERS)
    with pytest.raises(ValueError, match=r"2 temperatures, one per label, .* \(4, 3\)"):
        CalibratedTeacher(lambda batch: answer, short)(BATCH)


def test_one_temperature_serves_all_classes():
    answer = TeacherOutput(torch.ones(4, 3))
    output = CalibratedTeacher(lambda batch: answer, Calibration((4.0,), **NUMBERS))(BATCH)
    assert output.logits.unique().tolist() == [0.25]


def test_it_survives_json_to_the_bit():
    calibration = Calibration((1 / 3, 0.1), **NUMBERS)
    assert Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration
    assert "temperature 0.33, 0.10 from 9 validation clips: NLL 0.700 -> 0.500" in (
        calibration.line()
    )


@pytest.mark.parametrize("wrong", [(), (0.0,), (1.0, -1.0), (float("nan"),), (float("inf"),)])
def test_wrong_temperatures_are_refused(wrong):
    with pytest.raises(ValueError, match="finite numbers above 0"):
        Calibration(wrong, **NUMBERS)
