"""MatchLM: the published sequence, the shared frame budget, heads, saving."""

import dataclasses

import pytest
import torch
from small_mllm import LetterTokenizer, random_pairs, rows, shake, small_mllm

from coefvq.pairs import PairBatch
from coefvq.teachers.matchlm import MatchLM, share_frames


def make(mode="saliency", *, sub=3, seed=0, **options):
    torch.manual_seed(seed)
    changes = {k: options.pop(k) for k in ("read_out", "lora") if k in options}
    return MatchLM(small_mllm(mode, **changes), sub, **options).eval()


def real(*counts, frames=8):
    return torch.arange(frames).expand(len(counts), -1) < torch.tensor(counts)[:, None]


def counts(masks):
    return [mask.sum(1).tolist() for mask in masks]


def test_it_answers_with_logits_features_and_sub_logits():
    output = make()(random_pairs(3))
    assert output.logits.shape == (3,)
    assert output.features.shape == (3, 10)
    assert output.sub_logits.shape == (3, 3)
    assert make(sub=0)(random_pairs(3)).sub_logits is None


def test_the_sequence_is_the_published_one(monkeypatch):
    model = make(layout="ab {video_1} {audio_1} {video_2} {audio_2}", tokenizer=LetterTokenizer())
    pairs = rows(random_pairs(3), 1, 2)
    seen = []
    inner = model.mllm.backbone.forward
    monkeypatch.setattr(model.mllm.backbone, "forward", lambda s: seen.extend(s) or inner(s))
    model(pairs)
    sides = (pairs.query, pairs.candidate)
    videos = [4 * int(side.frame_mask.sum()) + 1 for side in sides]  # 2x2 tokens, an end token
    assert [len(piece.tokens) for piece in seen[0]] == [2, videos[0], 1, videos[1], 1]
    for side, piece in zip(sides, (seen[0][2], seen[0][4]), strict=True):
        alone = model.mllm.audio(side.audio, side.audio_mask)[0][0]
        torch.testing.assert_close(piece.tokens, alone)


@pytest.mark.parametrize("mode", ["saliency", "token", "late", "mid", None])
def test_a_pair_answers_the_same_in_any_batch(mode):
    model, pairs = make(mode, frame_budget=4), random_pairs(4)
    shake(model)
    together = model(pairs)
    for row in range(4):
        alone = model(rows(pairs, row, row + 1))
        torch.testing.assert_close(alone.logits, together.logits[row : row + 1])
        torch.testing.assert_close(alone.sub_logits, together.sub_logits[row : row + 1])


def test_the_order_of_the_clips_matters():
    model, pairs = make(), random_pairs(3)
    shake(model)
    swapped = PairBatch(pairs.ids, pairs.candidate, pairs.query)
    assert not torch.allclose(model(pairs).logits, model(swapped).logits)


def test_labels_are_never_read():
    model, pairs = make(), random_pairs(3)
    labelled = dataclasses.replace(pairs, labels=torch.ones(3), sub_labels=torch.ones(3, 3))
    assert torch.equal(model(pairs).logits, model(labelled).logits)


def test_a_dynamic_budget_is_split_in_the_ratio_of_the_frames():
    # 6 : 2 of 4 is 3 : 1; 5 : 3 of 4 is 2.5, rounded up; 2 + 2 are within the budget.
    masks = share_frames(real(6, 5, 2), real(2, 3, 2), 4, "dynamic")
    assert counts(masks) == [[3, 3, 2], [1, 1, 2]]
    # However short, each clip keeps a frame.
    assert counts(share_frames(real(8), real(1), 2, "dynamic")) == [[1], [1]]


def test_a_static_budget_is_split_in_halves():
    masks = share_frames(real(6, 1, 8), real(2, 8, 8), 4, "static")
    assert counts(masks) == [[2, 1, 2], [2, 2, 2]]


def test_frames_are_thinned_evenly_and_among_the_real_ones():
    mask = torch.tensor([[True, False, True, True, True, True, True, False]])
    first, _ = share_frames(mask, real(1), 4, "static")
    assert not (first & ~mask).any()
    # Six real frames, two kept: the middles of the halves.
    assert first.nonzero()[:, 1].tolist() == [2, 5]
    many = share_frames(real(8), real(8), 8, "dynamic")[0]
    assert many.nonzero()[:, 1].tolist() == [0, 2, 4, 6]


def test_a_budget_never_drops_every_frame_nor_exceeds_itself():
    for ours in range(1, 9):
        for theirs in range(1, 9):
            for budget in range(2, 17):
                for split in ("dynamic", "static"):
                    first, second = (
                        int(m.sum()) for m in share_frames(real(ours), real(theirs), budget, split)
                    )
                    assert first >= 1
                    assert second >= 1
                    assert first + second <= budget
                    assert first <= ours
                    assert second <= theirs
                    if split == "dynamic":
                        assert first + second == min(budget, ours + theirs)


def test_frames_beyond_the_budget_are_not_read():
    model, pairs = make(frame_budget=2), random_pairs(4)
    shake(model)
    masks = share_frames(pairs.query.frame_mask, pairs.candidate.frame_mask, 2, "dynamic")
    blind = [
        dataclasses.replace(side, frames=torch.where(mask[..., None, None, None], side.frames, 0))
        for side, mask in zip((pairs.query, pairs.candidate), masks, strict=True)
    ]
    assert torch.equal(model(pairs).logits, model(PairBatch(pairs.ids, *blind)).logits)


