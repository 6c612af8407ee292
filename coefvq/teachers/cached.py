"""A teacher whose answers were written down before."""

from __future__ import annotations

from coefvq.teacher_cache import TeacherCache
from coefvq.types import Batch, TeacherOutput


class CachedTeacher:
    """Look up what a teacher said of each clip; no model is in memory.

    Args:
        cache: the teacher's outputs.
        view: which view to answer with, whatever the batch shows. Only for a training whose
            augmentation leaves the teacher's answer valid. None: the batch's own.
    """

    def __init__(self, cache: TeacherCache, view: str | None = None) -> None:
        self.cache = cache
        self.view = view

    def __call__(self, batch: Batch) -> TeacherOutput:
        """Outputs of every clip of the batch, on its device, in float32.

        Raises:
            ValueError: a clip has no row for its view, or the batch shows frames that were drawn
                anew, which nobody can have written down.
        """
        views = batch.views if self.view is None else self.view
        if views is None:
            raise ValueError(
                "the batch shows frames that were drawn anew, but cached outputs belong to fixed "
                "views; set teacher.views to a number of views, teacher.view_invariant=true, or "
                "teacher.cache=off"
            )
        return self.cache.lookup(batch.ids, views).to(batch.device)


__all__ = ["CachedTeacher"]
