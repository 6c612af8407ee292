import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import lightning
import pytest
import torch

from coefvq.data.media import UnreadableClip
from coefvq.data.pairs import pair_data
from coefvq.data.pairs.datamodule import PairDataModule
from coefvq.pairs import PairBatch
from coefvq.types import Batch, InputSpec

SMALL = {"num_frames": 2, "frame_size": 16, "audio_seconds": 0.5, "mel_bins": 8, "batch_size": 4}


@pytest.fixture
def make(write_manifest, pair_rows, pair_options):
    def build(rows=pair_rows, **options):
        return pair_data(write_manifest(rows, "pairs.csv"), **(SMALL | pair_options | options))

    return build


def test_everything_is_there_after_prepare(make):
    data = make()
    data.prepare()
    assert data.task.kind == "binary" and data.sub_labels == ("crop", "flip")
    assert data.num_privileged == 0 and data.privileged_names == () and data.normalizer is None
    assert data.vocab_size == len(data.tokenizer) > 5 and len(data.fingerprint) == 32
    assert {s: len(pairs) for s, pairs in data.splits.items()} == {"train": 6, "val": 2, "test": 2}
    (batch,) = data.train_dataloader()  # the short rest is dropped
    assert isinstance(batch, PairBatch) and len(batch) == 4
    for side in (batch.query, batch.candidate):
        assert side.frames.shape == (4, 2, 3, 16, 16) and side.frames.dtype == torch.uint8
        assert side.audio.shape == (4, 8, 50) and side.input_ids.shape == (4, 16)
    (batch,) = data.test_dataloader()
    assert batch.ids == tuple(pair.id for pair in data.splits["test"])
    assert batch.labels.tolist() == [0, 1]
    report = data.describe()
    assert json.loads(json.dumps(report)) == report
    assert report["splits"]["train"] == {
        "pairs": 6, "clips": 6, "labelled": 4, "prevalence": 0.5,
        "sub_labels": {"crop": 2, "flip": 0},
    }  # fmt: skip


def test_labelled_pairs_only(make):
    data = make(train_on="labelled", batch_size=6)
    data.prepare()
    (batch,) = data.train_dataloader()
    assert len(batch) == 4 and batch.label_mask.all()
    everything = make(batch_size=6)
    everything.prepare()
    (batch,) = everything.labelled_dataloader()
    assert sorted(batch.ids) == ["c0+c1", "c1+c2", "c2+c3", "c3+c4"]
    (batch,) = everything.labelled_dataloader(exclude={"c0+c1"})
    assert len(batch) == 3
    with pytest.raises(ValueError, match="no labelled training pair is left"):
        everything.labelled_dataloader(exclude={"c0+c1", "c1+c2", "c2+c3", "c3+c4"})
    assert everything.fingerprint == data.fingerprint
    mixed = make(labelled_per_batch=2)
    mixed.prepare()
    assert all(int(batch.label_mask.sum()) == 2 for batch in mixed.train_dataloader())


def test_the_order_depends_on_seed_and_epoch_only(make):
    def order(epoch, **options):
        data = make(batch_size=6, **options)
        data.prepare()
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)
        return next(iter(loader)).ids

    assert order(0) == order(0) and order(3) == order(3, cache_frames=False)
    assert order(0) != order(1) and order(0) != order(0, seed=2)


def test_each_clip_is_decoded_once(make, monkeypatch):
    from coefvq.data import decoding

    read = []
    real = decoding.open_clip
    monkeypatch.setattr(decoding, "open_clip", lambda p, *a: read.append(p) or real(p, *a))
    data = make()
    data.prepare()
    assert len(read) == len(set(read)) == 12
    again = make()
    again.prepare()
    assert len(read) == 12


def test_without_a_cache_the_batches_are_the_same(make, tmp_path):
    cached, live = make(), make(cache_frames=False, cache_dir=str(tmp_path / "other"))
    for data in (cached, live):
        data.prepare()
    assert not (tmp_path / "other" / "frames").exists()
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        for a, b in zip(getattr(cached, name)(), getattr(live, name)(), strict=True):
            assert a.ids == b.ids and torch.equal(a.labels, b.labels)
            assert torch.equal(a.query.frames, b.query.frames)
            assert torch.equal(a.candidate.audio, b.candidate.audio)


