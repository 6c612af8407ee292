"""Ask a live teacher about every clip once and keep what it says, on as many devices as there are.

Lightning's engine moves the batches and starts the processes; each process writes files of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.data import DataLoader, Dataset

from coefvq.data.loader import as_is
from coefvq.data.loading import ClipDataset
from coefvq.teacher_cache import TeacherCache
from coefvq.types import Batch, TeacherOutput

Teacher = Callable[[Batch], TeacherOutput]


@dataclass(frozen=True)
class CachingResult:
    """What writing a cache did.

    Args:
        written: rows that were new.
        found: rows that were there.
        seconds: spent on the new ones.
        max_errors: largest distance of a kept number from the live one, over all rows: `logits`
            and, where there are any, `features`; 0 for float32.
    """

    written: int
    found: int
    seconds: float
    max_errors: dict[str, float]


def fixed_batches(dataset: ClipDataset, missing: Sequence[str], size: int) -> list[list[int]]:
    """Indices of the batches that hold missing clips, of batches that never change.

    Arithmetic on a CPU can differ in the last bit with the size of a batch and with a clip's place
    in it, so batches are cut from the whole split in one order, and the last is filled up with its
    own clips: a run that was killed and goes on then computes the very numbers that it would have
    computed. A live teacher in shuffled training batches of the same size gives equal numbers where
    kernels treat all places alike, which they do on the CPUs that were tried, for `FrozenTeacher`
    fills batches up to whole vectors.

    >>> class Three: ids = ["c", "a", "b"]
    >>> fixed_batches(Three(), ["b"], size=2)
    [[2, 2]]
    >>> fixed_batches(Three(), ["a", "b"], size=2)
    [[0, 1], [2, 2]]
    """
    wanted, batches = set(missing), []
    for start in range(0, len(dataset.ids), size):
        batch = list(range(start, min(start + size, len(dataset.ids))))
        if any(dataset.ids[index] in wanted for index in batch):
            filled = [batch[place % len(batch)] for place in range(size)]
            batches.append(filled)
    return batches


def write_outputs(
    teacher: Teacher,
    datasets: Sequence[ClipDataset],
    cache: TeacherCache,
    trainer: lightning.Trainer,
    *,
    batch_size: int,
    num_workers: int = 0,
    view: str | None = None,
    wait: Callable[[], None] | None = None,
    contents: Callable[[str], str] | None = None,
) -> CachingResult:
    """Add the outputs that are missing.

    Args:
        teacher: asked in eval mode and without gradients.
        datasets: the clips, each read in one view.
        cache: where to.
        trainer: one whose `predict` has not run; its devices share the work.
        batch_size: clips per forward pass: give the training's own.
        num_workers: processes that load batches, on each device.
        view: what to file rows under; None: what the batches show.
        wait: called once if another run is writing this cache.
        contents: says what is in a clip, see `TeacherCache.add`.

    Raises:
        OSError: no space left; what was written stays.
        ValueError: a row is missing or doubled at the end.
    """
    start, before = time.perf_counter(), len(cache)
    module = _Caching(teacher, datasets, cache, batch_size, num_workers, view, contents)
    if trainer.world_size == 1 and not module.todo():
        # Nothing to write, so that nobody has to be waited for: a folder may be read-only.
        return CachingResult(0, before, time.perf_counter() - start, cache.errors())
    if trainer.global_rank == 0:
        with cache.writing(wait):
            before = len(cache)
            needed = bool(module.todo())
            if needed or trainer.world_size > 1:
                trainer.predict(module, return_predictions=False)
    else:
        trainer.predict(module, return_predictions=False)
    trainer.strategy.barrier()
    cache.refresh()
    lost = sum(len(batches) for _, batches in module.todo())
    if lost:
        raise ValueError(
            f"{lost} batches of the teacher cache {cache.folder} are still missing; start again "
            "to add them"
        )
    written = len(cache) - before
    return CachingResult(written, before, time.perf_counter() - start, cache.errors())


class _Caching(lightning.LightningModule):
    """The loop's body: a teacher that is no part of the module, and a cache."""

    def __init__(
        self,
        teacher: Teacher,
        datasets: Sequence[ClipDataset],
        cache: TeacherCache,
        batch_size: int,
        num_workers: int,
        view: str | None,
        contents: Callable[[str], str] | None,
    ) -> None:
        super().__init__()
        self.teacher = teacher
        self.datasets = datasets
        self.cache = cache
        self.size = batch_size
        self.num_workers = num_workers
        self.view = view
        self.contents = contents
        # Few batches on many devices leave some without any.
        self.allow_zero_length_dataloader_with_multiple_devices = True

    def todo(self, all_of: bool = False) -> list[tuple[ClipDataset, list[list[int]]]]:
        """Batches that hold a clip without a row, by data set; with `all_of` also where none is."""
        plan = []
        for dataset in self.datasets:
            view = self.view or fixed_view(dataset)
            missing = self.cache.missing(dataset.ids, view)
            plan.append((dataset, fixed_batches(dataset, missing, self.size) if missing else []))
        return [(dataset, batches) for dataset, batches in plan if batches or all_of]

    def predict_dataloader(self) -> DataLoader:
        """This process's share of the batches."""
        rank, world = self.trainer.global_rank, self.trainer.world_size
        # The first process decides: the others may look when some files are there already.
        plan = self.trainer.strategy.broadcast([batches for _, batches in self.todo(all_of=True)])
        jobs = [
            (dataset, batch)
            for dataset, batches in zip(self.datasets, plan, strict=True)
            for batch in batches
        ]
        # One loader on every process, be it empty: Lightning counts them together.
        return DataLoader(
            _Batches(jobs[rank::world]),
            batch_size=None,
            num_workers=self.num_workers,
            collate_fn=as_is,
            pin_memory=torch.cuda.is_available(),
        )

    def predict_step(self, batch: Batch, batch_idx: int) -> int:
        """Ask, and keep the answer; returns how many clips that were, as Lightning wants some."""
        output = self.teacher(batch)
        views = self.view or batch.views
        assert views is not None, "datasets are read in fixed views"
        self.cache.add(batch.ids, views, output, self.contents)
        return len(batch)

    def on_predict_end(self) -> None:
        """What waits in memory goes to the disk, on every process."""
        self.cache.flush()


