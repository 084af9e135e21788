"""Where targets come from, for error messages."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Origin(NamedTuple):
    """The split and the rows that targets belong to.

    Attributes:
        split: Name of the split.
        rows: Index of each sample in the data, (N,) int64.
        classes: Number of classes that the task names; None if it names none.

    Example:
        >>> import torch
        >>> Origin("train", torch.tensor([5, 9])).sample(1)
        'sample 9 of the train split'
    """

    split: str
    rows: Tensor
    classes: int | None = None

    def sample(self, position: int) -> str:
        """Name the sample at a position of the batch."""
        return f"sample {int(self.rows[position])} of the {self.split} split"

    @property
    def targets(self) -> str:
        """Name the targets of the split."""
        return f"the targets of the {self.split} split"
