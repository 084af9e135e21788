"""A split of tensors in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import final

from torch import Tensor

from edgewright.task._arrays import as_input, as_tensor
from edgewright.task._split import Batch, Split, check_equal_lengths, check_finite, to_class_indices
from edgewright.task._view import View


@final
class TensorSplit(Split):
    """Inputs and targets in memory, passed to the model unmodified, without augmentation.

    Args:
        inputs: One tensor (N, ...), or one per argument of the model; floating point is converted
            to float32.
        targets: Class indices, shape (N,), any integer type.
        name: Name used in error messages.

    Raises:
        DataError: Lengths differ, targets are not class indices, or an input is not finite.

    Example:
        >>> import torch
        >>> split = TensorSplit(torch.zeros(5, 3), torch.tensor([0, 1, 0, 1, 1]))
        >>> [len(batch.targets) for batch in split.batches(2)]
        [2, 2, 1]
    """

    def __init__(self, inputs: Tensor | Sequence[Tensor], targets: Tensor, *,
                 name: str = "data") -> None:
        tensors = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
        tensors = tuple(as_tensor(tensor, f"the inputs of the {name} split") for tensor in tensors)
        self._inputs = tuple(as_input(tensor, name) for tensor in tensors)
        targets = as_tensor(targets, f"the targets of the {name} split")
        check_equal_lengths(self._inputs, targets, name)
        check_finite(self._inputs, name)
        super().__init__(name, len(targets), to_class_indices(targets, name))

    def _stream(self, chunks: Sequence[Tensor], view: View | None) -> Iterator[Batch]:
        targets = self.labels()
        assert targets is not None  # noqa: S101  (given to the base)
        for chunk in chunks:
            rows = self._indices[chunk]
            yield Batch(tuple(t[rows] for t in self._inputs), targets[chunk], rows, view)
