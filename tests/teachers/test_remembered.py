import torch
from toys import ToyTeacher, toy_batches

from coefvq.teachers.remembered import RememberedTeacher


class Counting:
    calls = 0

    def __call__(self, batch):
        self.calls += 1
        return ToyTeacher()(batch)


def test_it_asks_once_and_answers_alike():
    counting = Counting()
    teacher = RememberedTeacher(counting)
    batches = toy_batches()
    first = [teacher(batch).logits for batch in batches]
    again = [teacher(batch).logits for batch in batches]
    assert counting.calls == len(batches) == 2
    for batch, one, two in zip(batches, first, again, strict=True):
        assert torch.equal(one, two) and torch.equal(one, ToyTeacher()(batch).logits)


def test_answers_belong_to_clips_not_to_places():
    counting = Counting()
    teacher = RememberedTeacher(counting)
    for batch in toy_batches(batch_size=8):
        teacher(batch)
    shuffled = toy_batches(batch_size=16)[0]
    assert torch.equal(teacher(shuffled).logits, ToyTeacher()(shuffled).logits)
    assert counting.calls == 2
