"""Checks that the steps of an integer network fit together, before anything is computed.

A network may come from a file of unknown origin: what passes reads and writes only elements of its
tensors and constants.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edgewright.integers._steps import (
    AveragePool,
    Convolution,
    Copy,
    IntegerTensor,
    Lookup,
    MaximumPool,
    Port,
    Product,
    Step,
    Sum,
    Window,
)

Tensors = Mapping[str, IntegerTensor]
Constants = Mapping[str, NDArray[Any]]

_BYTES: Final = ("uint8", "int8")
_MAX_SUM: Final = 2**31 - 1
_MAX_PRODUCT_BITS: Final = 53   # so that products are exact in double precision, too
_MAX_SHIFT: Final = 62
_MAX_RESULT: Final = 2**31 - 2**17   # of a result before its zero point is added


def check_steps(tensors: Tensors, steps: Sequence[Step], inputs: Sequence[Port],
                outputs: Sequence[Port], constants: Constants) -> None:
    """Check that every step reads what was written, and only elements that exist.

    Raises:
        ValueError: One does not; the message names the step.
    """
    written: set[str] = set()
    for port in inputs:
        _check_port(port, tensors, "inputs")
        _require(tensors[port.tensor].dtype in _BYTES, "inputs",
                 f"{port.name!r} is {tensors[port.tensor].dtype}, expected uint8 or int8")
        written.add(port.tensor)
    for number, step in enumerate(steps):
        where = f"step {number} ({step.kind})"
        for name in (*step.inputs, step.output):
            _require(name in tensors, where, f"there is no tensor {name!r}")
        for name in step.inputs:
            _require(name in written, where, f"{name!r} is read before it is written")
        _require(step.output not in written, where, f"{step.output!r} is written twice")
        written.add(step.output)
        _check(step, tensors, constants, where)
    for port in outputs:
        _check_port(port, tensors, "outputs")
        _require(port.tensor in written, "outputs", f"{port.tensor!r} is never written")


def check_exits(tensors: Tensors, steps: Sequence[Step], outputs: Sequence[Port],
                exits: int) -> None:
    """Check that a sample can leave at each output, and that all mean the same.

    Raises:
        ValueError: It cannot, or they do not.
    """
    _require(exits == len(outputs) - 1, "exits",
             f"{exits} exits for {len(outputs)} outputs; every output but the last needs one")
    first = tensors[outputs[0].tensor]
    read = {name for step in steps for name in step.inputs}
    for port in outputs:
        tensor = tensors[port.tensor]
        _require((tensor.dtype, tensor.size, tensor.scale) == ("int32", first.size, first.scale),
                 "exits", f"{port.name!r} is not int32 with the scale and size of the first one")
        _require(port.tensor not in read, "exits", f"{port.name!r} is read by a step")
    _require(len({port.tensor for port in outputs}) == len(outputs), "exits",
             "two outputs are one tensor")


def _check_port(port: Port, tensors: Tensors, where: str) -> None:
    _require(port.tensor in tensors, where, f"there is no tensor {port.tensor!r}")
    _require(_product(port.shape) == tensors[port.tensor].size, where,
             f"{port.name!r} has another size than its tensor")


def _check(step: Step, tensors: Tensors, constants: Constants, where: str) -> None:
    output = tensors[step.output]
    first = tensors[step.inputs[0]] if step.inputs else output
    if isinstance(step, Copy):
        _check_copy(step, tensors, where)
        return
    for name in step.inputs:
        _require(tensors[name].dtype in _BYTES, where,
                 f"it cannot read {tensors[name].dtype}")
    if isinstance(step, Convolution | Sum | Product | AveragePool):
        limits = np.iinfo(output.dtype)
        _require(limits.min <= step.low <= step.high <= limits.max, where,
                 f"its limits {step.low} and {step.high} do not fit {output.dtype}")
    if isinstance(step, Sum | Product):
        second = tensors[step.inputs[1]]
        _require(output.size == first.size and first.size % second.size == 0, where,
                 f"sizes {first.shape}, {second.shape} and {output.shape} do not match")
        spans = [tensor.span for tensor in (first, second)]
        bound = (spans[0] * spans[1] * abs(step.factor) if isinstance(step, Product) else
                 sum(span * abs(factor) for span, factor in zip(spans, step.factors, strict=True)))
        _check_products([bound], [step.shift], where)
    elif isinstance(step, Lookup):
        _require(first.size == output.size, where,
                 f"{first.shape} and {output.shape} differ in size")
        _constant(constants, step.table, output.dtype, (256,), where)
    else:
        _check_window(step.window, first, output, where)
        if isinstance(step, MaximumPool):
            _require(first.dtype == output.dtype, where, "input and result differ in dtype")
            _require(_reads_all(step.window), where, "a window lies in the padding alone")
        elif isinstance(step, AveragePool):
            _check_average(step, first, constants, where)
        else:
            _check_convolution(step, first, constants, where)


def _check_window(window: Window, first: IntegerTensor, output: IntegerTensor,
                  where: str) -> None:
    _require(_product(window.inputs) == first.size and _product(window.outputs) == output.size,
             where, f"its window does not fit {first.shape} and {output.shape}")


def _check_convolution(step: Convolution, first: IntegerTensor, constants: Constants,
                       where: str) -> None:
    *_, channels = step.window.inputs
    *_, outputs = step.window.outputs
    _require(channels % step.groups == 0 and outputs % step.groups == 0, where,
             f"{step.groups} groups do not divide {channels} and {outputs} channels")
    weight = _constant(constants, step.weight, "int8",
                       (outputs, *step.window.kernel, channels // step.groups), where)
    limit = 1 if step.bits == 1 else 1 << (step.bits - 1)
    _require(-limit <= int(weight.min()) and int(weight.max()) <= max(1, limit - 1), where,
             f"its weights need more than {step.bits} bits")
    bias = _constant(constants, step.bias, "int32", (outputs,), where)
    factors = _constant(constants, step.factors, "int32", (outputs,), where)
    shifts = _constant(constants, step.shifts, "uint8", (outputs,), where)
    bound = convolution_bound(weight, bias, first, step.finer_by)
    _require(int(bound.max()) <= _MAX_SUM, where, "its sums exceed 32 bits")
    _check_products([int(one) * abs(int(factor)) for one, factor in zip(bound, factors,
                                                                        strict=True)],
                    shifts, where)


def convolution_bound(weight: NDArray[Any], bias: NDArray[Any], first: IntegerTensor,
                      finer_by: int) -> NDArray[np.int64]:
    """The largest magnitude of a convolution's sums on the way, per output channel.

    Also without the zero point, which a kernel may subtract at the end.
    """
    limits = np.iinfo(first.dtype)
    span = max(first.span, abs(limits.min), limits.max)
    sums = np.abs(weight.astype(np.int64)).reshape(len(weight), -1).sum(axis=1)
    bound: NDArray[np.int64] = sums * (span + abs(first.zero_point)) * finer_by + np.abs(
        bias.astype(np.int64))
    return bound


def _check_average(step: AveragePool, first: IntegerTensor, constants: Constants,
                   where: str) -> None:
    height, width, _ = step.window.outputs
    known = constants.get(step.factors)
    shape = (1,) if known is None or known.shape == (1,) else (height * width,)
    factors = _constant(constants, step.factors, "int32", shape, where)
    shifts = _constant(constants, step.shifts, "uint8", factors.shape, where)
    _require(_reads_all(step.window), where, "a window lies in the padding alone")
    bound = _product(step.window.kernel) * first.span
    _check_products([bound * abs(int(factor)) for factor in factors], shifts, where)


def _check_copy(step: Copy, tensors: Tensors, where: str) -> None:
    output = tensors[step.output]
    limits = np.iinfo(output.dtype)
    _require(step.fill is None or limits.min <= step.fill <= limits.max, where,
             f"{step.fill} does not fit {output.dtype}")
    copied = 0
    for part in step.parts:
        source = tensors[part.input]
        _require(len(part.sizes) == len(part.steps_in) == len(part.steps_out), where,
                 "a block's sizes and steps differ in number")
        _require(source.dtype == output.dtype, where, "input and result differ in dtype")
        for steps, start, tensor in ((part.steps_in, part.start_in, source),
                                     (part.steps_out, part.start_out, output)):
            last = start + sum((size - 1) * step for size, step in
                               zip(part.sizes, steps, strict=True))
            _require(last < tensor.size, where, f"a block reaches beyond {tensor.name!r}")
        copied += _product(part.sizes)
    _require(step.fill is not None or copied >= output.size, where,
             "elements of its result are never written")


def _check_products(bounds: Sequence[int], shifts: Iterable[int], where: str) -> None:
    """Check that products fit 53 bits, and what is left of them after the shift 32 bits."""
    for bound, shift in zip(bounds, shifts, strict=True):
        _require(1 <= int(shift) <= _MAX_SHIFT, where, "its shifts are not between 1 and 62")
        _require(bound.bit_length() <= _MAX_PRODUCT_BITS, where, "its products exceed 53 bits")
        _require(bound >> int(shift) <= _MAX_RESULT, where, "its results exceed 32 bits")


def _constant(constants: Constants, name: str, dtype: str, shape: tuple[int, ...],
              where: str) -> NDArray[Any]:
    _require(name in constants, where, f"there is no constant {name!r}")
    found = constants[name]
    _require(found.dtype == dtype and found.shape == shape, where,
             f"{name!r} is {found.dtype} {found.shape}, expected {dtype} {shape}")
    return found


def _reads_all(window: Window) -> bool:
    """Whether every window contains an element that is not padding."""
    return all(any(0 <= place < side for place in places)
               for axis, side in ((window.rows(), window.inputs[0]),
                                  (window.columns(), window.inputs[1])) for places in axis)


def _product(sizes: Sequence[int]) -> int:
    return int(np.prod([int(size) for size in sizes], dtype=object))


def _require(holds: bool, where: str, fault: str) -> None:
    if not holds:
        raise ValueError(f"{where}: {fault}")
