"""Fit a calibrator on labelled clips that the model was not trained on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from coefvq.cascade.arrays import (
    Array,
    Task,
    Values,
    Whole,
    check_labels,
    check_logits,
    check_weight,
    log_odds,
)
from coefvq.cascade.calibrators import (
    Affine,
    Calibrator,
    Isotonic,
    Matrix,
    log_prior,
    no_calibration,
    shift_of_prior,
    temperature,
)
from coefvq.evaluation.calibration import fit_temperature
from coefvq.evaluation.operating_point import choose_operating_point
from coefvq.types import TaskSpec

Kind = Literal["none", "temperature", "affine", "isotonic", "vector", "matrix", "prior_shift"]


def fit_calibrator(
    kind: Kind,
    logits: Values,
    labels: Values | None,
    *,
    task: Task,
    sample_weight: Values | None = None,
    train_prevalence: Values | None = None,
    serving_prevalence: Values | None = None,
    penalty: float = 1e-3,
) -> Calibrator:
    """Fit a map from logits to logits that mean a probability.

    - `none`: as they are.
    - `temperature` (all tasks; one per label): scale only. Cannot move a bias, so it leaves every
      binary route where it was.
    - `affine` (binary, multilabel): Platt's scale and bias.
    - `isotonic` (binary, multilabel): any rising curve; scikit-learn's fit, needs a thousand clips
      or more. Ends are kept off 0 and 1 by Platt's (n₊ + 1)/(n₊ + 2) and 1/(n₋ + 2).
    - `vector`, `matrix` (multiclass): scale and bias per class, or a full matrix (Guo et al.,
      2017), by likelihood with a small penalty towards changing nothing.
    - `prior_shift`: no fit; from `train_prevalence` to `serving_prevalence`.

    With `serving_prevalence` the bias of affine, isotonic, vector and matrix is moved on from the
    prevalence of these clips to that one. `none` and `temperature` have no bias to move.

    Args:
        kind: see above.
        logits: (N,), (N, C) or (N, L), finite.
        labels: (N,), or (N, L) for multilabel; None only for none and prior_shift.
        task: what they mean.
        sample_weight: (N,), finite and at least 0; None: all count alike.
        train_prevalence: for prior_shift.
        serving_prevalence: share of positives where the model serves, see `prior_shift`.
        penalty: of vector and matrix, on the squared distance from changing nothing.

    Raises:
        ValueError: a kind that doesn't fit the task, labels missing or of one class only,
            non-finite logits.
    """
    z = check_logits(logits, task)
    check_kind(kind, task)
    if kind == "none":
        return no_calibration()
    if kind == "prior_shift":
        if train_prevalence is None or serving_prevalence is None:
            raise ValueError(
                "prior_shift needs train_prevalence and serving_prevalence: the share of positives "
                "that the model was trained with and the one it will meet"
            )
        return shift_of_prior(task, train_prevalence, serving_prevalence)
    if not np.isfinite(z).all():
        raise ValueError(f"a {kind} calibrator is fitted on finite logits; leave masked ones out")
    y = check_labels(labels, z, task)
    weight = check_weight(sample_weight, len(z))
    _need_both(y, weight, task)
    if kind == "temperature":
        return temperature(*_temperatures(z, y, task, None if sample_weight is None else weight))
    made: Calibrator
    if kind in ("vector", "matrix"):
        made = _fit_multiclass(kind, z, y, weight, penalty)
    else:
        pairs = [(z, y)] if task == "binary" else [(z[:, k], y[:, k]) for k in range(z.shape[1])]
        if kind == "isotonic":
            curves = [_fit_isotonic(x, t, weight) for x, t in pairs]
            made = Isotonic(tuple(x for x, _ in curves), tuple(v for _, v in curves))
        else:
            found = [_platt(x, t, None if sample_weight is None else weight) for x, t in pairs]
            made = Affine("affine", tuple(a for a, _ in found), tuple(b for _, b in found))
    if serving_prevalence is None:
        return made
    target = log_prior(task, serving_prevalence, "serving_prevalence")
    return made.shifted((target - log_prior(task, prevalence(y, weight, task, z))).tolist())


def check_kind(kind: str, task: str) -> None:
    """Refuse an unknown kind of calibrator, or one of another task.

    Raises:
        ValueError: see above.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"calibrator must be one of {', '.join(get_args(Kind))}, got {kind!r}")
    allowed = {"affine": False, "isotonic": False, "vector": True, "matrix": True}
    if kind in allowed and allowed[kind] != (task == "multiclass"):
        raise ValueError(
            f"calibrator {kind!r} is not for a {task} task; use "
            f"{'vector, matrix' if task == 'multiclass' else 'affine, isotonic'} or temperature"
        )


def prevalence(labels: Whole, weight: Array, task: str, logits: Array) -> Array:
    """Weighted share of positives, (1,) or (L,), or of each of the C classes of the logits."""
    share = weight / weight.sum()
    if task == "multiclass":
        return np.bincount(labels, weights=share, minlength=logits.shape[1]).astype(np.float64)
    return np.atleast_1d(share @ labels)


def minimise(parameters: list[Tensor], loss: Callable[[], Tensor]) -> None:
    """Bring a smooth convex loss to its minimum with L-BFGS, changing the parameters in place."""
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=500, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]


