"""The language model along a tree: one pass equals many, padding and batch don't matter."""

import pytest
import torch
from transformers import BertConfig, GPT2Config, GPT2LMHeadModel, Qwen2Config, Qwen2ForCausalLM

from coefvq.modules.mllm.answers import AnswerTree
from coefvq.modules.mllm.language import LanguageConfig, LanguageModel

SMALL = LanguageConfig(
    vocab_size=30, width=16, layers=2, heads=4, key_value_heads=2, feedforward=32
)
ANSWERS = [[5], [5, 7], [5, 7, 2], [8, 1], [8, 3]]
TREE = AnswerTree(ANSWERS, 0)


def make(config=SMALL, seed=0):
    torch.manual_seed(seed)
    return LanguageModel(config).eval()


def questions(*lengths, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, 16, generator=generator) for n in lengths]


def plain(model, question, tokens):
    """Logits and state after a question and some tokens, in a pass of their own."""
    ids = torch.tensor(tokens, dtype=torch.long)
    sequence = torch.cat([question, model.model.get_input_embeddings()(ids)])
    hidden = model.language(inputs_embeds=sequence[None], use_cache=False).last_hidden_state[0, -1]
    return hidden, model.model.get_output_embeddings()(hidden)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "eager"])
def test_one_pass_along_the_tree_equals_a_pass_per_fork(kind, tmp_path):
    model = make()
    if kind == "qwen2":
        Qwen2ForCausalLM(
            Qwen2Config(vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=4,
                        num_key_value_heads=2, intermediate_size=32)
        ).save_pretrained(tmp_path)  # fmt: skip
        model = LanguageModel(LanguageConfig(model_name_or_path=str(tmp_path))).eval()
    if kind == "eager":
        model.model.set_attn_implementation("eager")
    asked = questions(3, 7, 5)
    states, logits = model(asked, TREE)
    prefixes = [(), (5,), (8,), (5, 7)]
    assert len(prefixes) == len(TREE.forks)
    order = [prefixes[0], *sorted(prefixes[1:], key=_order)]
    for row, question in enumerate(asked):
        torch.testing.assert_close(states[row], plain(model, question, ())[0], rtol=1e-4, atol=1e-5)
        for fork, prefix in enumerate(order):
            want = plain(model, question, prefix)[1][list(TREE.choices)]
            torch.testing.assert_close(logits[row, fork], want, rtol=1e-4, atol=1e-5)


def _order(prefix):
    """Nodes are made answer by answer."""
    return next(
        i * 10 + len(prefix) for i, a in enumerate(ANSWERS) if a[: len(prefix)] == list(prefix)
    )


def test_a_question_is_answered_the_same_in_any_batch():
    model, asked = make(), questions(3, 9, 1)
    together = model(asked, TREE)[1]
    for row, question in enumerate(asked):
        torch.testing.assert_close(
            model([question], TREE)[1][0], together[row], rtol=1e-4, atol=1e-5
        )


def test_the_vocabulary_is_never_laid_out(monkeypatch):
    model = make()
    monkeypatch.setattr(model.model, "forward", lambda *a, **k: pytest.fail("the head was called"))
    assert model(questions(4), TREE)[1].shape == (1, 4, len(TREE.choices))


def test_folders_and_configs(tmp_path):
    model = make()
    model.model.save_pretrained(tmp_path)
    again = LanguageModel(LanguageConfig(model_name_or_path=str(tmp_path))).eval()
    assert torch.equal(again(questions(4), TREE)[1], model(questions(4), TREE)[1])
    assert again.config == model.config and again.config.model_name_or_path is None
    rebuilt = LanguageModel(model.config)
    rebuilt.model.load_state_dict(model.model.state_dict())
    assert torch.equal(rebuilt.eval()(questions(4), TREE)[1], model(questions(4), TREE)[1])


def test_refusals(tmp_path):
    BertConfig().save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match="could not be opened as a causal language model"):
        LanguageModel(LanguageConfig(model_name_or_path=str(tmp_path / "bert")))
    GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=9)).save_pretrained(
        tmp_path / "gpt2"
    )
    with pytest.raises(ValueError, match=r"has no layers at model\.layers"):
        LanguageModel(LanguageConfig(model_name_or_path=str(tmp_path / "gpt2")))
    with pytest.raises(ValueError, match="dtype 'int8' is unknown"):
        LanguageConfig(dtype="int8")
