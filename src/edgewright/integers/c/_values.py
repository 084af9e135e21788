"""A C function of values in floating point and in the model's order of dimensions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from edgewright.integers._network import IntegerNetwork
from edgewright.integers._steps import IntegerTensor, Port


def write_values_function(network: IntegerNetwork, name: str,
                          outputs: Sequence[Port]) -> Iterator[str]:
    """Write ``NAME_run_values``, which quantizes inputs and dequantizes outputs.

    Both are as in `to_integers` and `from_integers`. Adding and subtracting 1.5 * 2^23 rounds half
    to even.

    Args:
        network: The network.
        name: What functions are called.
        outputs: The outputs that the function of integers writes.
    """
    ports = [(f"{kind}{number}", port, network.tensors[port.tensor])
             for kind, all_ports in (("input", network.structure.inputs),
                                     ("output", outputs))
             for number, port in enumerate(all_ports)]
    parameters = ", ".join(f"{'const ' if label.startswith('input') else ''}float *{label}"
                           for label, *_ in ports)
    result = "int32_t" if network.structure.exits else "void"
    yield f"{result} {name}_run_values({parameters});"
    yield f"{result} {name}_run_values({parameters}) {{"
    for label, _, tensor in ports:
        yield f"    static {tensor.dtype}_t stored_{label}[{tensor.size}];"
    for label, port, tensor in ports:
        if label.startswith("input"):
            yield from _quantize(label, port, tensor)
    call = f"{name}_run({', '.join(f'stored_{label}' for label, *_ in ports)});"
    yield f"    {'const int32_t exit = ' if network.structure.exits else ''}{call}"
    for label, port, tensor in ports:
        if label.startswith("output"):
            yield (f"    {_loops(port)} {label}[{_place(port, _strides(port.shape))}] = "
                   f"(float)((double)(stored_{label}[{_stored_place(port)}] - "
                   f"{tensor.zero_point}) * {float(tensor.scale).hex()});")
    if network.structure.exits:
        yield "    return exit;"
    yield "}"
    yield ""


def _quantize(label: str, port: Port, tensor: IntegerTensor) -> Iterator[str]:
    limits = np.iinfo(tensor.dtype)
    inverse = float(np.float32(1 / tensor.scale)).hex()
    low, high = (f"{float(bound - tensor.zero_point)}f" for bound in (limits.min, limits.max))
    yield f"    {_loops(port)} {{"
    yield f"        float value = {label}[{_place(port, _strides(port.shape))}] * {inverse}f;"
    yield f"        value = value > {low} ? value : {low};"
    yield f"        value = value < {high} ? value : {high};"
    yield "        value = (value + 12582912.0f) - 12582912.0f;"
    yield (f"        stored_{label}[{_stored_place(port)}] = "
           f"({tensor.dtype}_t)((int32_t)value + {tensor.zero_point});")
    yield "    }"


def _loops(port: Port) -> str:
    """Loops over the dimensions, in the model's order."""
    return " ".join(f"for (int32_t i{dim} = 0; i{dim} < {size}; i{dim}++)"
                    for dim, size in enumerate(port.shape))


def _place(port: Port, strides: tuple[int, ...]) -> str:
    return " + ".join(f"i{dim} * {strides[dim]}" for dim in range(len(port.shape)))


def _stored_place(port: Port) -> str:
    strides = _strides(port.stored_shape)
    return " + ".join(f"i{dim} * {strides[place]}" for place, dim in enumerate(port.order))


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    found, stride = [], 1
    for size in reversed(shape):
        found.append(stride)
        stride *= size
    return tuple(reversed(found))
