"""Data go through a network once, and its quantisers get their ranges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, final

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from edgewright.errors import DataError, UsageError
from edgewright.graph import shape_of
from edgewright.quantization.scheme import Observer
from edgewright.quantization.simulation import FakeQuantizer
from edgewright.task import Task

_BATCH: Final = 64


def training_inputs(task: Task, samples: int, seed: int = 0) -> Iterator[tuple[Tensor, ...]]:
    """The inputs of random training samples, not augmented, up to 64 at a time.

    Args:
        task: Its training split is read.
        samples: How many; all of them, once each, where there are fewer.
        seed: Chooses them.

    Raises:
        UsageError: ``samples`` is below 1.
        DataError: The split is empty, or a sample cannot be used.

    Example:
        >>> x, y = torch.rand(100, 4), torch.arange(100) % 2
        >>> task = Task((x, y), (x[:1], y[:1]), (x[1:2], y[1:2]))
        >>> [len(inputs[0]) for inputs in training_inputs(task, 70)]
        [64, 6]
    """
    if samples < 1:
        raise UsageError(f"calibration needs 1 sample at least, got {samples}")
    room = samples
    for batch in task.train.batches(_BATCH, shuffle_seed=seed):
        yield tuple(tensor[:room] for tensor in batch.inputs)
        room -= len(batch.targets)
        if room <= 0:
            return


def calibrate(module: nn.Module, observed: Mapping[str, FakeQuantizer],
              batches: Iterable[tuple[Tensor, ...]]) -> None:
    """Show inputs to a network and set its quantisers' ranges to what their observers found.

    The quantisers are in mode ``observe``, with an observer each; afterwards they are in mode
    ``quantize`` and have none. Nothing is stored of the data but what observers keep, which does
    not grow with them.

    Args:
        module: In evaluation mode. Of a graph, the inputs' shapes are checked.
        observed: Quantisers of the module, by the name of what they quantise; where there are
            none, no batch is read.
        batches: The inputs, as `training_inputs` or `synthetic_inputs` give them.

    Raises:
        DataError: There is no batch; a batch does not fit the module; a value is NaN or infinite;
            a quantiser saw nothing. The value that is quantised is named.

    Example:
        >>> from edgewright.quantization import Grid, MinMax
        >>> from edgewright.quantization.simulation import FakeQuantizer
        >>> grid = Grid(8, signed=False, symmetric=False, role="activation")
        >>> quantizer = FakeQuantizer(grid)
        >>> quantizer.observer = MinMax().observer(grid)
        >>> quantizer.mode = "observe"
        >>> calibrate(quantizer, {"x": quantizer}, [(torch.tensor([0., 510.]),)])
        >>> quantizer.scale.item(), quantizer.mode
        (2.0, 'quantize')
    """
    named = {name: _Named(name, quantizer) for name, quantizer in observed.items()}
    with torch.no_grad():
        for inputs in fitting(module, batches) if named else ():
            module(*inputs)
    for name, quantizer in observed.items():
        quantizer.set_range(*named[name].range())
        quantizer.observer = None
        quantizer.mode = "quantize"


def fitting(module: nn.Module, batches: Iterable[tuple[Tensor, ...]],
            ) -> Iterator[tuple[Tensor, ...]]:
    """The same batches, once they are known to fit.

    Args:
        module: Of a graph, the inputs' shapes are checked, and whether they are integers.
        batches: The inputs.

    Raises:
        DataError: A batch is not what the graph takes, or there is no sample.

    Example:
        >>> list(fitting(nn.ReLU(), []))
        Traceback (most recent call last):
            ...
        edgewright.errors.DataError: calibration got no sample; expected one at least: give \
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
        raise DataError("calibration got no sample; expected one at least: give training data")


@final
class _Named:
    """A quantiser's observer, whose errors name what is quantised; takes its place."""

    def __init__(self, name: str, quantizer: FakeQuantizer) -> None:
        if quantizer.observer is None or quantizer.mode != "observe":
            raise UsageError(f"the quantiser of {name} is in mode {quantizer.mode!r} with observer "
                             f"{quantizer.observer!r}; expected 'observe' and one of "
                             "make_observer's")
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
                       [shape_of(node)[1:] for node in takes])
    if given != expected:
        raise DataError(f"calibration samples have {_listed(given)}, but the program takes "
                        f"{_listed(expected)}; give samples such as it was captured with")


def _check_types(inputs: tuple[Tensor, ...], takes: list[Node]) -> None:
    for tensor, node in zip(inputs, takes, strict=True):
        expected = node.meta["val"].dtype
        if tensor.is_floating_point() != expected.is_floating_point:
            raise DataError(f"calibration samples hold {tensor.dtype} for {node.name}, but the "
                            f"program takes {expected}; give samples such as it was captured with")


def _listed(shapes: list[tuple[int, ...]]) -> str:
    shown = ", ".join(map(str, shapes))
    return f"shape {shown}" if len(shapes) == 1 else f"{len(shapes)} inputs of shapes {shown}"
