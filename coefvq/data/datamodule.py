"""The Lightning data module: a source of clips, read as an `InputSpec` says, as batches.

Everything slow or refusable happens in `prepare`, before any model exists: the manifest is read and
checked, the tokenizer and the statistics of the privileged features are made from the training
split, and the clips are decoded into the cache.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

import lightning

from coefvq.data.decoding import read_ahead
from coefvq.data.frame_cache import FrameCache
from coefvq.data.labels import check_share, hide_labels, summarise_labels
from coefvq.data.loader import EpochLoader, make_loader
from coefvq.data.loading import ClipDataset, EpochShuffle
from coefvq.data.manifest import ClipSource, Manifest
from coefvq.data.media import BadClip
from coefvq.data.options import at_least_one, one_of
from coefvq.data.privileged import PrivilegedNormalizer
from coefvq.data.reader import ClipReader
from coefvq.data.sampling import EVAL_POLICIES
from coefvq.data.splits import SPLITS
from coefvq.data.text import make_tokenizer, tokenizer_words
from coefvq.types import Clip, InputSpec, TaskSpec

_log = logging.getLogger(__name__)


class ClipDataModule(lightning.LightningDataModule):
    """Clips as batches for training, validation and test.

    Args:
        source: has `load() -> Manifest`; it may make the clips first.
        inputs: how clips are read.
        batch_size: clips per training batch.
        eval_batch_size: clips per batch elsewhere; None: the same.
        num_workers: processes that put batches together; 0 is fine with a cache.
        train_on: `"all"` clips of the training split, or the `"labelled"` ones only.
        student_labels: share of the labels that students learn from; teachers see all.
        labelled_per_batch: see `EpochShuffle`; None: as they come.
        tokenizer: folder or Hugging Face name; None: a small one is made from the training texts.
        vocab_size: upper bound for that one.
        cache_frames: decode once into the cache; needs a frame policy without chance.
        cache_dir: see `coefvq.data.home.cache_home`.
        on_bad_clip: `"error"`: an unreadable clip ends the run; `"skip"`: it is left out, counted
            and listed.
        log1p: more privileged features to put through log(1 + x) than the manifest names.
        evaluation_only: for models that are trained already: the training split may be empty.
        seed: order of training and random frame policies.

    Raises:
        ValueError: a word is not one of the words above, or a number is too small.
    """

    def __init__(
        self,
        source: ClipSource,
        inputs: InputSpec,
        *,
        batch_size: int = 64,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        train_on: Literal["all", "labelled"] = "all",
        student_labels: float = 1.0,
        labelled_per_batch: int | None = None,
        tokenizer: str | None = None,
        vocab_size: int = 2000,
        cache_frames: bool = True,
        cache_dir: str | Path | None = None,
        on_bad_clip: Literal["error", "skip"] = "error",
        log1p: Sequence[str] = (),
        evaluation_only: bool = False,
        seed: int = 1,
    ) -> None:
        super().__init__()
        one_of("train_on", train_on, ("all", "labelled"))
        one_of("on_bad_clip", on_bad_clip, ("error", "skip"))
        at_least_one(batch_size=batch_size, eval_batch_size=eval_batch_size)
        at_least_one(num_frames=inputs.num_frames, frame_size=inputs.frame_size)
        check_share(student_labels)
        ClipReader(inputs)  # refuses unknown frame policies
        self.source, self.inputs = source, inputs
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
        self.num_workers, self.train_on = num_workers, train_on
        self.student_labels, self.labelled_per_batch = student_labels, labelled_per_batch
        self.tokenizer_name, self.max_vocab_size = tokenizer, vocab_size
        self.cache_frames, self.cache_dir = cache_frames, cache_dir
        self.on_bad_clip = on_bad_clip
        self.log1p, self.evaluation_only = tuple(log1p), evaluation_only
        self.seed = seed
        self._manifest: Manifest | None = None
        self._datasets: dict[str, ClipDataset] = {}
        self._found_bad: list[BadClip] = []
        self._caches: dict[str, FrameCache | None] = {}
        self.whole_words: tuple[str, ...] = ()  # single tokens of a tokenizer that is made here
        self.train_views: int | None = None  # K fixed views of each clip; None: drawn anew

    def prepare(self) -> None:
        """Do everything that comes before training; a second call does nothing.

        Raises:
            ManifestError: the manifest is wrong; all problems are listed.
            UnreadableClip: clips cannot be read and `on_bad_clip="error"`.
            ValueError: tokenizer or privileged features cannot be made.
            OSError: the disk is full.
        """
        if self._manifest is not None:
            return
        manifest = self.source.load()
        train = manifest.split("train")
        self.task: TaskSpec = manifest.task
        self.privileged_names = manifest.privileged_names
        fields, own = self.inputs.text_fields, self.tokenizer_name
        self.tokenizer = make_tokenizer(train, fields, own, self.max_vocab_size, self.whole_words)
        self.normalizer = None
        if self.privileged_names:
            log1p = tuple(dict.fromkeys([*manifest.log1p, *self.log1p]))
            rows = [clip.privileged for clip in train]
            self.normalizer = PrivilegedNormalizer.fit(rows, self.privileged_names, log1p)
        features = None if self.normalizer is None else self.normalizer.to_dict()
        self.fingerprint = self._hash(manifest.fingerprint, features)
        self.public_fingerprint = self._hash(manifest.public_fingerprint, None)
        self._read_all(manifest)
        self._manifest = manifest

    def prepare_data(self) -> None:
        """Lightning's hook, on one process: see `prepare`."""
        self.prepare()

    def setup(self, stage: str | None = None) -> None:
        """Lightning's hook, on every process: see `prepare`."""
        self.prepare()

    @property
    def num_privileged(self) -> int:
        """P, privileged features per clip."""
        return len(self.privileged_names)

    @property
    def vocab_size(self) -> int:
        """Number of token ids; 0 when no text is read."""
        return 0 if self.tokenizer is None else len(self.tokenizer)

    @property
    def bad_clips(self) -> list[BadClip]:
        """Clips that were left out so far, those lost on the fly included."""
        lost = [
            BadClip(clip.id, clip.path, "it could not be read during training")
            for dataset in self._datasets.values()
            for clip, gone in zip(dataset.clips, dataset.lost.tolist(), strict=True)
            if gone
        ]
        return list({bad.id: bad for bad in [*self._found_bad, *lost]}.values())

    def describe(self) -> dict[str, Any]:
        """Say in plain numbers what the data are, for a report."""
        return {
            "task": self.task.name,
            "kind": self.task.kind,
            "classes": list(self.task.classes),
            "privileged": self.num_privileged,
            "vocab_size": self.vocab_size,
            "fingerprint": self.fingerprint,
            "student_labels": self.student_labels,
            "splits": {split: summarise_labels(self.splits[split], self.task) for split in SPLITS},
            "skipped": [
                {"id": bad.id, "path": str(bad.path), "reason": bad.reason}
                for bad in self.bad_clips
            ],
        }

    def train_dataloader(self) -> EpochLoader:
        """Shuffled training batches."""
        name = "train" if self.train_on == "all" else "labelled"
        dataset = self._datasets[name]
        if self.student_labels < 1:
            clips = hide_labels(dataset.clips, self.student_labels, drop=name == "labelled")
            dataset = self._dataset(clips, dataset.sampling)
        dataset.views = self.train_views
        return self._shuffled(dataset, self.labelled_per_batch if name == "train" else None)

    def labelled_dataloader(self, exclude: Collection[str] = ()) -> EpochLoader:
        """Shuffled batches of labelled training clips, whatever `train_on` says.

        Args:
            exclude: ids of clips to leave out, for a teacher that must not see its fold.

        Raises:
            ValueError: no clip is left.
        """
        dataset = self._datasets["labelled"]
        if exclude:
            clips = [clip for clip in dataset.clips if clip.id not in exclude]
            if not clips:
                raise ValueError("no labelled training clip is left outside the excluded ones")
            dataset = self._dataset(clips, dataset.sampling)
        return self._shuffled(dataset, None)

    def whole_split(
        self, split: str, *, sampling: str | None = None, view: int | None = None
    ) -> ClipDataset:
        """Clips of a split that training or testing uses, in the manifest's order.

        For whoever asks about each clip once, such as a teacher whose answers are kept.

        Args:
            split: `"train"`, `"val"` or `"test"`.
            sampling: the frame policy; None: the split's own.
            view: which draw of a random policy, the same one each time.
        """
        dataset = self._datasets[split]
        policy = sampling or dataset.sampling
        if policy != dataset.sampling:
            self._decode(dataset.clips, policy)
        return self._dataset(dataset.clips, policy, view)

    def val_dataloader(self) -> EpochLoader:
        """Validation batches, in the manifest's order."""
        return make_loader(self._datasets["val"], self.eval_batch_size, self.num_workers)

    def test_dataloader(self) -> EpochLoader:
        """Test batches, in the manifest's order."""
        return make_loader(self._datasets["test"], self.eval_batch_size, self.num_workers)

    def _hash(self, manifest: str, features: dict[str, Any] | None) -> str:
        words = tokenizer_words(self.tokenizer_name, self.max_vocab_size, self.whole_words)
        content = [manifest, self.task.to_dict(), self.inputs.to_dict(), words, features]
        return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()

    def _read_all(self, manifest: Manifest) -> None:
        needed = {split: manifest.split(split) for split in SPLITS}
        if self.train_on == "labelled":
            needed["train"] = [clip for clip in needed["train"] if clip.label is not None]
        policies = dict.fromkeys(SPLITS, self.inputs.sampling)
        policies["train"] = self.inputs.train_sampling
        self._found_bad = []
        for policy in dict.fromkeys(policies.values()):
            clips = [c for split in SPLITS if policies[split] == policy for c in needed[split]]
            self._found_bad += self._decode(clips, policy)
        bad = {clip.id for clip in self._found_bad}
        if bad:
            _log.warning("%d clips cannot be read and are left out", len(bad))
        self.splits = {s: [c for c in manifest.split(s) if c.id not in bad] for s in SPLITS}
        usable = {s: [c for c in needed[s] if c.id not in bad] for s in SPLITS}
        usable["labelled"] = [clip for clip in usable["train"] if clip.label is not None]
        policies["labelled"] = policies["train"]
        self._reader = ClipReader(self.inputs, self.tokenizer)
        for name, clips in usable.items():
            if not clips and not (self.evaluation_only and name in ("train", "labelled")):
                raise ValueError(
                    f"no {name} clip is left ({len(bad)} unreadable clips were skipped); add "
                    "clips, or set data.on_bad_clip=error to see what is wrong with them"
                )
            self._datasets[name] = self._dataset(clips, policies[name])

    def _decode(self, clips: Sequence[Clip], policy: str) -> list[BadClip]:
        """Bring clips into the policy's cache, those that are not there; name the unreadable."""
        if policy not in self._caches:
            kept = self.cache_frames and policy in EVAL_POLICIES
            self._caches[policy] = FrameCache(self.inputs, policy, self.cache_dir) if kept else None
        cache = self._caches[policy]
        return read_ahead(cache, clips, self.inputs, policy, on_bad_clip=self.on_bad_clip)

    def _dataset(self, clips: Sequence[Clip], policy: str, view: int | None = None) -> ClipDataset:
        return ClipDataset(
            clips,
            self.task,
            self.inputs,
            self._reader.tokens(clips),
            self.normalizer,
            policy,
            self._caches[policy],
            self.on_bad_clip,
            self.seed,
            view=view,
        )

    def _shuffled(self, dataset: ClipDataset, labelled_per_batch: int | None) -> EpochLoader:
        sampler = EpochShuffle(
            len(dataset),
            self.seed,
            labelled=dataset.label_mask,
            batch_size=self.batch_size,
            labelled_per_batch=labelled_per_batch,
        )
        return make_loader(dataset, self.batch_size, self.num_workers, sampler)


__all__ = ["ClipDataModule"]
