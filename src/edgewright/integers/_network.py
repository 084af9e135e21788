"""A network that computes with integers alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from edgewright.core import Value
from edgewright.integers._check import check_exits, check_steps
from edgewright.integers._exits import ExitTest
from edgewright.integers._steps import IntegerTensor, Port, Step


class Structure(Value):
    """An integer network without its constants.

    Attributes:
        tensors: All stored tensors of one sample.
        steps: What is computed, in order.
        inputs: What the caller writes, in order.
        outputs: What the caller reads, in order.
        exits: Tests of the outputs but the last, if a sample may leave at one of them: then the
            caller reads one output, that of the exit where the sample left. None where no sample
            leaves.
    """

    tensors: tuple[IntegerTensor, ...]
    steps: tuple[Step, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    exits: tuple[ExitTest | None, ...] = ()


@final
@dataclass(frozen=True)
class IntegerNetwork:
    """A network that computes with integers alone, the same on every machine.

    What a step computes is defined in its docstring and by `run_reference`, bit for bit.

    Attributes:
        structure: Tensors and steps.
        constants: Weights, biases, factors, shifts and tables, by name.

    Raises:
        ValueError: A step does not fit its tensors or constants; the message names it.
    """

    structure: Structure
    constants: Mapping[str, NDArray[Any]]

    def __post_init__(self) -> None:
        constants = {name: _freeze(array) for name, array in self.constants.items()}
        object.__setattr__(self, "constants", MappingProxyType(constants))
        if len(self.tensors) != len(self.structure.tensors):
            raise ValueError("two tensors share a name")
        check_steps(self.tensors, self.steps, self.structure.inputs, self.structure.outputs,
                    self.constants)
        if self.structure.exits:
            check_exits(self.tensors, self.steps, self.structure.outputs,
                        len(self.structure.exits))

    @cached_property
    def tensors(self) -> Mapping[str, IntegerTensor]:
        """The stored tensors by name."""
        return {tensor.name: tensor for tensor in self.structure.tensors}

    @property
    def steps(self) -> tuple[Step, ...]:
        """What is computed, in order."""
        return self.structure.steps

    def parts(self) -> tuple[tuple[int, ...], ...]:
        """The numbers of the steps that each output needs in addition to those before it."""
        by_output = {step.output: number for number, step in enumerate(self.steps)}
        known: set[int] = set()
        found = []
        for port in self.structure.outputs:
            pending, needed = [port.tensor], set[int]()
            while pending:
                number = by_output.get(pending.pop())
                if number is not None and number not in known | needed:
                    needed.add(number)
                    pending += self.steps[number].inputs
            known |= needed
            found.append(tuple(sorted(needed)))
        return tuple(found)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all convolutions for one sample."""
        total = 0
        for step in self.steps:
            if step.kind == "convolution":
                height, width, _ = step.window.outputs
                total += height * width * self.constants[step.weight].size
        return total


def _freeze(array: NDArray[Any]) -> NDArray[Any]:
    copy = np.array(array)
    copy.setflags(write=False)
    return copy
