import dataclasses

import pytest
import torch
from small_matchlite import TEXT, published_encoders, small_encoders
from transformers import WhisperConfig, WhisperModel

from coefvq.modules.clip_checkpoints import ClipCheckpoints
from coefvq.modules.clip_encoders import ClipEncoder


@pytest.fixture
def folders(tmp_path):
    """Folders as transformers writes them: a Swin, a BERT and a whole Whisper."""
    torch.manual_seed(5)
    source = ClipEncoder(published_encoders())
    source.vision.swin.save_pretrained(tmp_path / "swin")
    source.text.bert.save_pretrained(tmp_path / "bert")
    shape = WhisperConfig(
        num_mel_bins=8,
        d_model=16,
        encoder_layers=2,
        encoder_attention_heads=2,
        encoder_ffn_dim=32,
        max_source_positions=16,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=16,
        vocab_size=30,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    whisper = WhisperModel(shape)
    whisper.save_pretrained(tmp_path / "whisper")
    return source, whisper, {
        "vision": str(tmp_path / "swin"),
        "text": str(tmp_path / "bert"),
        "audio": str(tmp_path / "whisper"),
    }  # fmt: skip


def equal(left, right):
    left, right = left.state_dict(), right.state_dict()
    return all(torch.equal(value, right[name]) for name, value in left.items())


def test_all_weights_arrive(folders):
    source, whisper, paths = folders
    torch.manual_seed(6)
    model = ClipEncoder(published_encoders())
    assert not equal(model.vision, source.vision)
    reports = ClipCheckpoints(**paths).load_into(model)
    assert [report.source for report in reports] == list(paths.values())
    assert all(not report.unused for report in reports)
    assert equal(model.vision, source.vision) and equal(model.text, source.text)
    assert equal(model.audio.encoder, whisper.encoder)
    assert not any(p.requires_grad for p in model.parameters())


def test_modalities_that_are_not_read_are_left_alone(folders):
    _, _, paths = folders
    model = ClipEncoder(published_encoders(), "V")
    assert len(ClipCheckpoints(**paths).load_into(model)) == 1


def test_another_architecture_is_refused(folders):
    _, _, paths = folders
    wide = ClipEncoder(published_encoders(text=dataclasses.replace(TEXT, vocab_size=50)))
    before = {name: value.clone() for name, value in wide.text.state_dict().items()}
    with pytest.raises(ValueError, match=r"word_embeddings.weight has shape \(40, 16\)"):
        ClipCheckpoints(text=paths["text"]).load_into(wide)
    assert all(torch.equal(value, before[name]) for name, value in wide.text.state_dict().items())
    shallow = published_encoders()
    shallow = ClipEncoder(
        dataclasses.replace(shallow, audio=dataclasses.replace(shallow.audio, layers=1))
    )
    with pytest.raises(ValueError, match="has more layers than the model"):
        ClipCheckpoints(audio=paths["audio"]).load_into(shallow)
    small = ClipEncoder(small_encoders())
    with pytest.raises(ValueError, match="holds a Swin, the model's vision is a ConvEncoder"):
        ClipCheckpoints(vision=paths["vision"]).load_into(small)
    with pytest.raises(ValueError, match="holds a Whisper, the model's audio is a SoundEncoder"):
        ClipCheckpoints(audio=paths["audio"]).load_into(small)
