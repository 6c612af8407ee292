import dataclasses
import pickle

import pytest
import torch
from small_matchlite import published_encoders, random_pairs, small_matchlite
from small_models import random_batch

from coefvq.modules.clip_encoders import ClipEncoder
from coefvq.students import feature_store
from coefvq.students.feature_store import FeatureStore, encoder_fingerprint


def encoder(seed=0, **changes):
    torch.manual_seed(seed)
    return ClipEncoder(published_encoders(**changes)).eval()


def same(left, right):
    pairs = [(getattr(left, f.name), getattr(right, f.name)) for f in dataclasses.fields(left)]
    return all(a is b is None or torch.equal(a, b) for a, b in pairs)


def counted(model, monkeypatch):
    """Count the clips that an encoder is asked for."""
    calls = []
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda batch: calls.extend(batch.ids) or forward(batch))
    return calls


def test_what_comes_back_is_what_was_computed_to_the_bit(tmp_path):
    model, batch = encoder(), random_batch(4)
    store = FeatureStore(tmp_path, model)
    computed = model(batch)
    assert same(store.encode(model, batch), computed)  # before it is written
    store.flush()
    again = FeatureStore(tmp_path, model)
    assert len(again) == 4 and "clip2" in again and "clip9" not in again
    assert same(again.gather(batch.ids), computed)
    order = [2, 0, 2, 1]
    assert same(again.gather([batch.ids[i] for i in order]), computed[torch.tensor(order)])


def test_clips_are_encoded_once(tmp_path, monkeypatch):
    model, batch = encoder(), random_batch(4)
    calls = counted(model, monkeypatch)
    store = FeatureStore(tmp_path, model)
    part = batch._map(lambda tensor: tensor[1:3])
    store.encode(model, dataclasses.replace(part, ids=batch.ids[1:3]))
    store.encode(model, batch)
    store.encode(model, batch)
    assert calls == ["clip1", "clip2", "clip0", "clip3"]
    assert store.fill(model, [batch]) == 0
    assert FeatureStore(tmp_path, model).fill(model, [batch]) == 0 and len(calls) == 4


def test_filling_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_store, "SHARD_CLIPS", 2)
    model, batch = encoder(), random_batch(5)

    def clips(rows):
        part = batch._map(lambda tensor: tensor[rows])
        return dataclasses.replace(part, ids=batch.ids[rows])

    def interrupted():
        yield clips(slice(0, 3))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FeatureStore(tmp_path, model).fill(model, interrupted())
    calls = counted(model, monkeypatch)
    store = FeatureStore(tmp_path, model)
    assert store.fill(model, [clips(slice(0, 3)), clips(slice(3, 5))]) == 2
    assert calls == ["clip3", "clip4"]
    assert len(list(store.folder.glob("shard-*"))) == 2
    assert same(store.gather(batch.ids), model(batch))


def test_half_written_and_damaged_shards_are_not_read(tmp_path):
    model, batch = encoder(), random_batch(3)
    store = FeatureStore(tmp_path, model)
    store.fill(model, [batch])
    (shard,) = store.folder.glob("shard-*")
    shard.rename(shard.with_name("draft-1"))
    assert len(FeatureStore(tmp_path, model)) == 0
    shard.with_name("draft-1").rename(shard)
    (shard / "text.npy").rename(tmp_path / "text.npy")
    assert len(FeatureStore(tmp_path, model)) == 0
    (tmp_path / "text.npy").rename(shard / "text.npy")
    assert len(FeatureStore(tmp_path, model)) == 3
    (shard / "audio.npy").write_bytes(b"")
    assert len(FeatureStore(tmp_path, model)) == 0
    assert FeatureStore(tmp_path, model).fill(model, [batch]) == 3


def test_a_store_is_of_one_encoder_and_one_reading(tmp_path):
    model, batch = encoder(), random_batch(2)
    FeatureStore(tmp_path, model).fill(model, [batch])
    other = encoder(seed=1)
    assert len(FeatureStore(tmp_path, other)) == 0
    assert len(FeatureStore(tmp_path, model, reading="8 frames")) == 0
    assert len(FeatureStore(tmp_path, encoder(tokens=6))) == 0
    assert len(FeatureStore(tmp_path, encoder())) == 2
    with pytest.raises(ValueError, match=r"with fingerprint [0-9a-f]{32}, the model's has"):
        FeatureStore(tmp_path, model).fill(other, [batch])
    with torch.no_grad():
        model.text.bert.embeddings.word_embeddings.weight[3, 3] += 1e-6
    assert encoder_fingerprint(model) != encoder_fingerprint(encoder())


def test_half_precision_on_request(tmp_path):
    model, batch = encoder(), random_batch(3)
    store = FeatureStore(tmp_path, model, dtype="float16")
    pending = store.encode(model, batch)
    store.flush()
    stored = FeatureStore(tmp_path, model, dtype="float16").gather(batch.ids)
    assert same(stored, pending) and stored.video.dtype == torch.float32
    torch.testing.assert_close(stored.video, model(batch).video, rtol=2**-11, atol=1e-6)
    assert not same(stored, model(batch))
    with pytest.raises(ValueError, match="dtype 'int8' is unknown"):
        FeatureStore(tmp_path, model, dtype="int8")


def test_a_model_uses_its_store(tmp_path, monkeypatch):
    pairs = random_pairs(3)
    model = small_matchlite(encoders=published_encoders()).train()
    plain = model(pairs).logits
    model.use_store(FeatureStore(tmp_path, model.encoder))
    calls = counted(model.encoder, monkeypatch)
    for _ in range(2):
        assert torch.equal(model(pairs).logits, plain)
    assert sorted(calls) == sorted(pairs.query.ids + pairs.candidate.ids)
    model.use_store(None)
    model(pairs)
    assert len(calls) == 12


def test_other_weights_do_not_meet_the_old_features(tmp_path):
    model = small_matchlite(encoders=published_encoders())
    model.use_store(FeatureStore(tmp_path / "store", model.encoder))
    same_encoder = model.save_pretrained(tmp_path / "same")
    model.load_pretrained(same_encoder)
    with torch.no_grad():
        model.encoder.vision.swin.layernorm.bias += 1
    other = model.save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="make a store for this encoder"):
        model.load_pretrained(other)


def test_trained_encoders_have_no_store(tmp_path):
    model = small_matchlite()
    with pytest.raises(ValueError, match="go out of date"):
        FeatureStore(tmp_path, model.encoder)
    with pytest.raises(ValueError, match="go out of date"):
        model.use_store(FeatureStore(tmp_path, encoder()))


def test_worker_processes_map_their_own(tmp_path):
    model, batch = encoder(), random_batch(2)
    store = FeatureStore(tmp_path, model)
    store.fill(model, [batch])
    store.gather(batch.ids)
    assert same(pickle.loads(pickle.dumps(store)).gather(batch.ids), model(batch))