def test_clips_once_for_a_cache_of_features(make):
    data = make(train_sampling="random_segments")
    data.prepare()
    batches = list(data.clip_dataloader(batch_size=5))
    assert all(isinstance(batch, Batch) for batch in batches)
    ids = [name for batch in batches for name in batch.ids]
    assert len(ids) == len(set(ids)) == 12
    assert all(view.startswith("uniform") for batch in batches for view in batch.views)
    assert len(data.clip_dataset("val")) == 3


def test_whole_split(make):
    data = make(train_sampling="random_segments")
    data.prepare()
    assert data.whole_split("train")[0].views is None  # drawn anew
    still = data.whole_split("train", sampling="uniform")
    assert len(still) == 6 and torch.equal(still[0].query.frames, still[0].query.frames)
    assert still[0].views is not None and still.view_names(still.ids) == tuple(
        still.__getitems__(range(len(still))).views
    )
    assert still[0].query.views == data.whole_split("val")[0].query.views


def test_bad_clips(make, clip_rows, write_manifest, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    clip_rows[1]["path"] = str(tmp_path / "bad.mp4")
    options = {"clips": write_manifest(clip_rows, "bad.csv"), "allow_outside_root": True}
    with pytest.raises(UnreadableClip, match="1 of 12 clips cannot be read"):
        make(**options).prepare()
    data = make(on_bad_clip="skip", **options)
    data.prepare()
    assert [bad.id for bad in data.bad_clips] == ["c1"]
    assert len(data.splits["train"]) == 4  # c1 was in two pairs
    assert data.describe()["skipped"][0]["id"] == "c1"
    assert len(data.clip_dataset()) == 11


def test_a_split_of_bad_clips_ends_the_run(make, clip_rows, write_manifest):
    for number in (6, 7, 8):
        clip_rows[number]["path"] = "gone.mp4"
    with pytest.raises(ValueError, match=r"no val pair is left \(3 unreadable clips"):
        make(on_bad_clip="skip", clips=write_manifest(clip_rows, "bad.csv")).prepare()


def test_prepare_happens_once(make, monkeypatch):
    data = make()
    data.prepare()
    monkeypatch.setattr(data.source, "load", lambda: pytest.fail("loaded again"))
    data.prepare()
    data.prepare_data()
    data.setup("fit")


def test_wrong_words(make):
    with pytest.raises(ValueError, match="train_on 'some' is unknown"):
        make(train_on="some")
    with pytest.raises(ValueError, match="on_bad_clip 'ignore' is unknown"):
        make(on_bad_clip="ignore")
    with pytest.raises(ValueError, match=r"data.batch_size must be a whole number of at least 1"):
        make(batch_size=0)
    with pytest.raises(ValueError, match="sampling 'best' is unknown"):
        PairDataModule(None, dataclasses.replace(InputSpec(), sampling="best"))


def test_impossible_sizes(make):
    for name in ("frame_size", "num_frames", "batch_size", "eval_batch_size"):
        with pytest.raises(ValueError, match=f"data.{name} must be a whole number of at least 1"):
            make(**{name: 0})


def test_all_texts_are_read_joined_and_one_by_one(make, clip_rows, write_manifest, caplog):
    for row in clip_rows:
        row["subtitles"] = f"words of {row['id']}"
    options = {"clips": write_manifest(clip_rows, "texts.csv"), "text": ["title", "subtitles"],
               "max_text_length": 12}  # fmt: skip
    data = make(**options)
    data.prepare()
    batch = next(iter(data.val_dataloader()))
    for side in (batch.query, batch.candidate):
        said = [data.tokenizer.decode(ids, skip_special_tokens=False) for ids in side.input_ids]
        for name, text in zip(side.ids, said, strict=True):
            number = int(name[1:])
            assert text.startswith(f"[CLS] about thing {number % 3} [SEP] words of c {number}"[:30])
    assert side.field_ids is None and "cut" not in caplog.text
    single = make(**options, separate_text=True)
    single.prepare()
    assert next(iter(single.val_dataloader())).query.field_ids.shape[:2] == (2, 2)
    make(**options | {"max_text_length": 5}).prepare()
    assert "training clips (title, subtitles, joined) are longer than data.max" in caplog.text


def test_lightning_trains_on_it(make):
    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))
            self.seen = []

        def training_step(self, batch, batch_idx):
            assert isinstance(batch, PairBatch)
            self.seen.append(batch.ids)
            return (self.weight * batch.query.frames.float().mean()).square()

        def validation_step(self, batch, batch_idx):
            assert isinstance(batch, PairBatch)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    model = Model()
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, datamodule=make())
    assert len(model.seen) == 2 and model.seen[0] != model.seen[1]


