import dataclasses
import json

import numpy as np
import pytest

from coefvq.data.pairs.plan import (
    CODECS,
    PLAIN,
    SOUND,
    TRANSFORMATIONS,
    NothingApplies,
    Plan,
    draw_plan,
    rewrite_title,
)


def plans(count, **options):
    return [
        draw_plan(np.random.default_rng(i), **{"title": "a b c", **options}) for i in range(count)
    ]


def test_equal_generators_draw_equal_plans():
    first, second = plans(20), plans(20)
    assert first == second and len(set(first)) == 20


def test_everything_is_drawn_in_order_and_at_most_three_at_once():
    some = plans(300)
    assert {name for plan in some for name in plan.how} == set(TRANSFORMATIONS)
    for plan in some:
        assert 1 <= len(plan.how) <= 3 and len(set(plan.how)) == len(plan.how)
        assert list(plan.how) == sorted(plan.how, key=TRANSFORMATIONS.index)
        assert len(set(plan.how) & set(SOUND)) <= 1
    assert {len(plan.how) for plan in some} == {1, 2, 3}


def test_a_plan_says_exactly_what_it_does():
    """A field differs from doing nothing if, and only if, its name is in `how`."""
    nothing = Plan()
    fields = {
        "reencode": ("codec", "crf"), "crop": ("crop",), "scale": ("scale",),
        "letterbox": ("letterbox",), "overlay": ("overlay",), "flip": ("flip",),
        "speed": ("speed",), "trim": ("span",), "splice": ("splice",),
        "audio_reencoded": ("bitrate",), "title": ("title",),
    }  # fmt: skip
    for plan in plans(300):
        for name, values in fields.items():
            changed = any(getattr(plan, field) != getattr(nothing, field) for field in values)
            assert changed == (name in plan.how), (name, plan)


def test_numbers_are_inside_the_picture_and_the_clip():
    for plan in plans(300):
        for box in (plan.crop, plan.overlay):
            if box is not None:
                left, top, width, height = box
                assert min(left, top) >= 0 and left + width <= 1.0001 and top + height <= 1.0001
        assert 0 <= plan.span[0] < plan.span[1] <= 1
        assert (plan.codec, plan.crf) == PLAIN or plan.crf in CODECS[plan.codec]


def test_what_a_clip_does_not_have_is_not_changed():
    silent = plans(200, sound=False)
    assert not {n for p in silent for n in p.how} & {"audio_removed", "audio_reencoded"}
    assert "audio_replaced" in {n for p in silent for n in p.how}
    alone = plans(200, donors=False)
    assert not {n for p in alone for n in p.how} & {"splice", "audio_replaced"}
    assert "title" not in {n for p in plans(200, title=" ") for n in p.how}


@pytest.mark.parametrize(
    ("among", "lack", "reason"),
    [
        (["title"], {"title": ""}, "title: the clip has no title"),
        (["audio_removed", "title"], {"sound": False, "title": ""},
         "audio_removed: the clip has no sound; title: the clip has no title"),
        (["splice"], {"donors": False}, "splice: there is no other clip in its split"),
        (["audio_replaced"], {"donor_sound": False}, "no other clip in its split has sound"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(among, lack, reason):
    with pytest.raises(NothingApplies, match=reason):
        draw_plan(np.random.default_rng(0), among=among, **({"title": "a"} | lack))


def test_a_given_span_counts_as_trim():
    for plan in plans(100, span=(0.0, 0.45)):
        assert plan.span == (0.0, 0.45) and "trim" in plan.how and "splice" not in plan.how
    assert draw_plan(np.random.default_rng(0), least=1, most=1, span=(0.5, 1.0)).how == ("trim",)


def test_only_some_transformations():
    assert {n for p in plans(50, among=["crop", "flip"]) for n in p.how} == {"crop", "flip"}
    with pytest.raises(ValueError, match="mirror are unknown; choose from reencode, crop"):
        draw_plan(np.random.default_rng(0), among=["mirror"])
    with pytest.raises(ValueError, match="1 or more transformations, got 3 to 2"):
        draw_plan(np.random.default_rng(0), least=3, most=2)


@pytest.mark.parametrize("title", ["one", "two words", "a longer title of many words", "x " * 40])
def test_a_rewritten_title_differs_and_keeps_a_word(title):
    for seed in range(100):
        new = rewrite_title(np.random.default_rng(seed), title)
        assert new != title and set(new.split()) & set(title.split())


def test_plans_become_json():
    plan = plans(1)[0]
    assert json.loads(json.dumps(plan.to_dict())).keys() == {
        field.name for field in dataclasses.fields(Plan)
    }
