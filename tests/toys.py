"""Small real parts for tests of the parts around them."""

import torch
from torch import nn
from torch.utils.data import DataLoader

from coefvq.types import Batch, StudentOutput, TeacherOutput


class ToyStudent(nn.Module):
    """A linear model of the frames' mean colour."""

    def __init__(self, num_outputs: int = 1, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.head = nn.Linear(3, num_outputs)

    def forward(self, batch: Batch) -> StudentOutput:
        assert batch.privileged is None, "a student must never be given privileged features"
        features = batch.frames.float().mean(dim=(1, 3, 4)) / 255
        logits = self.head(features)
        return StudentOutput(logits.squeeze(-1) if logits.shape[-1] == 1 else logits, features)


class ToyTeacher:
    """Reads the first privileged feature and is fairly sure of it."""

    def __call__(self, batch: Batch) -> TeacherOutput:
        assert batch.privileged is not None
        return TeacherOutput(3.0 * batch.privileged[:, 0])


def toy_batches(n: int = 16, batch_size: int = 8, seed: int = 0) -> list[Batch]:
    """Binary batches in which the label is whether red outweighs blue."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randint(0, 256, (n, 2, 3, 1, 1), generator=generator, dtype=torch.uint8)
    frames = frames.expand(n, 2, 3, 4, 4).contiguous()
    difference = frames[:, :, 0].float().mean((1, 2, 3)) - frames[:, :, 2].float().mean((1, 2, 3))
    labels = (difference > 0).float()
    privileged = torch.stack([difference / 100, torch.zeros(n)], 1)
    return [
        Batch(
            ids=tuple(f"clip{j}" for j in range(i, min(i + batch_size, n))),
            frames=frames[i : i + batch_size],
            frame_mask=torch.ones(len(labels[i : i + batch_size]), 2, dtype=torch.bool),
            labels=labels[i : i + batch_size],
            label_mask=torch.ones(len(labels[i : i + batch_size]), dtype=torch.bool),
            privileged=privileged[i : i + batch_size],
            privileged_mask=torch.ones(len(labels[i : i + batch_size]), 2, dtype=torch.bool),
        )
        for i in range(0, n, batch_size)
    ]


def toy_loader(**options) -> DataLoader:
    """The same batches, always in the same order."""
    return DataLoader(toy_batches(**options), batch_size=None)
