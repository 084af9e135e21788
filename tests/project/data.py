"""A user's data file."""

import torch
from torch import Tensor

from edgewright import Task
from edgewright.core import Preprocessing


def quadrants(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noisy 8 x 8 grey images, uint8; the class is the quadrant that is brighter."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (count,), generator=generator)
    images = torch.randint(0, 120, (count, 1, 8, 8), generator=generator)
    for index, label in enumerate(labels.tolist()):
        row, column = 4 * (label // 2), 4 * (label % 2)
        images[index, 0, row:row + 4, column:column + 4] += 90
    return images.to(torch.uint8), labels


def task() -> Task:
    recipe = Preprocessing(channels=1, height=8, width=8, mean=(0.3,), std=(0.2,))
    return Task(quadrants(320, 0), quadrants(80, 1), quadrants(120, 2), preprocessing=recipe,
                classes=("nw", "ne", "sw", "se"), name="quadrants")
