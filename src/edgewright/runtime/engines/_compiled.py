"""The engine of integer networks that are compiled for this machine."""

from __future__ import annotations

from edgewright.integers import IntegerNetwork, from_integers, to_integers
from edgewright.integers.c import CompiledNetwork
from edgewright.runtime.engines._engine import REFUSALS, Arrays, FileEngine


class CompiledEngine(FileEngine):
    """An integer network as C code, compiled for this machine.

    Inputs and outputs are floating point here and integers inside. Intermediate results lie in one
    block of memory, so that calls from several threads run one after another.

    Args:
        network: The network.

    Raises:
        MissingToolError: There is no C compiler.
        ModelError: The compiler failed.
    """

    def __init__(self, network: IntegerNetwork) -> None:
        super().__init__("c", REFUSALS)
        self._network, self._compiled = network, CompiledNetwork(network)

    def _compute(self, inputs: Arrays) -> Arrays:
        structure, tensors = self._network.structure, self._network.tensors
        if len(inputs) != len(structure.inputs):
            raise ValueError(f"given {len(inputs)} inputs, expected {len(structure.inputs)}")
        for port, array in zip(structure.inputs, inputs, strict=True):
            if array.shape[1:] != port.shape:
                raise ValueError(f"{port.name} has shape {array.shape}, expected "
                                 f"{(None, *port.shape)}")
        integers = [to_integers(array, port, tensors[port.tensor])
                    for array, port in zip(inputs, structure.inputs, strict=True)]
        return tuple(from_integers(found, port, tensors[port.tensor]) for found, port in zip(
            self._compiled.run(integers), structure.outputs, strict=True))
