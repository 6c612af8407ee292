import json

import pytest

from coefvq import pipeline
from coefvq.cache_teacher import cache_teacher


def test_cache_teacher_scores_what_it_kept(small, tmp_path):
    said = []
    cfg = small("+recipe=cpfd", "seed=35", folder=tmp_path / "run")
    result = cache_teacher(cfg, lambda line, **_: said.append(line))
    assert result["rows"] == 64 and 0 < result["bytes_per_row"] < 5000
    assert result["test"]["n"] == 16 and "average_precision" in result["val"]
    report = pipeline.run(small("+recipe=cpfd", "seed=35", folder=tmp_path / "run"), show=False)
    assert report["paths"]["cache"] == result["folder"]
    written = json.loads((tmp_path / "run" / "report.json").read_text())
    assert written["test"]["teacher"]["f1"] == pytest.approx(result["test"]["f1"])
    for words, sentence in [
        (("+recipe=supervised",), "teacher=none has no model to ask"),
        (("+recipe=cpfd", "teacher.cache=off"), "keeps nothing"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            cache_teacher(small(*words, folder=tmp_path / "x"), print)
