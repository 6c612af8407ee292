import pytest

from coefvq.prepare import prepared_data
from coefvq.teacher_supply.memory_ahead import estimate_ahead
from coefvq.teacher_supply.opening import open_teacher


def test_a_live_teacher_that_will_not_fit_is_refused_before_it_is_trained(
    small, tmp_path, monkeypatch
):
    cfg = small("+recipe=cpfd", "teacher.cache=off", folder=tmp_path / "run")
    data = prepared_data(cfg)
    estimate = estimate_ahead(cfg, data)
    assert estimate.teacher > 0 and estimate.student > 0 and estimate.working > 0
    assert estimate.resident == 0 and estimate.clips == 8 and estimate.fits
    monkeypatch.setattr("coefvq.teacher_supply.memory.free_memory", lambda device: 1000)
    monkeypatch.setattr("coefvq.teacher_supply.opening.get_teacher", None)  # nothing is trained
    with pytest.raises(ValueError, match="does not fit"):
        open_teacher(cfg, data, print)
    for word in ("teacher.cache=auto", "teacher.checkpoint=folder", "phases=[teacher]"):
        other = small("+recipe=cpfd", "teacher.cache=off", word, folder=tmp_path / "run")
        assert estimate_ahead(other, data) is None
