import torch
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertLayer

from coefvq.modules.checkpoints import BERT_LAYER
from coefvq.modules.cross_modal import CrossModalEncoder, CrossModalLayer


def renamed(bert_layer):
    weights = {}
    for name, value in bert_layer.state_dict().items():
        part = next(part for part in BERT_LAYER if name.startswith(part))
        weights[BERT_LAYER[part] + name.removeprefix(part)] = value
    return weights


def test_equals_a_bert_decoder_layer_with_its_causality_taken_away():
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=12,
        num_attention_heads=3,
        intermediate_size=20,
        is_decoder=True,
        add_cross_attention=True,
        attn_implementation="eager",
    )
    theirs = BertLayer(config).eval()
    ours = CrossModalLayer(12, 12, 3, 20, dropout=0.1).eval()
    assert not any(ours.load_state_dict(renamed(theirs)))
    x, memory = torch.randn(2, 5, 12), torch.randn(2, 7, 12)
    text_mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    memory_mask = torch.tensor([[True] * 4 + [False] * 3, [True] * 7])

    def additive(mask):
        return torch.zeros(2, 1, 1, mask.shape[1]).masked_fill(~mask[:, None, None], -1e9)

    expected = theirs(x, additive(text_mask), memory, additive(memory_mask))
    expected = expected[0] if isinstance(expected, tuple) else expected
    torch.testing.assert_close(ours(x, memory, text_mask, memory_mask), expected)


def test_what_lies_under_the_masks_is_not_read():
    torch.manual_seed(0)
    encoder = CrossModalEncoder(
        layers=2, width=8, memory_width=6, heads=2, feedforward=16, dropout=0.0
    )
    x, memory = torch.randn(2, 5, 8), torch.randn(2, 4, 6)
    text_mask = torch.tensor([[True] * 3 + [False] * 2] * 2)
    memory_mask = torch.tensor([[True, True, False, False]] * 2)
    before = encoder(x, memory, text_mask, memory_mask)[:, :3]
    x[:, 3:], memory[:, 2:] = 100.0, -100.0
    torch.testing.assert_close(before, encoder(x, memory, text_mask, memory_mask)[:, :3])
    torch.testing.assert_close(before, encoder(x[:, :3], memory[:, :2]))
    memory[:, 1] += 1.0
    assert not torch.allclose(before, encoder(x, memory, text_mask, memory_mask)[:, :3])


def test_dropout_is_for_training():
    encoder = CrossModalEncoder(
        layers=1, width=8, memory_width=8, heads=2, feedforward=8, dropout=0.5
    )
    x = torch.randn(2, 5, 8)
    assert not torch.equal(encoder(x, x), encoder(x, x))
    assert torch.equal(encoder.eval()(x, x), encoder(x, x))
