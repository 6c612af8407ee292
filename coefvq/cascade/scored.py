"""Clips that both models scored, checked and weighted: what a policy is fitted on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coefvq.cascade.arrays import (
    Array,
    Flags,
    Task,
    Values,
    Whole,
    as_array,
    check_flags,
    check_labels,
    check_logits,
    check_task,
    check_weight,
    mean_of,
)
from coefvq.cascade.calibrators import log_prior
from coefvq.cascade.policy import Policy


@dataclass(frozen=True, eq=False)
class ScoredClips:
    """Two columns of scores and what is known about their clips.

    Args:
        task: what the logits mean.
        light: raw logits of M light models, one for all gates but `disagreement`.
        heavy: (N,), (N, C) or (N, L) raw logits.
        labels: like the task's, 0 where unlabelled; None: no labels at all.
        labelled: (N,) where a label counts.
        weight: (N,) how many clips of the traffic each stands for, in its prevalence.
        own_weight: (N,) `sample_weight` alone, without a correction of the prevalence.
        weighted: whether a sample weight was given.
        traffic: (N,) clips that stand for the traffic when a budget is set.
    """

    task: Task
    light: tuple[Array, ...]
    heavy: Array
    labels: Whole | None
    labelled: Flags
    weight: Array
    own_weight: Array
    weighted: bool
    traffic: Flags

    @property
    def mean(self) -> Array:
        """The light answer, raw: the one model's, or the mean of several."""
        return mean_of(self.light)

    @property
    def outputs(self) -> int:
        """C or L; 1 for binary."""
        return 1 if self.task == "binary" else int(self.heavy.shape[1])

    def truth(self, rows: Flags) -> Whole:
        """Labels of these rows.

        Raises:
            ValueError: there are none.
        """
        if self.labels is None:
            check_labels(None, self.heavy, self.task)
        assert self.labels is not None
        return self.labels[rows]

    def halves(self, seed: int) -> tuple[Flags, Flags]:
        """Two random halves of the labelled clips, of the positives and negatives alike."""
        self.truth(self.labelled)
        assert self.labels is not None
        draw = np.random.default_rng(seed)
        first = np.zeros(len(self.labelled), dtype=np.bool_)
        for kind in (0, 1):
            rows = draw.permutation(np.flatnonzero(self.labelled & (self.labels == kind)))
            first[rows[: len(rows) // 2]] = True
        return first, self.labelled & ~first


def scored_clips(
    light_logits: Values,
    heavy_logits: Values,
    labels: Values | None,
    *,
    task: Task,
    several_models: bool = False,
    label_mask: Values | None = None,
    sample_weight: Values | None = None,
    serving_prevalence: Values | None = None,
) -> ScoredClips:
    """Check that everything belongs together, and weigh the clips to the serving prevalence.

    Args:
        light_logits: (N, …) raw, or (M, N, …) of several light models.
        heavy_logits: (N, …) raw.
        labels: (N,), or (N, L); the value of an unlabelled row is never read.
        task: what they mean.
        several_models: whether `light_logits` has the axis of models.
        label_mask: (N,) bool; None: all count.
        sample_weight: (N,); None: ones.
        serving_prevalence: for binary and multiclass: positives (classes) are weighted to these
            shares, and unlabelled clips don't count as traffic.

    Raises:
        ValueError: what doesn't fit.
    """
    check_task(task)
    heavy = check_logits(heavy_logits, task, what="heavy_logits")
    every = as_array(light_logits, "light_logits")
    if every.shape[int(several_models) :] != heavy.shape or every.ndim != (
        heavy.ndim + several_models
    ):
        raise ValueError(
            f"light_logits of shape {every.shape} and heavy_logits of shape {heavy.shape} must be "
            f"of the same clips and outputs{' (M light models first)' if several_models else ''}"
        )
    if not len(heavy):
        raise ValueError("no clip to fit a policy on; give clips that both models scored")
    members = every if several_models else every[None]
    light = tuple(check_logits(z, task, what="light_logits") for z in members)
    n = len(heavy)
    mask = np.ones(n, dtype=np.bool_)
    if label_mask is not None:
        mask = check_flags(label_mask, "label_mask", n)
    found: Whole | None = None
    if labels is not None:
        read = as_array(labels, "labels")
        if read.shape[:1] == (n,):
            read = np.where(mask if read.ndim == 1 else mask[:, None], read, 0.0)
        found = check_labels(read, heavy, task)
    own = check_weight(sample_weight, n)
    weight, traffic = own, np.ones(n, dtype=np.bool_)
    if serving_prevalence is not None and task != "multilabel":
        if found is None:
            check_labels(None, heavy, task)
        assert found is not None
        weight, traffic = (
            own * _to_prevalence(found, mask, own, _width(heavy), task, serving_prevalence),
            mask,
        )
    return ScoredClips(
        task, light, heavy, found, mask, weight, own, sample_weight is not None, traffic
    )


def serving_weight(labels: Whole, logits: Array, task: str, wanted: Values) -> Array:
    """What each labelled clip counts for where the classes have other shares; (N,), mean 1.

    Args:
        labels: (N,).
        logits: (N,) or (N, C); only the shape is read.
        task: binary or multiclass.
        wanted: share of positives, or of each class.

    Raises:
        ValueError: shares that are none, or a class without a clip.
    """
    ones = np.ones(len(labels))
    return _to_prevalence(labels, ones.astype(np.bool_), ones, _width(logits), task, wanted)


def judging_weight(policy: Policy, labels: Values, logits: Values) -> Array | None:
    """Weights that give labelled clips the prevalence that a policy was fitted to serve.

    Args:
        policy: fitted.
        labels: (N,), or (N, L) for multilabel.
        logits: of them; only the shape is read.

    Returns:
        (N,); None where the clips count as they are: no `serving_prevalence`, a multilabel task, or
        a class that has no clip here.
    """
    wanted = policy.fitted.get("serving_prevalence")
    if wanted is None or policy.task == "multilabel":
        return None
    z = as_array(logits, "logits")
    y = check_labels(labels, z, policy.task)
    if len(np.unique(y)) < _width(z):
        return None
    return serving_weight(y, z, policy.task, wanted)


def _width(logits: Array) -> int:
    return 2 if logits.ndim == 1 else logits.shape[1]


def _to_prevalence(
    labels: Whole, mask: Flags, own: Array, classes: int, task: str, wanted: Values
) -> Array:
    """Per clip the ratio of serving to present share of its class; mean 1 over labelled clips."""
    log_prior(task, wanted, "serving_prevalence")  # its sentences
    shares = np.atleast_1d(as_array(wanted, "serving_prevalence"))
    if task == "binary":
        shares = np.array([1 - shares[0], shares[0]])
    elif len(shares) != classes:
        raise ValueError(
            f"serving_prevalence has {len(shares)} shares for {classes} classes; give one each"
        )
    present = np.bincount(labels[mask], weights=own[mask], minlength=len(shares))
    if not (present > 0).all():
        raise ValueError(
            f"no labelled clip of class {int(np.flatnonzero(present <= 0)[0])}, so that the clips "
            "cannot be weighted to serving_prevalence; add some"
        )
    return np.asarray((shares / (present / present.sum()))[labels])
