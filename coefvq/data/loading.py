"""Clips to batches: a data set that answers with whole batches, and the order of its epochs."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from coefvq.data.frame_cache import FrameCache, clip_key
from coefvq.data.media import UnreadableClip
from coefvq.data.privileged import PrivilegedNormalizer
from coefvq.data.reader import Reading, read_file
from coefvq.data.sampling import EVAL_POLICIES, view_name
from coefvq.data.scores import label_spread
from coefvq.data.sharing import Repeated
from coefvq.data.text import Tokens
from coefvq.types import Batch, Clip, InputSpec, TaskSpec

_log = logging.getLogger(__name__)


def label_tensors(clips: Sequence[Clip], task: TaskSpec) -> tuple[Tensor, Tensor]:
    """Lay out labels as a `Batch` wants them.

    Returns:
        labels: (N,) float32 for binary and regression, (N,) int64 for multiclass, (N, L) float32
            for multilabel; 0 where unlabelled.
        label_mask: (N,) bool, True where there is a label.
    """
    mask = torch.tensor([clip.label is not None for clip in clips], dtype=torch.bool)
    if task.kind == "multilabel":
        filler: Any = (0,) * task.num_outputs
        rows = [filler if clip.label is None else clip.label for clip in clips]
        return torch.tensor(rows, dtype=torch.float32).reshape(-1, task.num_outputs), mask
    kind = torch.int64 if task.kind == "multiclass" else torch.float32
    return torch.tensor([clip.label or 0 for clip in clips], dtype=kind), mask


class EpochShuffle(Sampler[int]):
    """Shuffle in an order that depends on the seed and the epoch, and on nothing else.

    A resumed run therefore sees the batches that it would have seen.

    Args:
        size: how many clips there are; an epoch has as many.
        seed: of the run.
        labelled: (N,) bool, needed with `labelled_per_batch`.
        batch_size: likewise.
        labelled_per_batch: how many clips of every batch are labelled. Labelled and unlabelled
            clips are then shuffled apart, and the scarcer kind comes round more often.

    Raises:
        ValueError: there are no labelled or no unlabelled clips to choose from, or
            `labelled_per_batch` is not between 1 and `batch_size` - 1.
    """

    def __init__(
        self,
        size: int,
        seed: int,
        *,
        labelled: Tensor | None = None,
        batch_size: int = 1,
        labelled_per_batch: int | None = None,
    ) -> None:
        self.size = size
        self.seed = seed
        self.epoch = 0
        self.batch_size = batch_size
        self.labelled_per_batch = labelled_per_batch
        self.labelled = labelled
        if labelled_per_batch is None:
            return
        if not 0 < labelled_per_batch < batch_size:
            raise ValueError(
                f"labelled_per_batch must be between 1 and {batch_size - 1} for batches of "
                f"{batch_size}, got {labelled_per_batch}"
            )
        if labelled is None or bool(labelled.all()) or not bool(labelled.any()):
            raise ValueError(
                "labelled_per_batch needs labelled and unlabelled training clips; set it to null"
            )

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(number_of(f"order {self.seed} {self.epoch}"))
        if self.labelled_per_batch is None or self.labelled is None:
            yield from torch.randperm(self.size, generator=generator).tolist()
            return
        kinds = [self.labelled.nonzero()[:, 0], (~self.labelled).nonzero()[:, 0]]
        streams = [_endless(kind, generator) for kind in kinds]
        shares = [self.labelled_per_batch, self.batch_size - self.labelled_per_batch]
        for place in range(self.size):
            yield next(streams[0 if place % sum(shares) < shares[0] else 1])


def _endless(items: Tensor, generator: torch.Generator) -> Iterator[int]:
    while True:
        yield from items[torch.randperm(len(items), generator=generator)].tolist()


def number_of(text: str) -> int:
    """A seed out of words: the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest())


