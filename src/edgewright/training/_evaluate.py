"""Running a module over a split."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from edgewright.capture import count_exits
from edgewright.errors import DataError, EdgewrightError, UsageError
from edgewright.goals import Goal, Metric, read_metric
from edgewright.task import Batch, Split, map_targets
from edgewright.training._outputs import split_exits
from edgewright.training._score import Score


def evaluate_module(module: nn.Module, split: Split, goal: Goal, *,
                    exits: int | None = None, batch_size: int = 256,
                    device: torch.device | None = None) -> tuple[Score, ...]:
    """The primary metric of each of the module's exits on a split.

    Runs in evaluation mode without gradients, and restores the module's mode.

    Args:
        module: Takes the split's inputs; its outputs fit the goal.
        split: The samples of a task with this goal.
        goal: What the outputs are for.
        exits: Number of early exits; None uses that of a captured network, and 0 otherwise.
        batch_size: Samples per batch.
        device: Device of the batches; None uses the module's.

    Returns:
        One score per exit, the final one last.

    Raises:
        ModelError: The outputs do not fit the goal.

    Example:
        >>> from edgewright.goals import Classification
        >>> from edgewright.task import TensorSplit
        >>> split = TensorSplit(torch.eye(4), torch.tensor([0, 1, 2, 0]))
        >>> print(*evaluate_module(torch.nn.Identity(), split, Classification()))
        accuracy 75.00 %
    """
    primary = goal.metrics[0]
    metrics: list[Metric] = []
    for outputs, batch in run_batches(module, split, exits=exits, batch_size=batch_size,
                                      device=device):
        metrics = metrics or [primary.make() for _ in outputs]
        for metric, output in zip(metrics, outputs, strict=True):
            goal.check_outputs(output, batch.inputs)
            update_metric(goal, metric, output, batch.targets)
    return tuple(Score.of(primary.spec, read_metric(primary.spec.name, metric))
                 for metric in metrics)


def measure_loss(module: nn.Module, split: Split, goal: Goal, *, exits: int | None = None,
                 batch_size: int = 256) -> float:
    """The goal's mean loss on a split, over all exits; see `evaluate_module`.

    Example:
        >>> from edgewright.goals import Classification
        >>> from edgewright.task import TensorSplit
        >>> split = TensorSplit(torch.zeros(2, 2), torch.tensor([0, 1]))
        >>> round(measure_loss(torch.nn.Identity(), split, Classification()), 4)
        0.6931
    """
    total = 0.0
    for outputs, batch in run_batches(module, split, exits=exits, batch_size=batch_size):
        losses = [float(goal.loss(output, batch.targets)) for output in outputs]
        total += sum(losses) / len(losses) * batch.size
    return total / len(split)


def update_metric(goal: Goal, metric: Metric, output: Any, targets: Any) -> None:
    """Add a batch to a metric of a goal, on the CPU.

    Raises:
        UsageError: The metric raises; the message names it.
    """
    prediction, expected = goal.metric_inputs(*pytree.tree_map_only(
        Tensor, lambda tensor: tensor.detach().cpu(), (output, targets)))
    try:
        metric.update(prediction, expected)
    except EdgewrightError:
        raise
    except Exception as error:
        name = type(metric).__name__
        raise UsageError(f"the metric {name} cannot take this batch: {type(error).__name__}: "
                         f"{error}") from error


def check_metrics(goal: Goal, output: Any, targets: Any) -> None:
    """Update and compute a goal's metrics on a few samples, so that they fail before any work.

    Raises:
        UsageError: A metric raises, or returns anything but one number.
    """
    for metric in goal.metrics:
        made = metric.make()
        update_metric(goal, made, output, targets)
        with suppress(DataError):  # so few samples may all be of one class
            read_metric(metric.spec.name, made)


def device_of(module: nn.Module) -> torch.device:
    """The device of a module's first tensor; the CPU for a module without tensors."""
    first = next(chain(module.parameters(), module.buffers()), None)
    return torch.device("cpu") if first is None else first.device


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move a batch's inputs and targets to a device."""
    return batch._replace(
        inputs=tuple(tensor.to(device, non_blocking=True) for tensor in batch.inputs),
        targets=map_targets(lambda tensor: tensor.to(device, non_blocking=True), batch.targets))


def run_batches(module: nn.Module, split: Split, *, exits: int | None = None,
                batch_size: int = 256, device: torch.device | None = None,
                ) -> Iterator[tuple[tuple[Any, ...], Batch]]:
    """Run the module on each batch of a split.

    Args:
        module: Runs in evaluation mode without gradients.
        split: The samples.
        exits: Number of early exits; None uses that of a captured network, and 0 otherwise.
        batch_size: Samples per batch.
        device: Device of the batches; None uses the module's.

    Yields:
        What every exit returns, the final one last, and the batch, both on the device.

    Raises:
        ModelError: The module does not return one output per exit.

    Example:
        >>> from edgewright.task import TensorSplit
        >>> split = TensorSplit(torch.eye(3), torch.tensor([0, 1, 2]))
        >>> [len(outputs) for outputs, _ in run_batches(torch.nn.Identity(), split, batch_size=2)]
        [1, 1]
    """
    device = device_of(module) if device is None else device
    exits = count_exits(module) if exits is None else exits
    was_training = module.training
    module.eval()
    try:
        for batch in split.batches(batch_size):
            batch = to_device(batch, device)  # noqa: PLW2901
            with torch.inference_mode():
                outputs = split_exits(module(*batch.inputs), exits)
            yield outputs, batch
    finally:
        module.train(was_training)