def test_a_saved_teacher_comes_back(tmp_path):
    tokenizer = LetterTokenizer("yes", "no")
    teacher = make(
        read_out="yes_no",
        layout="ab {video_1} {audio_1} {video_2} {audio_2} {text_2} c",
        tokenizer=tokenizer,
        frame_budget=4,
        frame_split="static",
    )
    shake(teacher)
    teacher.save_pretrained(tmp_path)
    again = MatchLM.from_pretrained(tmp_path)
    pairs = random_pairs(3)
    ours, theirs = teacher(pairs), again(pairs)
    assert torch.equal(ours.logits, theirs.logits)
    assert torch.equal(ours.sub_logits, theirs.sub_logits)
    assert again.config == teacher.config


def test_merging_gives_the_same_logits():
    teacher, pairs = make(), random_pairs(3)
    shake(teacher)
    want = teacher(pairs).logits
    teacher.merge_lora()
    torch.testing.assert_close(teacher(pairs).logits, want, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"frame_split": "fair"}, "frame_split 'fair' is unknown"),
        ({"frame_budget": 1}, "frame_budget is for both clips of a pair, got 1"),
        ({"layout": "{video} {audio}"}, "has one clip, MatchLM takes two"),
    ],
)
def test_what_cannot_be_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        make(**options)


NAMED = ("{text_1:title|ab} {text_1:words} {text_2:title} {text_2:words|c} "
         "{video_1} {audio_1} {video_2} {audio_2}")  # fmt: skip
FIELDS = ("title", "words")


def with_fields(pairs):
    """The same pairs with two fields per clip; the second field of the first clip is empty."""

    def more(batch, seed):
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(2, 40, (len(batch), 2, 3), generator=generator)
        mask = torch.ones(ids.shape, dtype=torch.bool)
        mask[0, 1] = False
        return dataclasses.replace(batch, field_ids=ids, field_mask=mask)

    return PairBatch(pairs.ids, more(pairs.query, 3), more(pairs.candidate, 4))


def test_texts_one_by_one(tmp_path):
    model = make(layout=NAMED, text_fields=FIELDS, tokenizer=LetterTokenizer())
    shake(model)
    pairs = with_fields(random_pairs(3))
    given = model(pairs).logits
    for side in ("query", "candidate"):
        for field in (0, 1):
            batch = getattr(pairs, side)
            ids = batch.field_ids.clone()
            ids[:, field] = (ids[:, field] + 7) % 40
            other = dataclasses.replace(pairs, **{side: dataclasses.replace(batch, field_ids=ids)})
            changed = model(other).logits != given
            assert changed.tolist() == [field == 0, True, True]  # the first has no second field
    model.save_pretrained(tmp_path / "model")
    again = MatchLM.from_pretrained(tmp_path / "model")
    assert torch.equal(again(pairs).logits, given) and again.config["prompt"]["fields"] == FIELDS


def test_slots_of_fields_need_the_fields():
    with pytest.raises(ValueError, match=r"slots for the text fields \['title', 'words'\]"):
        make(layout=NAMED, tokenizer=LetterTokenizer())
    model = make(layout=NAMED, text_fields=FIELDS, tokenizer=LetterTokenizer())
    with pytest.raises(ValueError, match="separate_text=true"):
        model(random_pairs(2))


def test_single_clips_are_refused():
    with pytest.raises(ValueError, match="MatchLM judges pairs and got a batch of single clips"):
        make()(random_pairs(2).query)


def test_a_dynamic_budget_follows_the_durations_not_the_frames():
    # Uniform sampling: eight frames of each, however long. 6 s : 2 s of 8 frames is 6 : 2.
    seconds = torch.tensor([6.0, 2.0, 3.0]), torch.tensor([2.0, 6.0, 3.0])
    full = real(8, 8, 8)
    assert counts(share_frames(full, full, 8, "dynamic", seconds)) == [[6, 2, 4], [2, 6, 4]]
    assert counts(share_frames(full, full, 8, "static", seconds)) == [[4, 4, 4]] * 2
    # What a clip has no frames for, the other one takes; within the budget all is read.
    assert counts(share_frames(real(2, 8), real(8, 3), 8, "dynamic", (seconds[0][:1],) * 2)) == [
        [2, 5], [6, 3],
    ]  # fmt: skip
    assert counts(share_frames(full, full, 16, "dynamic", seconds)) == [[8] * 3] * 2


def test_clips_of_different_lengths_share_frames_by_them():
    dynamic, static = (make(frame_budget=4, frame_split=s) for s in ("dynamic", "static"))
    shake(dynamic)
    static.load_state_dict(dynamic.state_dict())
    pairs = random_pairs(3)
    full = torch.ones(3, 4, dtype=torch.bool)

    def lasting(ours, theirs):
        return PairBatch(pairs.ids, *(
            dataclasses.replace(side, frame_mask=full, seconds=torch.tensor(seconds))
            for side, seconds in ((pairs.query, ours), (pairs.candidate, theirs))
        ))  # fmt: skip

    equal, unequal = lasting([2.0] * 3, [2.0] * 3), lasting([6.0] * 3, [2.0] * 3)
    assert torch.equal(dynamic(equal).logits, static(equal).logits)
    assert not torch.isclose(dynamic(unequal).logits, static(unequal).logits).any()
    assert torch.equal(static(equal).logits, static(unequal).logits)
