import dataclasses
import hashlib
import json
import subprocess
import sys

import pytest

from coefvq.data import reader
from coefvq.serving import cascade_folder
from coefvq.serving.cascade_folder import load_cascade, load_half
from coefvq.serving.cascade_inference import answer_clips, in_audit
from coefvq.serving.predict_cascade import answer_row
from coefvq.serving.sides import HeavySide, LightSide, _pack_upload
from coefvq.serving.uploads import Limits, Refused, Upload
from coefvq.serving.watch import read_log, watch_folder


@pytest.fixture(params=["one reading", "two readings"])
def sides(request, served, monkeypatch):
    """Both halves and, as JSON has it, what the whole cascade says of the two clips."""
    if request.param == "two readings":
        load = cascade_folder.load_served

        def other(folder):
            model = load(folder)
            if folder.name == "model":  # the teacher's
                inputs = dataclasses.replace(model.inputs, num_frames=1)
                model = dataclasses.replace(model, inputs=inputs)
            return model

        read = cascade_folder.read_interface

        def described(folder):
            found = read(folder)
            if folder.name == "model":
                return dataclasses.replace(
                    found, inputs=dataclasses.replace(found.inputs, num_frames=1)
                )
            return found

        monkeypatch.setattr(cascade_folder, "load_served", other)
        monkeypatch.setattr(cascade_folder, "read_interface", described)
    return LightSide(served[0], Limits()), HeavySide(served[0]), load_cascade(served[0])


def upload(clip, **changes):
    return dataclasses.replace(Upload(clip.path.read_bytes(), clip.text), **changes)


def test_both_halves_answer_as_the_whole(sides, served):
    light, heavy, cascade = sides
    for clip in served[1:]:
        look = light.look(upload(clip))
        assert (look.ask is not None) == look.passed.deferred == (clip == served[2])
        answers = None if look.ask is None else heavy.answers([look.ask])[0]
        found = light.finish(look, json.loads(json.dumps(answers)))
        (own,) = answer_clips(cascade, [clip])
        own = answer_row(own, cascade.policy, cascade.light.task)
        assert json.loads(json.dumps(found)) == found
        for name in found.keys() - {"seconds"}:
            assert found[name] == pytest.approx(own[name], abs=1e-6) if name != "reason" else True
        assert found["seconds"] > 0


def test_decoding_is_shared_where_both_read_alike(sides, served, monkeypatch):
    light, heavy, cascade = sides
    read, opened = reader.read_file, []

    def count(path, *words):
        opened.append(path)
        return read(path, *words)

    monkeypatch.setattr(reader, "read_file", count)
    heavy.answers([light.look(upload(served[2])).ask])
    assert len(opened) == (1 if cascade.one_reading else 2)


def test_one_bad_clip_does_not_spoil_the_batch(sides, served):
    light, heavy, cascade = sides
    if cascade.one_reading:
        pytest.skip("the heavy side decodes nothing here")
    look = light.look(upload(served[2]))
    broken = _pack_upload(upload(served[2], video=b"no video"))
    first, bad, last = heavy.answers([look.ask, broken, look.ask])
    assert first["logits"] == pytest.approx(last["logits"], abs=1e-6)
    assert "no clip that can be read" in bad["problem"]
    with pytest.raises(Refused) as caught:
        light.finish(look, bad)
    assert caught.value.status == 422
    assert heavy.answers([broken])[0].keys() == {"problem"} and heavy.answers([]) == []


def test_the_light_side_refuses_before_it_decodes(served):
    light = LightSide(served[0], Limits(frames=5))
    with pytest.raises(Refused, match="24 frames"):
        light.look(upload(served[1]))
    with pytest.raises(Refused, match="caption is read by neither model; the fields are title"):
        light.look(upload(served[1], text={"caption": "x"}))
    with pytest.raises(Refused, match="no clip that can be read"):
        light.look(Upload(b"no video"))


def test_an_audited_clip_is_answered_first_and_judged_later(served, tmp_path):
    folder, kept, deferred = served
    light = LightSide(folder, Limits(), audit=1.0, log=tmp_path / "log")
    heavy, plain = HeavySide(folder), LightSide(folder, Limits())
    look = light.look(upload(kept))
    assert look.ask is None and look.audit is not None and not look.passed.deferred
    answer = light.finish(look)
    own = plain.finish(plain.look(upload(kept)))
    assert {k: v for k, v in answer.items() if k != "seconds"} == {
        k: v for k, v in own.items() if k != "seconds"
    }
    assert not list((tmp_path / "log").glob("*.jsonl"))  # not before it was judged
    light.judge(look, heavy.answers([look.audit])[0])
    other = light.look(upload(deferred))
    assert other.audit is None
    light.finish(other, heavy.answers([other.ask])[0])
    light.judge(light.look(upload(kept)), None)
    light.judge(light.look(upload(kept)), {"problem": "cannot be read"})
    table = read_log(tmp_path / "log")
    assert list(table["route"]) == ["light", "heavy", "light", "light"]
    assert list(table["audit_probability"]) == [1.0] * 4
    assert list(table["audit_failed"].eq(True)) == [False, False, True, True]
    names = [hashlib.sha256(c.path.read_bytes()).hexdigest()[:16] for c in (kept, deferred)]
    assert list(table["content"]) == [names[0], names[1], names[0], names[0]]
    assert "content" not in answer
    (row,) = answer_clips(load_cascade(folder), [kept], audit=1.0)
    row = answer_row(row, light.policy, light.model.task)
    assert table["heavy_prediction"][0] == row["heavy_prediction"]
    assert table["prediction"][0] == row["prediction"]
    found = watch_folder(folder, table)
    assert found.misses.audited == 1 and found.failed == 2


def test_the_share_of_an_audit(served, tmp_path):
    folder, kept, _ = served
    with pytest.raises(ValueError, match=r"audit=0\.5 writes down what it finds; give log="):
        LightSide(folder, Limits(), audit=0.5)
    with pytest.raises(ValueError, match="audit is a share of clips"):
        LightSide(folder, Limits(), audit=2.0, log=tmp_path)
    light = LightSide(folder, Limits(), audit=0.3, log=tmp_path)
    name = hashlib.sha256(kept.path.read_bytes()).hexdigest()
    for seed in range(6):
        light.audit_seed = seed
        look = light.look(upload(kept))
        assert look.passed.audited == in_audit(name, 0.3, seed) == (look.audit is not None)
        assert look.passed.answer(light.policy, light.audit).audit_probability == 0.3


def test_half_a_cascade(served):
    whole = load_cascade(served[0])
    light, heavy = load_half(served[0], "light"), load_half(served[0], "heavy")
    assert light.model.fingerprint == whole.light.fingerprint
    assert heavy.model.fingerprint == whole.heavy.fingerprint
    assert light.other.inputs == heavy.model.inputs and heavy.other.inputs == light.model.inputs


@pytest.mark.parametrize("who", ["light", "heavy"])
def test_each_half_refuses_a_model_it_was_not_fitted_for(changed_cascade, who):
    folder = changed_cascade(**{f"{who}_fingerprint": "0123456789abcdef"})
    other = "heavy" if who == "light" else "light"
    assert load_half(folder, other).model.fingerprint
    with pytest.raises(ValueError, match=f"fitted for the {who} model 0123456789abcdef"):
        load_half(folder, who)


def test_no_engine_is_imported():
    code = (
        "import sys; import coefvq.serving.sides, coefvq.serving.uploads, coefvq.serving.options;"
        "print([n for n in ('litserve', 'ray', 'fastapi', 'lightning') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
