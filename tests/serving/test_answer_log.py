import json

from coefvq.serving.answer_log import AnswerLog


def test_a_line_per_answer_with_its_time(tmp_path):
    log = AnswerLog(tmp_path / "made" / "log")
    assert not log.path.exists()
    log.add({"route": "light", "audited": False, "path": "/private/clip.mp4", "content": "ab12"})
    log.add({"route": "heavy", "audited": True})
    first, second = map(json.loads, log.path.read_text().splitlines())
    assert first["route"] == "light" and first["heavy_prediction"] is None
    assert first["content"] == "ab12" and second["content"] is None
    assert "path" not in first and first["time"] <= second["time"]
