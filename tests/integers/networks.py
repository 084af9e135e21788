"""Random integer networks of one step, and integers to run them on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.integers import (
    AveragePool,
    Convolution,
    Copy,
    ExitTest,
    IntegerNetwork,
    IntegerTensor,
    Lookup,
    MaximumPool,
    Part,
    Port,
    Product,
    Step,
    Structure,
    Sum,
    Window,
)

Constants = dict[str, NDArray[Any]]


def tensor(name: str, shape: tuple[int, ...], dtype: Any = "uint8", zero_point: int = 3,
           scale: float = 0.5) -> IntegerTensor:
    return IntegerTensor(name=name, shape=shape, dtype=dtype, scale=scale,
                         zero_point=0 if dtype == "int32" else zero_point)


def network(inputs: list[IntegerTensor], output: IntegerTensor, step: Step,
            constants: Constants) -> IntegerNetwork:
    def port(one: IntegerTensor) -> Port:
        return Port(name=one.name, tensor=one.name, shape=one.shape,
                    order=tuple(range(len(one.shape))))

    return IntegerNetwork(
        Structure(tensors=(*inputs, output), steps=(step,),
                  inputs=tuple(map(port, inputs)), outputs=(port(output),)), constants)


def draw_integers(of: IntegerNetwork, count: int, seed: int = 0) -> list[NDArray[Any]]:
    """Integers of the whole range for every input."""
    generator = np.random.default_rng(seed)
    found = []
    for port in of.structure.inputs:
        limits = np.iinfo(of.tensors[port.tensor].dtype)
        found.append(generator.integers(
            limits.min, limits.max, (count, *port.stored_shape), endpoint=True).astype(
                of.tensors[port.tensor].dtype))
    return found


def convolution(seed: int, *, bits: int = 8, groups: int = 1, channels: int = 4, outputs: int = 6,
                kernel: tuple[int, int] = (3, 3), stride: tuple[int, int] = (1, 1),
                padding: tuple[int, int] = (1, 1), dilation: tuple[int, int] = (1, 1),
                dtype: Any = "uint8", finer_by: int = 1, wide: bool = False,
                places: tuple[int, ...] | None = None) -> IntegerNetwork:
    generator = np.random.default_rng(seed)
    sides = (7, 6)
    places = places or tuple((side + 2 * pad - (size - 1) * step - 1) // skip + 1 for side, pad, size, step,
                   skip in zip(sides, padding, kernel, dilation, stride, strict=True))
    weight = (generator.choice([-1, 1], (outputs, *kernel, channels // groups)) if bits == 1 else
              generator.integers(-(2**(bits - 1)), 2**(bits - 1),
                                 (outputs, *kernel, channels // groups)))
    zero_point = 3 if dtype == "uint8" else -5
    source = tensor("in", (*sides, channels), dtype, zero_point)
    result = tensor("out", (*places, outputs), "int32" if wide else dtype, 0 if wide else 7)
    limits = np.iinfo(result.dtype)
    constants: Constants = {
        "w": weight.astype(np.int8),
        "b": generator.integers(-500, 500, outputs).astype(np.int32),
        "f": generator.integers(2**20, 2**22, outputs).astype(np.int32),
        "s": generator.integers(26, 40, outputs).astype(np.uint8)}
    step = Convolution(
        input="in", output="out", weight="w", bias="b", factors="f", shifts="s",
        window=Window(inputs=(*sides, channels), outputs=(*places, outputs), kernel=kernel,
                      stride=stride, padding=padding, dilation=dilation),
        groups=groups, bits=bits, finer_by=finer_by, low=int(limits.min), high=int(limits.max))
    return network([source], result, step, constants)


def pair(kind: type[Sum] | type[Product], seed: int, dtypes: tuple[Any, Any] = ("uint8", "uint8"),
         repeated: bool = False) -> IntegerNetwork:
    generator = np.random.default_rng(seed)
    first = tensor("a", (5, 4, 3), dtypes[0], 11)
    second = tensor("b", (3,) if repeated else (5, 4, 3), dtypes[1], -9 if dtypes[1] == "int8" else 9)
    result = tensor("out", (5, 4, 3), dtypes[0], 2)
    limits = np.iinfo(result.dtype)
    common: dict[str, Any] = {"inputs": ("a", "b"), "output": "out", "low": int(limits.min) + 5,
                              "high": int(limits.max)}
    factors = [int(one) for one in generator.integers(-(2**30), 2**30, 2)]
    step = (Sum(**common, factors=(factors[0], factors[1]), shift=31) if kind is Sum else
            Product(**common, factor=factors[0], shift=37))
    return network([first, second], result, step, {})


def lookup(seed: int, dtype: Any = "uint8", to: Any = None) -> IntegerNetwork:
    to = to or dtype
    table = np.random.default_rng(seed).integers(0, 100, 256).astype(to)
    return network([tensor("in", (30,), dtype)], tensor("out", (30,), to),
                   Lookup(input="in", output="out", table="t"), {"t": table})


def average(seed: int, *, varies: bool, dtype: Any = "uint8", channels: int = 3) -> IntegerNetwork:
    window = Window(inputs=(6, 5, channels), outputs=(4, 3, channels), kernel=(2, 3),
                    stride=(2, 2), padding=(1, 1))
    count = 12 if varies else 1
    generator = np.random.default_rng(seed)
    limits = np.iinfo(dtype)
    return network(
        [tensor("in", (6, 5, channels), dtype)], tensor("out", (4, 3, channels), dtype, 5),
        AveragePool(input="in", output="out", window=window, factors="f", shifts="s",
                    low=int(limits.min), high=int(limits.max)),
        {"f": generator.integers(2**27, 2**28, count).astype(np.int32),
         "s": np.full(count, 30, np.uint8)})


def maximum(dtype: Any = "uint8") -> IntegerNetwork:
    window = Window(inputs=(6, 5, 3), outputs=(3, 3, 3), kernel=(3, 2), stride=(2, 2),
                    padding=(1, 1), dilation=(1, 2))
    return network([tensor("in", (6, 5, 3), dtype)], tensor("out", (3, 3, 3), dtype),
                   MaximumPool(input="in", output="out", window=window), {})


def copies(dtype: Any = "uint8") -> IntegerNetwork:
    """A transpose into the middle of a padded result, and every second element behind it."""
    parts = (Part(input="in", sizes=(4, 3), steps_in=(1, 4), steps_out=(3, 1), start_out=2),
             Part(input="in", sizes=(6,), steps_in=(2,), steps_out=(1,), start_out=14))
    return network([tensor("in", (3, 4), dtype)], tensor("out", (25,), dtype),
                   Copy(output="out", parts=parts, fill=7), {})


def wide_copies() -> IntegerNetwork:
    """The sums of a convolution, the channels first and padded with zeros."""
    first = convolution(3, wide=True)
    sums, result = tensor("sums", (7, 6, 6), "int32"), tensor("out", (260,), "int32")
    step, = first.steps
    copy = Copy(output="out", fill=-1, parts=(Part(
        input="sums", sizes=(6, 42), steps_in=(1, 6), steps_out=(42, 1), start_out=5),))
    structure = first.structure
    return IntegerNetwork(structure.replace(
        tensors=(first.tensors["in"], sums, result), steps=(step.replace(output="sums"), copy),
        outputs=(Port(name="out", tensor="out", shape=(260,), order=(0,)),)), first.constants)


def with_exits(seed: int = 0) -> IntegerNetwork:
    """Two linear layers from one input, with an exit after the first; the second is written first."""
    generator = np.random.default_rng(seed)
    source = tensor("in", (8,), zero_point=100)
    steps, constants, results = [], dict[str, NDArray[Any]](), []
    for name in ("last", "early"):
        constants |= {
            f"{name}_w": generator.integers(-128, 128, (5, 1, 1, 8)).astype(np.int8),
            f"{name}_b": generator.integers(-500, 500, 5).astype(np.int32),
            f"{name}_f": np.full(5, 2**20, np.int32), f"{name}_s": np.full(5, 16, np.uint8)}
        steps.append(Convolution(
            input="in", output=name, weight=f"{name}_w", bias=f"{name}_b", factors=f"{name}_f",
            shifts=f"{name}_s", window=Window(inputs=(1, 1, 8), outputs=(1, 1, 5), kernel=(1, 1)),
            low=-(2**31), high=2**31 - 1))
        results.append(tensor(name, (5,), "int32", scale=2.0**-16))
    ports = [Port(name=one.name, tensor=one.name, shape=one.shape, order=(0,))
             for one in (source, results[1], results[0])]
    return IntegerNetwork(
        Structure(tensors=(source, *results), steps=tuple(steps), inputs=(ports[0],),
                  outputs=tuple(ports[1:]), exits=(ExitTest.of(2.0**-16, 0.5, 3.0),)), constants)
