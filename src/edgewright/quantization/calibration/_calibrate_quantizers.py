"""Calibrate the quantizers of a network in a single pass over the data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, final

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from edgewright.core import Size, find_wrong_size
from edgewright.errors import DataError, UsageError
from edgewright.graph import sizes_of
from edgewright.quantization.scheme import Observer
from edgewright.quantization.simulation import FakeQuantizer
from edgewright.task import Task

_BATCH: Final = 64


def draw_training_inputs(task: Task, samples: int, seed: int = 0) -> Iterator[tuple[Tensor, ...]]:
    """Yield the inputs of random training samples without augmentation, up to 64 at a time.

    Args:
        task: The task whose training split is read.
        samples: Number of samples; if the split has fewer, all are used once.
        seed: Seed of the random choice.

    Raises:
        UsageError: ``samples`` is below 1.
        DataError: The split is empty, or a sample cannot be used.

    Example:
        >>> x, y = torch.rand(100, 4), torch.arange(100) % 2
        >>> task = Task((x, y), (x[:1], y[:1]), (x[1:2], y[1:2]))
        >>> [len(inputs[0]) for inputs in draw_training_inputs(task, 70)]
        [64, 6]
    """
    if samples < 1:
        raise UsageError(f"calibration needs at least 1 sample, got {samples}")
    room = samples
    for batch in task.train.batches(_BATCH, shuffle_seed=seed):
        yield tuple(tensor[:room] for tensor in batch.inputs)
        room -= batch.size
        if room <= 0:
            return


def calibrate_quantizers(module: nn.Module, observed: Mapping[str, FakeQuantizer],
              batches: Iterable[tuple[Tensor, ...]]) -> None:
    """Run inputs through a network and set its quantizers' ranges from their observers.

    Before the call, each quantizer must be in mode ``observe`` and have an observer; afterwards it
    is in mode ``quantize`` and has none. Only the observers store information about the data, and
    their memory does not grow with the data.

    Args:
        module: The network in evaluation mode. For a graph module the shapes of the inputs are
            checked.
        observed: The module's quantizers, by the name of the value they quantize; if empty, no
            batch is read.
        batches: The inputs, as yielded by `draw_training_inputs` or `synthesize_inputs`.

    Raises:
        DataError: There is no batch; a batch does not fit the module; a value is NaN or infinite;
            a quantizer observed nothing. The message names the quantized value.

    Example:
        >>> from edgewright.quantization import Grid, MinMax
        >>> from edgewright.quantization.simulation import FakeQuantizer
        >>> grid = Grid(8, signed=False, symmetric=False, role="activation")
        >>> quantizer = FakeQuantizer(grid)
        >>> quantizer.observer = MinMax().observer(grid)
        >>> quantizer.mode = "observe"
        >>> calibrate_quantizers(quantizer, {"x": quantizer}, [(torch.tensor([0., 510.]),)])
        >>> quantizer.scale.item(), quantizer.mode
        (2.0, 'quantize')
    """
    named = {name: _NamedObserver(name, quantizer) for name, quantizer in observed.items()}
    with torch.no_grad():
        for inputs in validate_batches(module, batches) if named else ():
            module(*inputs)
    for name, quantizer in observed.items():
        quantizer.set_range(*named[name].range())
        quantizer.observer = None
        quantizer.mode = "quantize"


def validate_batches(module: nn.Module, batches: Iterable[tuple[Tensor, ...]],
            ) -> Iterator[tuple[Tensor, ...]]:
    """Yield the same batches after checking that they fit the module.

    Args:
        module: For a graph module, the shapes of the inputs and whether they are integers are
            checked.
        batches: The inputs.

    Raises:
        DataError: A batch does not fit the graph, or there is no sample.

    Example:
        >>> list(validate_batches(nn.ReLU(), []))
        Traceback (most recent call last):
            ...
        edgewright.errors.DataError: calibration got no samples; at least one is needed, pass \
training data
    """
    takes = module.graph.find_nodes(op="placeholder") if isinstance(module, GraphModule) else None
    shown = 0
    for inputs in batches:
        if takes is not None:
            _check_shapes(inputs, takes)
            _check_types(inputs, takes)
        shown += len(inputs[0])
        yield inputs
    if shown == 0:
        raise DataError("calibration got no samples; at least one is needed, pass training data")


@final
class _NamedObserver:
    """Wraps a quantizer's observer, so that its errors name the quantized value."""

    def __init__(self, name: str, quantizer: FakeQuantizer) -> None:
        if quantizer.observer is None or quantizer.mode != "observe":
            raise UsageError(f"the quantizer of {name} is in mode {quantizer.mode!r} with observer "
                             f"{quantizer.observer!r}; expected mode 'observe' and an observer "
                             "from create_observer")
        self._name = name
        self._observer: Observer = quantizer.observer
        quantizer.observer = self

    def update(self, x: Tensor) -> None:
        try:
            self._observer.update(x)
        except DataError as error:
            raise DataError(f"calibration of {self._name}: {error}") from error

    def range(self) -> tuple[Tensor, Tensor]:
        try:
            return self._observer.range()
        except DataError as error:
            raise DataError(f"calibration of {self._name}: {error}") from error


def _check_shapes(inputs: tuple[Tensor, ...], takes: list[Node]) -> None:
    given, expected = ([tuple(tensor.shape[1:]) for tensor in inputs],
                       [sizes_of(node.meta["val"])[1:] for node in takes])
    if [*map(len, given)] != [*map(len, expected)] or any(
            find_wrong_size(*sizes) is not None for sizes in zip(given, expected, strict=True)):
        raise DataError(f"calibration samples have {_format_shapes(given)}, but the program "
                        f"expects {_format_shapes(expected)}; pass samples of the shapes with "
                        "which the program was captured")


def _check_types(inputs: tuple[Tensor, ...], takes: list[Node]) -> None:
    for tensor, node in zip(inputs, takes, strict=True):
        expected = node.meta["val"].dtype
        if tensor.is_floating_point() != expected.is_floating_point:
            raise DataError(f"calibration samples have type {tensor.dtype} for {node.name}, but "
                            f"the program expects {expected}; pass samples of the types with "
                            "which the program was captured")


def _format_shapes(shapes: Sequence[Sequence[Size]]) -> str:
    shown = ", ".join(f"({', '.join(map(str, sizes))}{',' * (len(sizes) == 1)})"
                      for sizes in shapes)
    return f"shape {shown}" if len(shapes) == 1 else f"{len(shapes)} inputs of shapes {shown}"