class _Batches(Dataset[Batch]):
    """Whole batches as items: Lightning rebuilds loaders that have a batch sampler of their own."""

    def __init__(self, jobs: list[tuple[ClipDataset, list[int]]]) -> None:
        self.jobs = jobs

    def __len__(self) -> int:
        return len(self.jobs)

    def __getitem__(self, index: int) -> Batch:
        dataset, indices = self.jobs[index]
        return dataset.__getitems__(indices)


class CachingProgress(ProgressBar):
    """Batches done and time left, on standard error."""

    def __init__(self, label: str = "teacher outputs") -> None:
        super().__init__()
        self.label = label
        self._progress: Progress | None = None
        self._shown = True

    def disable(self) -> None:
        """Show nothing: Lightning asks for it in all processes but the first."""
        self._shown = False

    def enable(self) -> None:
        """Show the bar again."""
        self._shown = True

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Open the bar."""
        if self._shown:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            self._progress = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))
            self._progress.start()
            total = sum(trainer.num_predict_batches)
            self._bar = self._progress.add_task(self.label, total=total)

    def on_predict_batch_end(self, *rest: Any) -> None:
        """Move the bar."""
        if self._progress is not None:
            self._progress.advance(self._bar)

    def on_predict_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Close the bar."""
        self._close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Close the bar, so that the error's sentence stands below it."""
        self._close()

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def fixed_view(dataset: ClipDataset) -> str:
    """The one view that a data set shows of its clips."""
    views = dataset.view_names(dataset.ids[:1])
    assert views is not None, "datasets are read in fixed views"
    return views[0]


__all__ = ["CachingProgress", "CachingResult", "fixed_batches", "fixed_view", "write_outputs"]
