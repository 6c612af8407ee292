"""The Lightning data module of pairs: the pairwise twin of `coefvq.data.datamodule`.

A clip is decoded once, into the same cache as single clips, however many pairs it is in.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

import lightning

from coefvq.data.decoding import read_ahead
from coefvq.data.frame_cache import FrameCache
from coefvq.data.loader import EpochLoader, make_loader
from coefvq.data.loading import ClipDataset, EpochShuffle
from coefvq.data.media import BadClip
from coefvq.data.options import at_least_one, one_of
from coefvq.data.pairs.dataset import PairDataset
from coefvq.data.pairs.manifest import (
    PairManifest,
    PairSource,
    alike_groups,
    clips_of,
    describe_pairs,
    reading_fingerprint,
)
from coefvq.data.pairs.pretext import PretextPairs
from coefvq.data.pairs.texts import warn_of_cut_texts
from coefvq.data.reader import ClipReader
from coefvq.data.sampling import EVAL_POLICIES
from coefvq.data.splits import SPLITS
from coefvq.data.text import make_tokenizer, tokenizer_words
from coefvq.pairs import Pair
from coefvq.types import Clip, InputSpec, TaskSpec

_log = logging.getLogger(__name__)


class PairDataModule(lightning.LightningDataModule):
    """Pairs of clips as batches for training, validation and test.

    Args:
        source: has `load() -> PairManifest`; it may make the clips first.
        inputs: how both clips of a pair are read.
        batch_size: pairs per training batch.
        eval_batch_size: pairs per batch elsewhere; None: the same.
        num_workers: processes that put batches together; 0 is fine with a cache.
        train_on: `"all"` pairs of the training split, or the `"labelled"` ones only.
        labelled_per_batch: see `coefvq.data.loading.EpochShuffle`; None: as they come.
        tokenizer: folder or Hugging Face name; None: a small one is made from the training texts.
        vocab_size: upper bound for that one.
        cache_frames: decode once into the cache; needs a frame policy without chance.
        cache_dir: see `coefvq.data.home.cache_home`.
        on_bad_clip: `"error"`: an unreadable clip ends the run; `"skip"`: pairs with it are left
            out, and the clip is listed.
        seed: order of training and random frame policies.

    Raises:
        ValueError: an unknown word, or a number that is too small.
    """

    num_privileged = 0
    privileged_names: tuple[str, ...] = ()
    normalizer = None

    def __init__(
        self,
        source: PairSource,
        inputs: InputSpec,
        *,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        train_on: Literal["all", "labelled"] = "all",
        labelled_per_batch: int | None = None,
        tokenizer: str | None = None,
        vocab_size: int = 2000,
        cache_frames: bool = True,
        cache_dir: str | Path | None = None,
        on_bad_clip: Literal["error", "skip"] = "error",
        seed: int = 1,
    ) -> None:
        super().__init__()
        one_of("train_on", train_on, ("all", "labelled"))
        one_of("on_bad_clip", on_bad_clip, ("error", "skip"))
        at_least_one(batch_size=batch_size, eval_batch_size=eval_batch_size)
        at_least_one(num_frames=inputs.num_frames, frame_size=inputs.frame_size)
        ClipReader(inputs)  # refuses unknown frame policies
        self.source = source
        self.inputs = inputs
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size or batch_size
        self.num_workers = num_workers
        self.train_on = train_on
        self.labelled_per_batch = labelled_per_batch
        self.tokenizer_name = tokenizer
        self.max_vocab_size = vocab_size
        self.cache_frames = cache_frames
        self.cache_dir = cache_dir
        self.on_bad_clip = on_bad_clip
        self.seed = seed
        self.whole_words: tuple[str, ...] = ()  # single tokens of a tokenizer that is made here
        self.bad_clips: list[BadClip] = []
        self._manifest: PairManifest | None = None
        self._datasets: dict[str, PairDataset] = {}
        self._caches: dict[str, FrameCache | None] = {}

    def prepare(self) -> None:
        """Do everything that comes before training; a second call does nothing.

        Raises:
            ManifestError: the pair table is wrong; all problems are listed.
            UnreadableClip: clips cannot be read and `on_bad_clip="error"`.
            ValueError: the tokenizer cannot be made, or a split has no pair left.
            OSError: the disk is full.
        """
        if self._manifest is not None:
            return
        manifest = self.source.load()
        self.task: TaskSpec = manifest.task
        self.sub_labels = manifest.sub_labels
        clips, fields = clips_of(manifest.split("train")), self.inputs.text_fields
        self.tokenizer = make_tokenizer(
            clips, fields, self.tokenizer_name, self.max_vocab_size, self.whole_words
        )
        warn_of_cut_texts(clips, self.inputs, self.tokenizer)
        words = tokenizer_words(self.tokenizer_name, self.max_vocab_size, self.whole_words)
        self.fingerprint = reading_fingerprint(manifest, self.inputs, words)
        self.public_fingerprint = self.fingerprint  # pairs have no privileged features
        self._reader = ClipReader(self.inputs, self.tokenizer)
        self._read_all(manifest)
        self._manifest = manifest

    def setup(self, stage: str | None = None) -> None:
        """Lightning's hook: see `prepare`."""
        self.prepare()

    @property
    def train_views(self) -> int | None:
        """None: each clip of a pair draws its view on its own, so no pair has K of them."""
        return None

    @train_views.setter
    def train_views(self, views: int | None) -> None:
        if views is not None:
            raise ValueError(
                f"teacher.views={views} keeps views of single clips, and pairs draw those of their "
                "two clips independently; set teacher.view_invariant=true or teacher.cache=off"
            )

    @property
    def vocab_size(self) -> int:
        """Number of token ids; 0 when no text is read."""
        return 0 if self.tokenizer is None else len(self.tokenizer)

    def describe(self) -> dict[str, Any]:
        """Say in plain numbers what the data are, for a report."""
        return describe_pairs(self, self.splits, self.bad_clips)

    def train_dataloader(self) -> EpochLoader:
        """Shuffled training batches."""
        name = "train" if self.train_on == "all" else "labelled"
        share = self.labelled_per_batch if name == "train" else None
        return self._shuffled(self._datasets[name], share)

    def labelled_dataloader(self, exclude: Collection[str] = ()) -> EpochLoader:
        """Shuffled batches of labelled training pairs, whatever `train_on` says.

        Args:
            exclude: ids of pairs to leave out, for a teacher that must not see its fold.

        Raises:
            ValueError: no pair is left.
        """
        dataset = self._datasets["labelled"]
        if exclude:
            pairs = [pair for pair in dataset.pairs if pair.id not in exclude]
            if not pairs:
                raise ValueError("no labelled training pair is left outside the excluded ones")
            dataset = self._dataset(pairs, dataset.clips.sampling)
        return self._shuffled(dataset, None)

    def pretext_dataloader(self, clips: int) -> EpochLoader:
        """Shuffled batches of so many clips of all training pairs, made into pairs of their own."""
        pairs, policy = self.splits["train"], self.inputs.train_sampling
        bad = {bad.id: bad for bad in self._decode(clips_of(pairs), policy)}
        self.bad_clips += [bad[name] for name in bad.keys() - {b.id for b in self.bad_clips}]
        good, groups = [c for c in clips_of(pairs) if c.id not in bad], self.alike()
        named = [groups[clip.id] for clip in good]
        dataset = PretextPairs(self._clips(good, policy), named, self.seed)
        return make_loader(dataset, clips, self.num_workers, EpochShuffle(len(good), self.seed))

    def alike(self) -> dict[str, str]:
        """Which training clips may show the same: see `alike_groups`."""
        return alike_groups(self._manifest.split("train") if self._manifest else ())

    def val_dataloader(self) -> EpochLoader:
        """Validation batches, in the table's order."""
        return make_loader(self._datasets["val"], self.eval_batch_size, self.num_workers)

    def test_dataloader(self) -> EpochLoader:
        """Test batches, in the table's order."""
        return make_loader(self._datasets["test"], self.eval_batch_size, self.num_workers)

    def whole_split(self, split: str, *, sampling: str | None = None) -> PairDataset:
        """Pairs of a split that training or testing uses, in the table's order.

        Args:
            split: `"train"`, `"val"` or `"test"`.
            sampling: the frame policy; None: the split's own.
        """
        dataset = self._datasets[split]
        policy = sampling or dataset.clips.sampling
        if policy != dataset.clips.sampling:
            self._decode(clips_of(dataset.pairs), policy)
        return self._dataset(dataset.pairs, policy)

    def clip_dataset(self, *splits: str) -> ClipDataset:
        """Each clip of these splits once (of all three if none is named), read as at evaluation.

        For what is computed per clip, such as a cache of a student's features.
        """
        pairs = [pair for split in splits or SPLITS for pair in self._datasets[split].pairs]
        clips = clips_of(pairs)
        self._decode(clips, self.inputs.sampling)
        return self._clips(clips, self.inputs.sampling)

    def clip_dataloader(self, *splits: str, batch_size: int | None = None) -> EpochLoader:
        """Batches of `clip_dataset`, in order; `batch_size` None: that of evaluation."""
        size = batch_size or self.eval_batch_size
        return make_loader(self.clip_dataset(*splits), size, self.num_workers)

    def _read_all(self, manifest: PairManifest) -> None:
        needed = {split: manifest.split(split) for split in SPLITS}
        if self.train_on == "labelled":
            needed["train"] = [pair for pair in needed["train"] if pair.label is not None]
        policies = dict.fromkeys(SPLITS, self.inputs.sampling)
        policies["train"] = self.inputs.train_sampling
        found: dict[str, BadClip] = {}
        for policy in dict.fromkeys(policies.values()):
            pairs = [p for split in SPLITS if policies[split] == policy for p in needed[split]]
            found |= {bad.id: bad for bad in self._decode(clips_of(pairs), policy)}
        if found:
            _log.warning("%d clips cannot be read; their pairs are left out", len(found))
        self.bad_clips = list(found.values())

        def good(pair: Pair) -> bool:
            return pair.query.id not in found and pair.candidate.id not in found

        self.splits = {s: [p for p in manifest.split(s) if good(p)] for s in SPLITS}
        usable = {s: [p for p in needed[s] if good(p)] for s in SPLITS}
        usable["labelled"] = [pair for pair in usable["train"] if pair.label is not None]
        policies["labelled"] = policies["train"]
        for name, pairs in usable.items():
            if not pairs:
                raise ValueError(
                    f"no {name} pair is left ({len(found)} unreadable clips were skipped); add "
                    "pairs, or set data.on_bad_clip=error to see what is wrong with the clips"
                )
            self._datasets[name] = self._dataset(pairs, policies[name])

    def _decode(self, clips: Sequence[Clip], policy: str) -> list[BadClip]:
        """Bring clips into the policy's cache, those that are not there; name the unreadable."""
        if policy not in self._caches:
            kept = self.cache_frames and policy in EVAL_POLICIES
            self._caches[policy] = FrameCache(self.inputs, policy, self.cache_dir) if kept else None
        cache = self._caches[policy]
        return read_ahead(cache, clips, self.inputs, policy, on_bad_clip=self.on_bad_clip)

    def _clips(self, clips: Sequence[Clip], policy: str) -> ClipDataset:
        return ClipDataset(
            clips,
            self.task,
            self.inputs,
            self._reader.tokens(clips),
            None,
            policy,
            self._caches[policy],
            self.on_bad_clip,
            self.seed,
        )

    def _dataset(self, pairs: Sequence[Pair], policy: str) -> PairDataset:
        return PairDataset(pairs, self._clips(clips_of(pairs), policy), self.sub_labels)

    def _shuffled(self, dataset: PairDataset, labelled_per_batch: int | None) -> EpochLoader:
        sampler = EpochShuffle(
            len(dataset),
            self.seed,
            labelled=dataset.label_mask,
            batch_size=self.batch_size,
            labelled_per_batch=labelled_per_batch,
        )
        return make_loader(dataset, self.batch_size, self.num_workers, sampler)


__all__ = ["PairDataModule"]
