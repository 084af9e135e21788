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
    """Everything a module put out on a split, on the CPU, in the order of the samples.

    Attributes:
        outputs: Logits (N, classes), one tensor an output.
        targets: Class indices, (N,) int64.
    """

    outputs: tuple[Tensor, ...]
    targets: Tensor


def evaluate_module(module: nn.Module, split: Split, *, batch_size: int = 256,
                    device: torch.device | None = None) -> tuple[float, ...]:
    """The accuracy of each of the module's outputs on a split.

    Runs in evaluation mode, without gradients, and puts the module back into the mode it was in.

    Args:
        module: Takes the split's inputs; returns logits, or a tuple of them.
        split: The samples.
        batch_size: Samples at a time.
        device: Where the batches go; None for where the module is.

    Returns:
        Fractions between 0 and 1, one per output, the final one last.

    Raises:
        ModelError: An output is not floating point (N, classes) of two classes or more.

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
    """Everything the module puts out on a split; see `evaluate_module` for the arguments.

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
    """Where a module's first tensor is; the CPU for a module without any."""
    first = next(chain(module.parameters(), module.buffers()), None)
    return torch.device("cpu") if first is None else first.device


def on_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with every tensor on a device."""
    return batch._replace(
        inputs=tuple(tensor.to(device, non_blocking=True) for tensor in batch.inputs),
        targets=batch.targets.to(device, non_blocking=True))


def run_batches(module: nn.Module, split: Split, *, batch_size: int = 256,
                device: torch.device | None = None,
                logits: bool = False) -> Iterator[tuple[tuple[Tensor, ...], Batch]]:
    """What the module puts out for each batch of a split; see `evaluate_module`.

    Args:
        module: Runs in evaluation mode, without gradients.
        split: The samples.
        batch_size: Samples at a time.
        device: Where the batches go; None for where the module is.
        logits: Refuse outputs that are no logits of a classifier.

    Yields:
        All output tensors, and the batch, both on the device.

    Raises:
        ModelError: The module returns something else than tensors, or no logits.

    Example:
        >>> from edgewright.task import TensorSplit
        >>> split = TensorSplit(torch.eye(3), torch.tensor([0, 1, 2]))
        >>> [len(outputs) for outputs, _ in run_batches(torch.nn.Identity(), split, batch_size=2)]
        [1, 1]
    """
    where = device_of(module) if device is None else device
    was_training = module.training
    module.eval()
    try:
        for batch in split.batches(batch_size):
            there = on_device(batch, where)
            with torch.inference_mode():
                outputs = as_outputs(module(*there.inputs))
            if logits:
                check_logits(outputs, len(there.targets))
            yield outputs, there
    finally:
        module.train(was_training)
