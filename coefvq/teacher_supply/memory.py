"""Will a live teacher fit beside a student: what a training step needs, before one is taken.

Models are run once with tensors that have shapes and no content (PyTorch's fake tensors), forward
and backward, and what would be alive at any moment is added up. Nothing is allocated, no random
number is drawn, and a published-size model takes seconds.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from coefvq.types import Batch

_PRECISIONS: dict[str, tuple[torch.dtype | None, torch.dtype | None]] = {
    "bf16-mixed": (None, torch.bfloat16),
    "16-mixed": (None, torch.float16),
    "bf16-true": (torch.bfloat16, None),
    "16-true": (torch.float16, None),
    "64-true": (torch.float64, None),
}
"""Lightning's words: what weights are kept in, what autocast computes in. Others change nothing."""

_GB = 1e9


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a training step needs on one device.

    Args:
        teacher: parameters and buffers of all live teachers.
        student: likewise of the student.
        optimizer: state of the optimizer.
        working: the most that gradients, activations and the batch take at one time; None where a
            model cannot be run without content.
        clips: in the batch.
        resident: parameters and buffers that are on the device already.
        available: free memory of the device when the estimate was made.
        device: which one.
        alone: `working` without the teachers.
    """

    teacher: int
    student: int
    optimizer: int
    working: int | None
    clips: int
    resident: int
    available: int
    device: str
    alone: int | None = None

    @property
    def total(self) -> int:
        """All of it; without the working memory where that is not known."""
        return self.teacher + self.student + self.optimizer + (self.working or 0)

    @property
    def fits(self) -> bool:
        """Whether what is not there yet fits into what is free."""
        return self.total - self.resident <= self.available

    def sentence(self) -> str:
        """What to print: the parts, the sum, what the device has."""
        working = (
            f"gradients and activations of {self.clips} clips {_gb(self.working)}"
            if self.working is not None
            else "gradients and activations that cannot be estimated"
        )
        return (
            f"teacher {_gb(self.teacher)}, student {_gb(self.student)}, optimizer "
            f"{_gb(self.optimizer)}, {working}: about {_gb(self.total)}, of which "
            f"{_gb(self.resident)} is loaded; {self.device} has {_gb(self.available)} free"
        )

    def check_fits(self) -> None:
        """Raise a ValueError if the step will not fit; it says whether the cache would help."""
        alone = self.student + self.optimizer + (self.alone or 0)
        if not self.fits and alone - min(self.resident, self.student) > self.available:
            raise ValueError(
                f"a step of this student does not fit, with or without a teacher beside it "
                f"({self.sentence()}); lower data.batch_size, or choose a smaller student"
            )
        if not self.fits:
            raise ValueError(
                f"this teacher does not fit beside this student ({self.sentence()}); write down "
                "what it says once with python -m coefvq.cache_teacher and train with "
                "teacher=cached, or lower data.batch_size"
            )


def estimate_memory(
    student: nn.Module,
    teachers: Sequence[nn.Module],
    batch: Batch,
    *,
    device: torch.device | str = "cpu",
    precision: str = "32-true",
    optimizer_states: int = 2,
) -> MemoryEstimate:
    """Add up what a training step keeps at one time.

    weights + optimizer + the largest of: the teachers' forward pass (without gradients, one after
    the other), the student's forward pass, its backward pass, and the optimizer's step. Lightning
    drops the last step's gradients between forward and backward pass: they count in both of these.

    Not in it: workspaces inside a kernel, fragmentation, copies for EMA, buckets of DDP, the losses
    (logits are small), decoding processes. Activations are those that PyTorch's CPU kernels keep,
    whatever the device. Held against the peak of real steps on a CPU, published size and AdamW: see
    `tests/test_memory.py`.

    Args:
        student: in training mode here, whatever its mode; left as it is.
        teachers: live ones; none for cached outputs and tables.
        batch: as large as in training; only its shapes are read.
        device: where training will be.
        precision: `trainer.precision`, in Lightning's words.
        optimizer_states: numbers that the optimizer keeps per weight: 2 for AdamW, 1 for SGD with
            momentum.
    """
    device = torch.device(device)
    dtype, autocast = _PRECISIONS.get(precision, (None, None))
    everyone = [student, *teachers]
    sizes = [sum(_bytes(t, dtype) for t in _tensors(module)) for module in everyone]
    trainable = sum(_bytes(p, dtype) for p in student.parameters() if p.requires_grad)
    resident = sum(
        _bytes(t) for m in everyone for t in _tensors(m) if _is_there(t) and t.device == device
    )
    working = _working(student, teachers, batch, dtype, autocast, trainable)
    return MemoryEstimate(
        teacher=sum(sizes[1:]),
        student=sizes[0],
        optimizer=optimizer_states * trainable,
        working=None if working is None else working[0],
        alone=None if working is None else working[1],
        clips=len(batch),
        resident=resident,
        available=free_memory(device),
        device=str(device),
    )


def free_memory(device: torch.device | str = "cpu") -> int:
    """Bytes that are free on a device; on a CPU within the limits of the container."""
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    lines = _numbers(Path("/proc/meminfo"))
    if "MemAvailable" not in lines:  # not Linux: nothing is known, so nothing is refused
        return 1 << 62
    free = lines["MemAvailable"] * 1024
    with contextlib.suppress(OSError, ValueError):  # no control group, or no limit ("max")
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())
        used = _numbers(group / "memory.stat")  # files in its page cache can be dropped
        free = min(free, limit - used["anon"] - used.get("kernel", 0))
    return max(free, 0)


class _Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of the storages that operators made and that still exist, and the most there was."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        given = {storage._cdata for storage in _storages((args, kwargs))}
        out = func(*args, **(kwargs or {}))
        for storage in _storages(out):
            key = storage._cdata
            if key not in self._known and key not in given:  # views are of what was there
                self._known[key] = storage.nbytes()
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._free, key)
        return out

    def _free(self, key: int) -> None:
        self.now -= self._known.pop(key, 0)


def _storages(tree: Any) -> Iterator[torch.UntypedStorage]:
    return (leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def _working(
    student: nn.Module,
    teachers: Sequence[nn.Module],
    batch: Batch,
    dtype: torch.dtype | None,
    autocast: torch.dtype | None,
    gradients: int,
) -> tuple[int, int] | None:
    """The most that a step takes beside weights, with the teachers and without them."""
    try:
        asked = [_forward(teacher, batch, dtype, autocast) for teacher in teachers]
        forward, backward = _forward_backward(student, batch.public(), dtype, autocast)
    except Exception:  # a model that looks at values cannot be run without any; each in its own way
        return None
    whole = sum(_bytes(v, dtype) for v in vars(batch).values() if isinstance(v, Tensor))
    # The step of an optimizer that treats all tensors at once makes copies of them.
    alone = max(gradients + max(forward, gradients), backward)
    return whole + max(alone, gradients + max([0, *asked])), whole + alone


def _forward(
    module: nn.Module, batch: Batch, dtype: torch.dtype | None, autocast: torch.dtype | None
) -> int:
    with _run(module, batch, dtype, autocast, training=False) as (alive, call, _), torch.no_grad():
        before = alive.now
        call()
        return alive.peak - before


def _forward_backward(
    module: nn.Module, batch: Batch, dtype: torch.dtype | None, autocast: torch.dtype | None
) -> tuple[int, int]:
    with _run(module, batch, dtype, autocast, training=True) as (alive, call, weights):
        before = alive.now
        outputs = [v for v in vars(call()).values() if isinstance(v, Tensor) and v.requires_grad]
        forward = alive.peak - before
        total = torch.stack([output.float().sum() for output in outputs]).sum()
        del outputs
        torch.autograd.grad(total, weights, allow_unused=True)
        return forward, alive.peak - before


@contextlib.contextmanager
def _run(
    module: nn.Module,
    batch: Batch,
    dtype: torch.dtype | None,
    autocast: torch.dtype | None,
    *,
    training: bool,
) -> Iterator[tuple[_Alive, Callable[[], Any], list[Tensor]]]:
    """A call of the module on tensors without content, in a mode that is taken back afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    mixed = torch.autocast("cpu", dtype=autocast, enabled=autocast is not None)
    try:
        module.train(training)
        with FakeTensorMode(), _Alive() as alive, mixed:
            state = {name: _empty(value, dtype) for name, value in named.items()}
            shapes = batch._map(lambda tensor: _empty(tensor, None))
            weights = [value for value in state.values() if value.requires_grad]
            yield alive, lambda: torch.func.functional_call(module, state, (shapes,)), weights
    finally:
        for part, mode in modes:
            part.training = mode


def _empty(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    dtype = dtype if dtype is not None and value.is_floating_point() else value.dtype
    return torch.empty(value.shape, dtype=dtype, requires_grad=value.requires_grad)


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _bytes(value: Tensor, dtype: torch.dtype | None = None) -> int:
    changed = dtype is not None and value.is_floating_point()
    return value.numel() * (dtype.itemsize if changed and dtype else value.element_size())


def _is_there(value: Tensor) -> bool:
    return not isinstance(value, FakeTensor) and value.device.type != "meta"


def _numbers(file: Path) -> dict[str, int]:
    """Lines of `name: 12 kB` or `name 12`; nothing where there is no such file."""
    if not file.exists():
        return {}
    words = [line.replace(":", " ").split() for line in file.read_text().splitlines()]
    return {w[0]: int(w[1]) for w in words if len(w) > 1 and w[1].isdigit()}


def _gb(size: int | None) -> str:
    return f"{(size or 0) / _GB:.2f} GB"


__all__ = ["MemoryEstimate", "estimate_memory", "free_memory"]
