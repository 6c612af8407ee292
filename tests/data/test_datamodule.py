import json
import os

import lightning
import pytest
import torch

from coefvq.data.datamodule import ClipDataModule
from coefvq.data.manifest import Manifest, ManifestError
from coefvq.data.manifest_data import manifest_data
from coefvq.data.media import UnreadableClip
from coefvq.types import Batch, Clip, InputSpec, TaskSpec

SMALL = {"num_frames": 2, "frame_size": 16, "audio_seconds": 0.5, "mel_bins": 8, "batch_size": 4}


@pytest.fixture
def make(write_manifest, rows, clip_files, tmp_path):
    def build(rows=rows, **options):
        options = {**SMALL, "root": str(clip_files), "cache_dir": str(tmp_path / "home")} | options
        return manifest_data(str(write_manifest(rows)), **options)

    return build


def test_everything_is_there_after_prepare(make):
    data = make(privileged="dense_*", log1p="dense_b", group="group")
    data.prepare()
    assert data.task == TaskSpec("label", "binary", ("0", "1"))
    assert data.privileged_names == ("dense_a", "dense_b") and data.num_privileged == 2
    assert data.vocab_size == len(data.tokenizer) > 5
    assert {split: len(clips) for split, clips in data.splits.items()} == {
        "train": 8, "val": 2, "test": 2
    }  # fmt: skip
    assert data.bad_clips == [] and len(data.fingerprint) == 32
    (batch, other) = data.train_dataloader()
    assert isinstance(batch, Batch) and len(batch) == len(other) == 4
    assert batch.frames.shape == (4, 2, 3, 16, 16) and batch.frames.dtype == torch.uint8
    assert batch.audio.shape == (4, 8, 50) and batch.input_ids.shape == (4, 16)
    assert batch.privileged.shape == batch.privileged_mask.shape == (4, 2)
    report = data.describe()
    assert json.loads(json.dumps(report)) == report
    assert report["splits"]["train"] == {
        "clips": 8, "labelled": 6, "classes": {"0": 3, "1": 3}, "prevalence": 0.5
    }  # fmt: skip
    assert report["skipped"] == []


def test_prepare_happens_once(make, monkeypatch):
    data = make()
    data.prepare()
    monkeypatch.setattr(data.source, "load", lambda: pytest.fail("loaded again"))
    data.prepare()
    data.prepare_data()
    data.setup("fit")


def test_labelled_clips_only(make):
    data = make(train_on="labelled", batch_size=6)
    data.prepare()
    (batch,) = data.train_dataloader()
    assert batch.label_mask.all() and len(batch) == 6
    everything = make(batch_size=6)
    everything.prepare()
    (batch,) = everything.labelled_dataloader()
    assert sorted(batch.ids) == ["c0", "c1", "c2", "c3", "c4", "c5"]
    assert everything.fingerprint == data.fingerprint  # the same data, used differently
    mixed = make(labelled_per_batch=3)
    mixed.prepare()
    assert all(int(batch.label_mask.sum()) == 3 for batch in mixed.train_dataloader())


def test_without_a_cache_the_batches_are_the_same(make, tmp_path):
    cached, live = make(), make(cache_frames=False, cache_dir=str(tmp_path / "other"))
    for data in (cached, live):
        data.prepare()
    assert not (tmp_path / "other" / "frames").exists()
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        for first, second in zip(getattr(cached, name)(), getattr(live, name)(), strict=True):
            assert first.ids == second.ids
            assert torch.equal(first.frames, second.frames)
            assert torch.equal(first.audio, second.audio)
    assert cached.fingerprint == live.fingerprint


def test_random_training_frames_are_read_on_the_fly_and_the_rest_is_cached(make, tmp_path):
    data = make(train_sampling="random_segments")
    data.prepare()
    assert len(list((tmp_path / "home" / "frames").iterdir())) == 1
    loader = data.train_dataloader()
    first = {i: f for b in loader for i, f in zip(b.ids, b.frames, strict=True)}
    loader.sampler.set_epoch(1)
    second = {i: f for b in loader for i, f in zip(b.ids, b.frames, strict=True)}
    assert any(not torch.equal(first[i], second[i]) for i in first)


def test_what_the_fingerprint_follows(make, rows):
    base = make(privileged="dense_*")
    base.prepare()
    changed = [dict(row) for row in rows]
    changed[0]["label"] = 1
    prints = {base.fingerprint}
    for options in (
        {"rows": changed},
        {"num_frames": 3},
        {"text": []},
        {"vocab_size": 30},
        {"privileged": "dense_a"},
        {"log1p": "dense_a"},
        {"classes": ["no", "yes"]},
    ):
        data = make(**{"privileged": "dense_*"} | options)
        data.prepare()
        prints.add(data.fingerprint)
    assert len(prints) == 8
    same = make(rows, privileged="dense_*", seed=5, batch_size=2)
    same.prepare()
    assert same.fingerprint == base.fingerprint


