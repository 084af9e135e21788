"""Running a module over a split."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn

from edgewright.task import Batch, Split
from edgewright.training._outputs import as_outputs, check_logits


class Predictions(NamedTuple):
    """A module's outputs on a split, on the CPU, in the order of the samples.

    Attributes:
        outputs: Logits (N, classes), one tensor per output.
        targets: Class indices, (N,) int64.
    """

    outputs: tuple[Tensor, ...]
    targets: Tensor


def evaluate_module(module: nn.Module, split: Split, *, batch_size: int = 256,
                    device: torch.device | None = None) -> tuple[float, ...]:
    """The accuracy of each of the module's outputs on a split.

    Runs in evaluation mode without gradients, and restores the module's mode.

    Args:
        module: Takes the split's inputs; returns logits, or a tuple of them.
        split: The samples.
        batch_size: Samples per batch.
        device: Device of the batches; None uses the module's.

    Returns:
        Fractions between 0 and 1, one per output, the final one last.

    Raises:
        ModelError: An output is not floating point (N, classes) with at least two classes.

    Example:
        >>> from edgewright.task import TensorSplit
        >>> split = TensorSplit(torch.eye(4), torch.tensor([0, 1, 2, 0]))
        >>> evaluate_module(torch.nn.Identity(), split)
        (0.75,)
    """
    correct: list[int | Tensor] = []
    for outputs, batch in run_batches(module, split, batch_size=batch_size, device=device,
                                      logits=True):
        hits = [(logits.argmax(dim=1) == batch.targets).sum() for logits in outputs]
        correct = [a + b for a, b in zip(correct or [0] * len(hits), hits, strict=True)]
    return tuple(int(count) / len(split) for count in correct)


def predict(module: nn.Module, split: Split, *, batch_size: int = 256,
            device: torch.device | None = None) -> Predictions:
    """The module's outputs on a split; see `evaluate_module` for the arguments.

    Example:
        >>> from edgewright.task import TensorSplit
        >>> split = TensorSplit(torch.eye(3), torch.tensor([0, 1, 2]))
        >>> predict(torch.nn.Identity(), split, batch_size=2).outputs[0].shape
        torch.Size([3, 3])
    """
    batches = [(tuple(logits.cpu() for logits in outputs), batch.targets.cpu()) for outputs, batch
               in run_batches(module, split, batch_size=batch_size, device=device, logits=True)]
    by_output = zip(*(outputs for outputs, _ in batches), strict=True)
    return Predictions(tuple(torch.cat(parts) for parts in by_output),
                       torch.cat([targets for _, targets in batches]))


def device_of(module: nn.Module) -> torch.device:
    """The device of a module's first tensor; the CPU for a module without tensors."""
    first = next(chain(module.parameters(), module.buffers()), None)
    return torch.device("cpu") if first is None else first.device


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move a batch's inputs and targets to a device."""
    return batch._replace(
        inputs=tuple(tensor.to(device, non_blocking=True) for tensor in batch.inputs),
        targets=batch.targets.to(device, non_blocking=True))


def run_batches(module: nn.Module, split: Split, *, batch_size: int = 256,
                device: torch.device | None = None,
                logits: bool = False) -> Iterator[tuple[tuple[Tensor, ...], Batch]]:
    """Run the module on each batch of a split.

    Args:
        module: Runs in evaluation mode without gradients.
        split: The samples.
        batch_size: Samples per batch.
        device: Device of the batches; None uses the module's.
        logits: Raise if the outputs are not logits of a classifier.

    Yields:
        All output tensors, and the batch, both on the device.

    Raises:
        ModelError: The module does not return tensors, or not logits.

    Example:
        >>> from edgewright.task import TensorSplit
        >>> split = TensorSplit(torch.eye(3), torch.tensor([0, 1, 2]))
        >>> [len(outputs) for outputs, _ in run_batches(torch.nn.Identity(), split, batch_size=2)]
        [1, 1]
    """
    device = device_of(module) if device is None else device
    was_training = module.training
    module.eval()
    try:
        for batch in split.batches(batch_size):
            batch = to_device(batch, device)  # noqa: PLW2901
            with torch.inference_mode():
                outputs = as_outputs(module(*batch.inputs))
            if logits:
                check_logits(outputs, len(batch.targets))
            yield outputs, batch
    finally:
        module.train(was_training)
