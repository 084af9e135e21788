"""The engine of integer networks that are compiled for this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgewright.runtime.engines._engine import REFUSALS, Arrays, FileEngine, convert

if TYPE_CHECKING:
    from edgewright.integers import IntegerNetwork


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
        from edgewright.integers.c import CompiledNetwork  # noqa: PLC0415 - few bundles need it

        super().__init__("c", REFUSALS)
        self._network, self._compiled = network, CompiledNetwork(network)

    def _compute(self, inputs: Arrays) -> Arrays:
        ports = self._network.structure.inputs
        return self._compiled.run_values([
            convert(array, np.dtype(np.float32), port.name)
            for array, port in zip(inputs, ports, strict=True)])