def break_clip(clip_files, tmp_path, rows):
    """A copy of the clips in which one is cut off, one is missing and one is text."""
    import shutil

    folder = tmp_path / "broken"
    shutil.copytree(clip_files, folder)
    path = folder / "clip01.mp4"
    path.write_bytes(path.read_bytes()[:3000])
    (folder / "clip02.mp4").write_text("text")
    return folder


def test_bad_clips_end_the_run_or_are_skipped_and_listed(make, clip_files, tmp_path, rows):
    folder = break_clip(clip_files, tmp_path, rows)
    with pytest.raises(UnreadableClip) as caught:
        make(root=str(folder)).prepare()
    assert "2 of 12 clips cannot be read" in str(caught.value)
    (folder / "clip03.mp4").unlink()
    with pytest.raises(ManifestError, match=r"row 4: path 'clip03\.mp4' is no file"):
        make(root=str(folder)).prepare()
    data = make(root=str(folder), on_bad_clip="skip")
    data.prepare()
    assert [bad.id for bad in data.bad_clips] == ["c1", "c2", "c3"]
    assert len(data.splits["train"]) == 5
    assert [entry["id"] for entry in data.describe()["skipped"]] == ["c1", "c2", "c3"]
    assert data.bad_clips[2].reason == "there is no such file"
    ids = {i for batch in data.train_dataloader() for i in batch.ids}
    assert not ids & {"c1", "c2", "c3"}


def test_clips_lost_on_the_fly_are_reported(make, clip_files, tmp_path, rows):
    folder = break_clip(clip_files, tmp_path, rows)
    data = make(
        root=str(folder), on_bad_clip="skip", train_sampling="random_segments", batch_size=8
    )
    data.prepare()
    assert data.bad_clips == []
    (batch,) = data.train_dataloader()
    assert len(batch) == 6
    assert sorted(bad.id for bad in data.bad_clips) == ["c1", "c2"]
    assert len(data.describe()["skipped"]) == 2


def test_a_split_that_skipping_empties_is_refused(make, clip_files, tmp_path, rows):
    folder = break_clip(clip_files, tmp_path, rows)
    rows[1]["split"] = rows[2]["split"] = "val"
    for row in rows[8:10]:
        row["split"] = "train"
    with pytest.raises(ValueError, match=r"no val clip is left \(2 unreadable clips"):
        make(rows, root=str(folder), on_bad_clip="skip").prepare()


def test_a_file_that_changes_is_decoded_again(make, clip_files, tmp_path, write_clip, rows):
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(clip_files, folder)
    first = make(root=str(folder))
    first.prepare()
    write_clip(folder / "clip10.mp4", 12, width=48, height=64)
    os.utime(folder / "clip10.mp4", (1, 1))
    second = make(root=str(folder))
    second.prepare()
    frames = [next(iter(data.test_dataloader())).frames for data in (first, second)]
    assert not torch.equal(frames[0][0], frames[1][0])
    assert torch.equal(frames[0][1], frames[1][1])


def test_any_source_will_do(clip_files, tmp_path):
    class Source:
        def load(self):
            names = ("train", "train", "val", "test")
            clips = [
                Clip(str(n), clip_files / f"clip0{n}.mp4", label=n % 3, split=split)
                for n, split in enumerate(names)
            ]
            return Manifest(tuple(clips), TaskSpec("kind", "multiclass", ("a", "b", "c")))

    inputs = InputSpec(num_frames=1, frame_size=8, audio=False, text_fields=())
    data = ClipDataModule(Source(), inputs, cache_dir=tmp_path)
    data.prepare()
    (batch,) = data.train_dataloader()
    assert batch.labels.dtype == torch.int64
    assert batch.audio is None and batch.input_ids is None and batch.privileged is None
    assert data.tokenizer is None and data.vocab_size == 0 and data.num_privileged == 0


