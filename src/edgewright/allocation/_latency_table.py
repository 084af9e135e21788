"""Tables of measured latencies: every layer at a grid of widths."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from torch.fx import Node

from edgewright.core import write_atomically
from edgewright.errors import StorageError
from edgewright.graph import ops, weight_of
from edgewright.program import Program


@final
@dataclass(frozen=True)
class LayerTimes:
    """One layer's latency over a grid of input and output channels.

    Attributes:
        inputs: Numbers of input channels it was timed at, ascending.
        outputs: Numbers of output channels it was timed at, ascending. Empty if they depend on the
            inputs, as in a depthwise convolution.
        times_ms: One row for each of ``inputs``, with one entry for each of ``outputs``, or one
            entry per row if ``outputs`` is empty.

    Example:
        >>> LayerTimes((8, 16), (8, 16), ((1.0, 2.0), (2.0, 4.0))).at(12, 16)
        3.0
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    times_ms: tuple[tuple[float, ...], ...]

    def at(self, inputs: float, outputs: float) -> float:
        """Milliseconds at any widths: linear interpolation on the grid, constant outside of it."""
        table = np.array(self.times_ms)
        by_output = [float(np.interp(inputs, self.inputs, column)) for column in table.T]
        return float(np.interp(outputs, self.outputs, by_output)) if self.outputs else by_output[0]


@final
@dataclass(frozen=True)
class LatencyTable:
    """Measured latencies of a program's layers, scaled to add up to the program's latency.

    Attributes:
        runtime: Name and version of the runtime that ran the layers.
        layers: Times of every layer that reads a stored weight, by `find_layers`.

    Example:
        >>> times = LayerTimes((8, 16), (8, 16), ((1.0, 2.0), (2.0, 4.0)))
        >>> table = LatencyTable("a clock", {"fc": times}).rescale({"fc": (16, 16)}, 6.0)
        >>> table.layers["fc"].at(8, 8)
        1.5
    """

    runtime: str
    layers: Mapping[str, LayerTimes]

    def match_layers(self, program: Program, shape: Callable[[Node], tuple[Any, ...]],
                     ) -> Iterator[tuple[Node, LayerTimes, Any, Any]]:
        """Each layer of a program that is in the table, its times, and its two sizes."""
        for key, node in find_layers(program).items():
            if key in self.layers:
                yield node, self.layers[key], *channel_sizes(node, shape)

    def rescale(self, widths: Mapping[str, tuple[int, int]], whole_ms: float) -> LatencyTable:
        """Scale the table so that the layers add up to ``whole_ms`` at the given widths."""
        total = sum(self.layers[key].at(*sizes) for key, sizes in widths.items())
        scale = whole_ms / total if total > 0 else 1.0
        return LatencyTable(self.runtime, {
            key: LayerTimes(layer.inputs, layer.outputs, tuple(
                tuple(time * scale for time in row) for row in layer.times_ms))
            for key, layer in self.layers.items()})

    def save(self, path: Path) -> None:
        """Write the table as JSON, atomically.

        Raises:
            StorageError: The file cannot be written.
        """
        write_atomically(path, json.dumps(asdict(self), indent=1).encode())

    @classmethod
    def load(cls, path: Path) -> LatencyTable:
        """Read a saved table.

        Raises:
            StorageError: The file is missing or is not a latency table.
        """
        try:
            stored = json.loads(path.read_text())
            layers = {key: LayerTimes(tuple(layer["inputs"]), tuple(layer["outputs"]),
                                      tuple(tuple(row) for row in layer["times_ms"]))
                      for key, layer in stored["layers"].items()}
            return cls(stored["runtime"], layers)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StorageError(f"{path} is not a table of latencies ({error}); delete it to "
                               "measure again") from error


def find_layers(program: Program) -> dict[str, Node]:
    """Every convolution and linear layer with a stored weight, by the weight's name.

    If a weight is used several times, ``#`` and the number of earlier uses are appended.
    """
    found: dict[str, Node] = {}
    uses: Counter[str] = Counter()
    for node in program.calls():
        weight = weight_of(node)
        if weight is None or node.target not in ops.LAYERS:
            continue
        name = str(weight.target)
        found[f"{name}#{uses[name]}" if uses[name] else name] = node
        uses[name] += 1
    return found


def channel_sizes(node: Node, shape: Callable[[Node], tuple[Any, ...]]) -> tuple[Any, Any]:
    """Sizes of the channel dimension of a layer's input and output."""
    axis = 1 if node.target in ops.CONVOLUTIONS else -1
    source = node.args[0]
    if not isinstance(source, Node):
        raise TypeError(f"{node.name} does not read a tensor")
    return shape(source)[axis], shape(node)[axis]