def _need_both(y: Whole, weight: Array, task: str) -> None:
    counted = y[weight > 0]
    columns = counted[:, None] if task == "binary" else counted
    if len(counted) == 0:
        raise ValueError("no labelled clip to fit a calibrator on; give a split with labels")
    if task == "multiclass":
        if len(np.unique(counted)) < 2:
            raise ValueError("every clip has the same class; a calibrator needs several")
        return
    for k in range(columns.shape[1]):
        positives = int(columns[:, k].sum())
        if positives in (0, len(columns)):
            where = "" if task == "binary" else f" for label {k}"
            raise ValueError(
                f"{positives} of {len(columns)} labelled clips are positive{where}; a calibrator "
                "needs both kinds"
            )


def _temperatures(z: Array, y: Whole, task: str, weight: Array | None) -> list[float]:
    if task == "multilabel":
        pairs = [(z[:, k], y[:, k]) for k in range(z.shape[1])]
        return [_temperatures(x, t, "binary", weight)[0] for x, t in pairs]
    if weight is None:
        names = tuple(str(k) for k in range(2 if z.ndim == 1 else z.shape[1]))
        spec = TaskSpec("cascade", "binary" if z.ndim == 1 else "multiclass", names)
        return [fit_temperature(torch.from_numpy(z.copy()), torch.from_numpy(y.copy()), spec)]
    logits, labels, share = _tensors(z, y, weight)
    log_beta = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    minimise([log_beta], lambda: _loss(logits * log_beta.clamp(-4.7, 4.7).exp(), labels, share))
    return [float((-log_beta.detach().clamp(-4.7, 4.7)).exp())]


def _platt(z: Array, y: Whole, weight: Array | None) -> tuple[float, float]:
    """Unweighted: the library's own fit. Weighted: the same likelihood with weighted counts."""
    if weight is None:
        point = choose_operating_point(torch.from_numpy(z.copy()), torch.from_numpy(y.copy()), 0.5)
        return point.scale, point.bias
    logits, truth, share = _tensors(z, y, weight)
    # Weights that average 1 keep the counts of Platt's soft targets.
    up = float((share * truth).sum()) * len(z)
    soft = torch.where(truth > 0, (up + 1) / (up + 2), 1 / (len(z) - up + 2)).double()
    spread = logits.std().clamp_min(1e-6)
    found = torch.zeros(2, dtype=torch.float64, requires_grad=True)  # log scale, bias
    minimise([found], lambda: _loss(found[0].exp() / spread * logits + found[1], soft, share))
    return float(found[0].detach().exp() / spread), float(found[1].detach())


def _fit_multiclass(kind: str, z: Array, y: Whole, weight: Array, penalty: float) -> Calibrator:
    logits, labels, share = _tensors(z, y, weight)
    classes = z.shape[1]
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    if kind == "vector":
        log_scale = torch.zeros(classes, dtype=torch.float64, requires_grad=True)

        def vector_loss() -> Tensor:
            made = log_scale.exp() * logits + bias
            return _loss(made, labels, share) + penalty * (log_scale**2).mean()

        minimise([log_scale, bias], vector_loss)
        return Affine("vector", tuple(log_scale.detach().exp().tolist()), _centred(bias))
    same = torch.eye(classes, dtype=torch.float64)
    change = torch.zeros_like(same, requires_grad=True)

    def matrix_loss() -> Tensor:
        made = logits @ (same + change).T + bias
        return _loss(made, labels, share) + penalty * (change**2).mean()

    minimise([change, bias], matrix_loss)
    rows = (same + change).detach().tolist()
    return Matrix(tuple(tuple(row) for row in rows), _centred(bias))


def _fit_isotonic(z: Array, y: Whole, weight: Array) -> tuple[tuple[float, ...], tuple[float, ...]]:
    try:
        from sklearn.isotonic import IsotonicRegression  # type: ignore[import-untyped]
    except ImportError:
        raise ValueError(
            "an isotonic calibrator is fitted with scikit-learn, which is not installed; "
            "pip install 'coefvq[cascade]', or use affine"
        ) from None
    fitted = IsotonicRegression(out_of_bounds="clip").fit(z, y, sample_weight=weight)
    up = float((weight / weight.sum()) @ y) * len(y)
    chance = np.clip(fitted.y_thresholds_, 1 / (len(y) - up + 2), (up + 1) / (up + 2))
    return tuple(fitted.X_thresholds_.tolist()), tuple(log_odds(chance).tolist())


def _loss(logits: Tensor, target: Tensor, share: Tensor) -> Tensor:
    if logits.ndim == 2:
        return (share * F.cross_entropy(logits, target, reduction="none")).sum()
    loss = F.binary_cross_entropy_with_logits(logits, target.double(), reduction="none")
    return (share * loss).sum()


def _tensors(z: Array, y: Whole, weight: Array) -> tuple[Tensor, Tensor, Tensor]:
    share = torch.from_numpy(weight / weight.sum())
    return torch.from_numpy(z.copy()), torch.from_numpy(y.copy()), share


def _centred(bias: Tensor) -> tuple[float, ...]:
    found: list[float] = (bias.detach() - bias.detach().mean()).tolist()
    return tuple(found)