class ClipDataset(Dataset[Batch]):
    """Clips of one split, handed out as collated batches.

    `__getitems__` is what a `DataLoader` asks for a list of indices; it answers with a `Batch`, so
    the loader's `collate_fn` has nothing left to do. From a cache a batch is a few array copies;
    without one the files are decoded on the spot. A place that is `Repeated` gives the clip without
    its label.

    Args:
        clips: N clips.
        task: what the labels mean.
        inputs: how clips are read.
        tokens: of the clips' texts.
        normalizer: for privileged features; None when there are none.
        sampling: the frame policy.
        cache: decoded clips; None: decode on the fly.
        on_bad_clip: `"error"`, or `"skip"`: leave an unreadable clip out of its batch and count
            it in `lost` (only on the fly; a cache has none).
        seed: for random policies.
        view: of a random policy: this draw of each clip, whatever the seed. None: see `views`.

    The attribute `views`, K, makes a random policy draw one of K fixed views of each clip, another
    one each epoch, so that what a teacher said of a view can be looked up; None: anew each time.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        task: TaskSpec,
        inputs: InputSpec,
        tokens: Tokens,
        normalizer: PrivilegedNormalizer | None,
        sampling: str,
        cache: FrameCache | None,
        on_bad_clip: str = "error",
        seed: int = 1,
        view: int | None = None,
    ) -> None:
        self.clips = list(clips)
        self.view = view
        self.views: int | None = None
        self.inputs = inputs
        self.sampling = sampling
        self.cache = cache
        self.on_bad_clip = on_bad_clip
        self.seed = seed
        self.ids = [clip.id for clip in clips]
        self.labels, self.label_mask = label_tensors(clips, task)
        self.label_std = label_spread(clips)
        self.tokens = tokens
        self.privileged: Tensor | None = None
        self.privileged_mask: Tensor | None = None
        if normalizer is not None:
            self.privileged, self.privileged_mask = normalizer.transform(
                [clip.privileged for clip in clips]
            )
        self.keys = [] if cache is None else [clip_key(clip.path) for clip in clips]
        # Shared with worker processes: they are told the epoch and report what they lose.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()
        self.lost = torch.zeros(len(self.clips), dtype=torch.bool).share_memory_()

    def __len__(self) -> int:
        return len(self.clips)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch for random frame policies."""
        self._epoch[0] = epoch

    @property
    def epoch(self) -> int:
        """The epoch that was set, in workers as well."""
        return int(self._epoch[0])

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        indices = list(indices)
        if self.cache is not None:
            arrays = self.cache.gather([self.keys[index] for index in indices])
        else:
            read = self._read(indices)
            indices = [index for index, _ in read]
            arrays = {
                field: np.stack([getattr(reading, field) for _, reading in read])
                for field in Reading._fields
            }
        return self._batch(indices, arrays)

    def _read(self, indices: Sequence[int]) -> list[tuple[int, Reading]]:
        readings: list[tuple[int, Reading]] = []
        error: UnreadableClip | None = None
        for index in indices:
            clip = self.clips[index]
            # Bound to the clip and the epoch, not to the order in which workers get to it; a
            # numbered view not even to the seed, because answers to it are kept for other runs.
            view = self._view(clip.id)
            draw = f"{self.seed} {int(self._epoch[0])}" if view is None else f"view {view}"
            rng = np.random.default_rng(number_of(f"frames {draw} {clip.id}"))
            try:
                readings.append((index, read_file(clip.path, self.inputs, self.sampling, rng)))
            except UnreadableClip as caught:
                if self.on_bad_clip == "error":
                    raise
                error = caught
                if not self.lost[index]:
                    _log.warning("left out of training: %s", caught)
                self.lost[index] = True
        if error is not None and not readings:
            raise UnreadableClip(f"no clip of a batch could be read; the last one: {error}")
        return readings

    def _view(self, clip_id: str) -> int | None:
        """Which draw of a clip comes now; None where there is no chance, or no limit to it."""
        if self.sampling in EVAL_POLICIES:
            return None
        if self.view is not None or self.views is None:
            return self.view
        return number_of(f"view {self.seed} {int(self._epoch[0])} {clip_id}") % self.views

    def view_names(self, ids: Sequence[str]) -> tuple[str, ...] | None:
        """What a batch of these clips would show now; None where frames are drawn anew."""
        drawn = [self._view(name) for name in ids]
        if self.sampling not in EVAL_POLICIES and None in drawn:
            return None
        return tuple(view_name(self.inputs, self.sampling, view) for view in drawn)

    def _batch(self, indices: list[int], arrays: dict[str, np.ndarray]) -> Batch:
        rows = torch.tensor(indices, dtype=torch.int64)
        counts = torch.tensor([not isinstance(index, Repeated) for index in indices])

        def pick(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[rows]

        sound = self.inputs.audio
        ids = tuple(self.ids[index] for index in indices)
        return Batch(
            ids=ids,
            views=self.view_names(ids),
            frames=torch.from_numpy(arrays["frames"]),
            frame_mask=torch.from_numpy(arrays["frame_mask"]),
            **{name: pick(tensor) for name, tensor in self.tokens._asdict().items()},
            audio=torch.from_numpy(arrays["audio"]).float() if sound else None,
            audio_mask=torch.from_numpy(arrays["audio_mask"]) if sound else None,
            motion=torch.from_numpy(arrays["motion"]) if self.inputs.motion_frames else None,
            seconds=torch.from_numpy(arrays["seconds"]),
            labels=self.labels[rows],
            label_mask=self.label_mask[rows] & counts,
            label_std=pick(self.label_std),
            privileged=pick(self.privileged),
            privileged_mask=pick(self.privileged_mask),
        )


__all__ = ["ClipDataset", "EpochShuffle", "label_tensors", "number_of"]