class Recorder(lightning.LightningModule):
    """Remembers which clips it saw."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, batch.ids))
        return self.weight * batch.frames.float().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(data, model, epochs, folder, checkpoint=None):
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, default_root_dir=folder,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        enable_checkpointing=False, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(model, datamodule=data, ckpt_path=checkpoint, weights_only=False)
    trainer.save_checkpoint(folder / "last.ckpt")


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*dataloader.*")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec.*")
@pytest.mark.filterwarnings("ignore:.*number of training batches")
def test_a_resumed_run_sees_the_same_batches(make, tmp_path):
    whole, first, second = Recorder(), Recorder(), Recorder()
    fit(make(), whole, 3, tmp_path)
    fit(make(), first, 1, tmp_path)
    fit(make(), second, 3, tmp_path, tmp_path / "last.ckpt")
    assert [epoch for epoch, _ in whole.seen] == [0, 0, 1, 1, 2, 2]
    assert first.seen + second.seen == whole.seen
    assert len({ids for _, ids in whole.seen}) == 6


def test_refusals(make):
    with pytest.raises(ValueError, match="train_on 'some' is unknown; choose one of all, labelled"):
        make(train_on="some")
    with pytest.raises(ValueError, match="on_bad_clip 'ignore' is unknown; choose one of error"):
        make(on_bad_clip="ignore")
    with pytest.raises(ValueError, match=r"data.batch_size must be a whole number of at least 1"):
        make(batch_size=0)
    with pytest.raises(ValueError, match="tokenizer 'no/such' could not be loaded"):
        make(tokenizer="no/such").prepare()


def test_a_teacher_that_must_not_see_its_fold_gets_the_rest(make):
    data = make(batch_size=2)
    data.prepare()
    labelled = [clip.id for clip in data.splits["train"] if clip.label is not None]
    seen = {name for batch in data.labelled_dataloader(exclude=labelled[:1]) for name in batch.ids}
    assert seen <= set(labelled[1:]) and seen
    with pytest.raises(ValueError, match="no labelled training clip is left"):
        data.labelled_dataloader(exclude=labelled)


def test_a_whole_split_comes_in_order_and_in_any_reading(make):
    data = make()
    data.prepare()
    own = data.whole_split("train")
    assert own.ids == [clip.id for clip in data.splits["train"]]
    other = data.whole_split("train", sampling="per_second")
    assert other.ids == own.ids and other.sampling == "per_second"
    assert own[0].views[0].startswith("uniform-")
    assert other[0].views[0].startswith("per_second-")


def test_one_of_several_fixed_views_is_drawn_each_epoch(make):
    data = make(train_sampling="random_segments", batch_size=4)
    data.prepare()
    plain = next(iter(data.train_dataloader()))
    assert plain.views is None
    data.train_views = 3
    loader, drawn = data.train_dataloader(), {}
    for epoch in range(6):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            for name, view, frames in zip(batch.ids, batch.views, batch.frames, strict=True):
                known = drawn.setdefault((name, view), frames)
                assert torch.equal(known, frames)  # the same view is the same picture
    assert {view[-2:] for _, view in drawn} == {"#0", "#1", "#2"}
    views = [data.whole_split("train", view=k)[0] for k in range(3)]
    assert [v.views[0][-2:] for v in views] == ["#0", "#1", "#2"]
    name = views[0].ids[0]
    for view in views:
        if (name, view.views[0]) in drawn:
            assert torch.equal(view.frames[0], drawn[name, view.views[0]])
    assert not torch.equal(views[0].frames, views[1].frames)


def test_fields_one_by_one_change_the_fingerprint_and_no_file(make):
    data, both = make(), make(separate_text=True, max_field_length=5)
    data.prepare()
    both.prepare()
    assert both.fingerprint != data.fingerprint
    longer = make(separate_text=True, max_field_length=6)
    longer.prepare()
    assert longer.fingerprint != both.fingerprint
    folders = {d._caches["uniform"].folder for d in (data, both)}
    assert len(folders) == 1
    (plain, *_), (batch, *_) = data.val_dataloader(), both.val_dataloader()
    assert plain.field_ids is None and plain.field_mask is None
    assert batch.field_ids.shape == batch.field_mask.shape == (len(batch), 1, 5)
    assert torch.equal(batch.input_ids, plain.input_ids) and batch.public().field_ids is not None


def test_students_may_see_a_share_of_the_labels_and_teachers_see_all(make):
    whole, part = make(batch_size=8), make(batch_size=8, student_labels=0.5)
    for data in (whole, part):
        data.prepare()
    assert part.fingerprint == whole.fingerprint  # the same teacher, the same cache
    (batch,) = part.train_dataloader()
    assert len(batch) == 8 and int(batch.label_mask.sum()) == 3
    (teachers,) = part.labelled_dataloader()
    assert int(teachers.label_mask.sum()) == 6
    alone = make(batch_size=8, student_labels=0.5, train_on="labelled")
    alone.prepare()
    (batch,) = alone.train_dataloader()
    assert len(batch) == 3 and batch.label_mask.all()