def test_worker_processes_give_the_same_batches(make):
    here, there = make(), make(num_workers=1)
    for data in (here, there):
        data.prepare()
    for a, b in zip(here.train_dataloader(), there.train_dataloader(), strict=True):
        assert a.ids == b.ids and torch.equal(a.query.frames, b.query.frames)


SCRIPT = """
import json, os, sys
sys.path[:0] = [{here!r}]
import lightning, torch
from coefvq.data.pairs import pair_data

class Model(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = dict(train=[], val=[])
    def training_step(self, batch, batch_idx):
        self.seen["train"].append([self.current_epoch, list(batch.ids)])
        return (self.weight * batch.query.frames.float().mean()).square()
    def validation_step(self, batch, batch_idx):
        kept = [n for n, counts in zip(batch.ids, batch.label_mask.tolist()) if counts]
        self.seen["val"].append([self.current_epoch, len(batch), kept])
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    data = pair_data(options.pop("table"), **options)
    data.prepare()
    trainer = lightning.Trainer(accelerator="cpu", devices=2, strategy="ddp", max_epochs=2,
        logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=sys.argv[2], num_sanity_val_steps=0)
    model = Model()
    trainer.fit(model, data.train_dataloader(), data.val_dataloader())
    assert torch.distributed.get_backend() == "gloo"
    with open(f"{{sys.argv[2]}}/seen{{trainer.global_rank}}.json", "w") as file:
        json.dump(model.seen, file)
"""


@pytest.mark.slow
@pytest.mark.distributed
def test_two_gloo_processes(write_manifest, pair_rows, pair_options, tmp_path):
    script, options = tmp_path / "fit.py", {name: str(v) for name, v in pair_options.items()}
    script.write_text(SCRIPT.format(here=str(Path(__file__).parents[3])))
    rows = [*pair_rows, {**pair_rows[7], "query": "c6", "candidate": "c7", "label": 0}]  # 3 of val
    options |= {
        "table": str(write_manifest(rows, "pairs.csv")),
        "num_frames": 2,
        "mel_bins": 8,
        "frame_size": 16,
        "audio_seconds": 0.5,
        "batch_size": 3,
        "eval_batch_size": 1,
    }
    subprocess.run(
        [sys.executable, str(script), json.dumps(options), str(tmp_path)],
        check=True, capture_output=True, timeout=240,
    )  # fmt: skip
    seen = [json.loads((tmp_path / f"seen{rank}.json").read_text()) for rank in (0, 1)]
    for epoch in (0, 1):
        shown = [n for one in seen for at, ids in one["train"] if at == epoch for n in ids]
        assert len(shown) == len(set(shown)) == 6
        sizes = [[size for at, size, _ in one["val"] if at == epoch] for one in seen]
        assert sizes[0] == sizes[1]
        counted = [n for one in seen for at, _, ids in one["val"] if at == epoch for n in ids]
        assert sorted(counted) == sorted(["c6+c8", "c7+c8", "c6+c7"])
    orders = [[ids for at, ids in seen[0]["train"] if at == epoch] for epoch in (0, 1)]
    assert orders[0] != orders[1]
