"""What a node of a program becomes in an integer network: a stored tensor and its order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.fx import Node

from edgewright.errors import ModelError
from edgewright.graph import TensorGrid, op_name, tensor_grid, user_location
from edgewright.integers import (
    Copy,
    ExitTest,
    IntegerNetwork,
    IntegerTensor,
    Part,
    Port,
    Step,
    Structure,
)

_INT32: Final = np.iinfo(np.int32)


@final
@dataclass(frozen=True)
class Grid:
    """The integers that a result is stored as, and the limits that it is clamped to.

    Attributes:
        scale: The step between two integers.
        zero_point: The integer that represents 0.
        low: The lowest integer.
        high: The highest integer.
        dtype: Name of the integers' type.
    """

    scale: float
    zero_point: int
    low: int
    high: int
    dtype: str

    @classmethod
    def of(cls, quantize: Node) -> Grid:
        """The grid of a quantization or dequantization."""
        return cls.read(tensor_grid(quantize))

    @classmethod
    def read(cls, grid: TensorGrid) -> Grid:
        """The same values in plain types."""
        return cls(float(grid.scale), int(grid.zero_point), int(grid.quant_min),
                   int(grid.quant_max), str(grid.dtype).removeprefix("torch."))

    @classmethod
    def fixed_point(cls, bound: float) -> Grid:
        """Integers of 32 bits for values up to a magnitude, their step a power of two."""
        exponent = int(np.ceil(np.log2(max(bound, 1e-30))))
        return cls(float(np.ldexp(1.0, exponent - 30)), 0, int(_INT32.min), int(_INT32.max),
                   "int32")

    def clamp(self, low: float | None, high: float | None) -> Grid:
        """The grid with limits in floating point."""
        new_low = self.low if low is None else max(self.low, self.integer(low))
        new_high = self.high if high is None else min(self.high, self.integer(high))
        return replace(self, low=min(new_low, self.high), high=max(new_high, self.low))

    def integer(self, value: float) -> int:
        """The nearest integer to a value, clamped."""
        steps = float(np.rint(np.float32(value) * np.float32(1 / self.scale)))
        return int(np.clip(steps + self.zero_point, self.low, self.high))

    def is_like(self, tensor: IntegerTensor) -> bool:
        """Whether a stored tensor's integers mean the same values."""
        return (tensor.dtype, tensor.scale, tensor.zero_point) == (
            self.dtype, self.scale, self.zero_point)


@final
@dataclass(frozen=True)
class Stored:
    """A value of the program as a stored tensor.

    Attributes:
        tensor: The stored tensor.
        shape: Its sizes in the program's order, without the batch.
        order: The program's dimension at every place of the stored tensor, without the batch.
    """

    tensor: IntegerTensor
    shape: tuple[int, ...]
    order: tuple[int, ...]

    def lies_as(self, order: tuple[int, ...]) -> bool:
        """Whether its elements are stored in the same sequence as in another order."""
        return self._wide(self.order) == self._wide(order)

    def _wide(self, order: tuple[int, ...]) -> list[int]:
        return [dim for dim in order if self.shape[dim] > 1]

    def strides(self) -> tuple[int, ...]:
        """Elements between two neighbours along every dimension of the program's order."""
        found, stride = [0] * len(self.shape), 1
        for dim in reversed(self.order):
            found[dim], stride = stride, stride * self.shape[dim]
        return tuple(found)


def natural(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The program's own order."""
    return tuple(range(len(shape)))


def channels_last(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The order with the first dimension last."""
    return (*range(1, len(shape)), 0)


@final
class NetworkBuilder:
    """Collects tensors, steps and constants."""

    def __init__(self) -> None:
        self._tensors: list[IntegerTensor] = []
        self._steps: list[Step] = []
        self._constants: dict[str, NDArray[Any]] = {}
        self._by_content: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def tensor(self, grid: Grid, shape: tuple[int, ...], order: tuple[int, ...]) -> Stored:
        """A new stored tensor of a shape in the program's order."""
        tensor = IntegerTensor(
            name=f"t{len(self._tensors)}", dtype=grid.dtype,
            shape=tuple(shape[dim] for dim in order) or (1,), scale=grid.scale,
            zero_point=grid.zero_point)
        self._tensors.append(tensor)
        return Stored(tensor, shape, order)

    def add(self, step: Step) -> None:
        """Append a step."""
        self._steps.append(step)

    def constant(self, array: NDArray[Any]) -> str:
        """Store a constant, equal ones once; return its name."""
        key = (str(array.dtype), array.shape, array.tobytes())
        if key not in self._by_content:
            name = f"c{len(self._constants)}"
            self._by_content[key], self._constants[name] = name, array
        return self._by_content[key]

    def arrange(self, value: Stored, order: tuple[int, ...]) -> Stored:
        """The value stored in an order, copied if it is stored in another one."""
        if value.lies_as(order):
            return replace(value, order=order)
        copied = self.tensor(grid_of(value.tensor), value.shape, order)
        strides, new_strides = value.strides(), copied.strides()
        dims = [dim for dim in order if value.shape[dim] > 1]
        self.add(Copy(output=copied.tensor.name, parts=(Part(
            input=value.tensor.name, sizes=tuple(value.shape[dim] for dim in dims),
            steps_in=tuple(strides[dim] for dim in dims),
            steps_out=tuple(new_strides[dim] for dim in dims)),)))
        return copied

    def finish(self, inputs: tuple[Port, ...], outputs: tuple[Port, ...],
               exits: tuple[ExitTest | None, ...] = ()) -> IntegerNetwork:
        """The network, without what no output needs."""
        needed, steps = {port.tensor for port in outputs}, []
        for step in reversed(self._steps):
            if step.output in needed:
                needed.update(step.inputs)
                steps.append(step)
        needed.update(port.tensor for port in inputs)
        fields = {value for step in steps for value in step.model_dump().values()
                  if isinstance(value, str)}
        return IntegerNetwork(
            Structure(tensors=tuple(one for one in self._tensors if one.name in needed),
                      steps=tuple(reversed(steps)), inputs=inputs, outputs=outputs,
                      exits=exits),
            {name: array for name, array in self._constants.items() if name in fields})


class Lowering(Protocol):
    """The translation of one program, as the translations of its operators see it.

    Attributes:
        builder: Collects the steps.
        tensors: The program's stored tensors by name.
    """

    builder: NetworkBuilder
    tensors: Mapping[str, Tensor]

    def store(self, node: Any, grid: Grid) -> Stored:
        """Store what a node computes on a grid."""

    def operand(self, node: Any, reader: Node) -> Stored:
        """The stored value that a step reads.

        Raises:
            ModelError: It is not quantized.
        """


def grid_of(tensor: IntegerTensor) -> Grid:
    """The grid of a stored tensor, without other limits than its type's."""
    limits = np.iinfo(tensor.dtype)
    return Grid(tensor.scale, tensor.zero_point, int(limits.min), int(limits.max), tensor.dtype)


def per_axis(value: Any, rank: int) -> tuple[int, ...]:
    """One number per dimension; a single number is used for all.

    Example:
        >>> per_axis(3, 2), per_axis([1, 2], 2), per_axis([4], 2)
        ((3, 3), (1, 2), (4, 4))
    """
    values = [value] if isinstance(value, int) else list(value)
    return tuple(int(one) for one in (values * rank if len(values) == 1 else values))


def refuse(node: Node, reason: str) -> ModelError:
    """The error for a call that cannot be computed in integers."""
    return ModelError(f"{node.name} ({op_name(node)}){user_location(node)} cannot be computed in "
                      f"integers: {reason}")
