"""A split of tensors in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, final

from torch import Tensor

from edgewright.task._arrays import as_input, as_targets, as_tensor
from edgewright.task._split import Batch, Split
from edgewright.task._split_checks import check_equal_lengths, check_finite
from edgewright.task._targets import select_rows
from edgewright.task._view import View


@final
class TensorSplit(Split):
    """Inputs and targets in memory, passed to the model unmodified, without augmentation.

    Args:
        inputs: One tensor (N, ...), or one per argument of the model; floating point is converted
            to float32.
        targets: The target of each sample: a tensor (N, ...) such as class indices (N,), or a dict
            or tuple of tensors; None if the task's goal needs none.
        name: Name used in error messages.

    Raises:
        DataError: Lengths differ, or an input is not finite.

    Example:
        >>> import torch
        >>> split = TensorSplit(torch.zeros(5, 3), torch.tensor([0, 1, 0, 1, 1]))
        >>> [len(batch.targets) for batch in split.batches(2)]
        [2, 2, 1]
    """

    def __init__(self, inputs: Tensor | Sequence[Tensor], targets: Any = None, *,
                 name: str = "data") -> None:
        tensors = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
        tensors = tuple(as_tensor(tensor, f"the inputs of the {name} split") for tensor in tensors)
        self._inputs = tuple(as_input(tensor, name) for tensor in tensors)
        targets = as_targets(targets, name)
        check_equal_lengths(self._inputs, targets, name)
        check_finite(self._inputs, name)
        super().__init__(name, len(self._inputs[0]), targets)

    def _stream(self, chunks: Sequence[Tensor], view: View | None) -> Iterator[Batch]:
        for chunk in chunks:
            rows = self._indices[chunk]
            yield Batch(tuple(t[rows] for t in self._inputs), select_rows(self._targets, rows),
                        rows, view)
