"""Write an integer network as one C99 file and its header."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import UsageError
from edgewright.integers._network import IntegerNetwork
from edgewright.integers._steps import (
    AveragePool,
    Convolution,
    Copy,
    Lookup,
    MaximumPool,
    Part,
    Port,
    Product,
    Step,
    Sum,
    Window,
)
from edgewright.integers.c._exit_tests import write_powers
from edgewright.integers.c._memory import MemoryPlan, plan_memory
from edgewright.integers.c._packed_weights import pack_weights
from edgewright.integers.c._values import write_values_function
from edgewright.integers.c._wide import (
    block_taps,
    block_weights,
    fill_block,
    flatten_places,
    is_wide,
    padded_bytes,
    reads_whole_words,
    to_scales,
)

_C_TYPES: Final = {"uint8": "uint8_t", "int8": "int8_t", "int32": "int32_t",
                   "float64": "double"}
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
_PER_LINE: Final = 20


@final
@dataclass(frozen=True)
class CSource:
    """A network in C.

    Attributes:
        name: What its functions and files are called.
        code: The content of ``NAME.c``, which includes ``NAME.h`` and nothing that is not C99.
        header: The content of ``NAME.h``.
        outputs: The outputs that its function writes: one where samples leave early.
        memory: Where its tensors lie.
        constant_bytes: Bytes of all constants.
    """

    name: str
    code: str
    header: str
    outputs: tuple[Port, ...]
    memory: MemoryPlan
    constant_bytes: int


def write_c(network: IntegerNetwork, name: str = "network", *, wide: bool = False,
            values: bool = False) -> CSource:
    """Write a network as C99: no heap, no floating point, no library but memcpy and memset.

    Args:
        network: The network.
        name: What functions and files are called: lower case letters, digits and underscores.
        wide: Whether to write it for x86-64 with AVX-512 and VNNI; the results are the same.
        values: Whether to add a function for values in floating point and in the model's order.

    Raises:
        UsageError: The name cannot be used in C.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot name functions in C; use up to 32 lower-case letters, "
                         "digits and underscores, the first a letter")
    return _Writer(network, name, wide=wide).write(values=values)


@final
class _Writer:
    """Writes one network."""

    def __init__(self, network: IntegerNetwork, name: str, *, wide: bool) -> None:
        self.network, self.name, self.wide = network, name, wide
        self._constants: dict[str, str] = {}   # definition by name in C
        self._bytes = 0
        self._memory = plan_memory(network, {
            number: self._scratch_bytes(step) for number, step in enumerate(network.steps)})
        self._places = self._name_places()

    def write(self, *, values: bool) -> CSource:
        """The two files."""
        calls = list(self._write_calls())
        result = "int32_t" if self.network.structure.exits else "void"
        parameters = ", ".join(self._parameters())
        memory = ([f"static uint8_t memory[{self._memory.size}] __attribute__((aligned(8)));", ""]
                  if self._memory.size else [])
        code = "\n".join([
            f'#include "{self.name}.h"', "", _read("kernels.h"),
            *([_read("kernels_avx512.h")] if self.wide else []),
            *([write_powers(), _read("exits.h")] if self.network.structure.exits else []),
            *self._constants.values(), "", *memory,
            f"{result} {self.name}_run({parameters}) {{", *(f"    {line}" for line in calls), "}",
            "",
            *(write_values_function(self.network, self.name, self._outputs()) if values else [])])
        return CSource(self.name, code, self._header(result, parameters), self._outputs(),
                       self._memory, self._bytes)

    def _write_calls(self) -> Iterator[str]:
        """The calls of all steps, and of the tests of exits as soon as they can be made."""
        for output, numbers in enumerate(self.network.parts()):
            for number in numbers:
                step = self.network.steps[number]
                yield from self._writer_of(step)(self, step, number)
            test = self.network.structure.exits[output:output + 1]
            if test and test[0] is not None:
                size = self.network.tensors[self.network.structure.outputs[output].tensor].size
                yield (f"if (ew_is_sure(output0, {size}, {test[0].factor}, {test[0].shift}, "
                       f"{test[0].limit}LL)) {{")
                yield f"    return {output};"
                yield "}"
        if self.network.structure.exits:
            yield f"return {len(self.network.structure.exits)};"

    def _outputs(self) -> tuple[Port, ...]:
        """The outputs that the caller gives room for: one where samples leave early."""
        outputs = self.network.structure.outputs
        return outputs[-1:] if self.network.structure.exits else outputs

    def _header(self, result: str, parameters: str) -> str:
        upper = self.name.upper()
        lines = [f"#ifndef {upper}_H", f"#define {upper}_H", "", "#include <stdint.h>", "",
                 "#ifdef __cplusplus", 'extern "C" {', "#endif", "",
                 f"#define {upper}_MEMORY_BYTES {self._memory.size}"]
        for kind, ports in (("INPUT", self.network.structure.inputs),
                            ("OUTPUT", self._outputs())):
            for number, port in enumerate(ports):
                lines += self._describe(f"{upper}_{kind}{number}", port)
        return "\n".join([
            *lines, "", "/* Not reentrant: intermediate results lie in one static block.",
            *([" * Returns the number of the exit where the sample left; the last is the end."]
              if self.network.structure.exits else []), " */",
            f"{result} {self.name}_run({parameters});", "",
            "#ifdef __cplusplus", "}", "#endif", "", "#endif", ""])

    def _describe(self, name: str, port: Port) -> Iterator[str]:
        tensor = self.network.tensors[port.tensor]
        sizes = " x ".join(map(str, port.stored_shape))
        yield ""
        yield f"/* {tensor.dtype}, {sizes}; value = scale * (integer - zero point) */"
        yield f"#define {name}_SIZE {tensor.size}"
        yield f"#define {name}_SCALE {np.float32(tensor.scale)!s}f"
        yield f"#define {name}_ZERO_POINT {tensor.zero_point}"

    def _parameters(self) -> Iterator[str]:
        for prefix, ports, label in (("const ", self.network.structure.inputs, "input"),
                                     ("", self._outputs(), "output")):
            for number, port in enumerate(ports):
                kind = _C_TYPES[self.network.tensors[port.tensor].dtype]
                yield f"{prefix}{kind} *{label}{number}"

    def _name_places(self) -> dict[str, str]:
        """How each tensor is named in C: a parameter, or a place in the memory."""
        places = {name: f"memory + {offset}" for name, offset in self._memory.offsets.items()}
        for ports, label in ((self.network.structure.outputs, "output"),
                             (self.network.structure.inputs, "input")):
            for number, port in enumerate(ports):
                places.setdefault(port.tensor, "output0" if label == "output"
                                  and self.network.structure.exits else f"{label}{number}")
        return places

    def _writer_of(self, step: Step) -> Any:
        writers = _WIDE_WRITERS if self.wide and is_wide(step, self.network) else _WRITERS
        return writers[type(step)]

    def _scratch_bytes(self, step: Step) -> int:
        """Bytes that a step needs beside its input and output."""
        if not isinstance(step, Convolution):
            return 0
        if self.wide and is_wide(step, self.network):
            return padded_bytes(step)
        *_, channels = step.window.inputs
        if _is_depthwise(step):
            return channels
        return 2 * step.window.kernel[0] * step.window.kernel[1] * (channels // step.groups)

    def place(self, name: str, kind: str = "") -> str:
        """A pointer to a tensor."""
        place = self._places[name]
        return f"(({kind} *)({place}))" if kind else f"({place})"

    def read(self, name: str) -> str:
        """A pointer to a tensor of bytes that is only read."""
        return self.place(name, "const uint8_t")

    def scratch(self, number: int) -> str:
        """A pointer to the working memory of a step."""
        offset = self._memory.scratch.get(number)
        return "0" if offset is None else f"memory + {offset}"

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """Define an array, unless that is done; return its name in C."""
        if name not in self._constants:
            self._bytes += array.nbytes
            self._constants[name] = _define(name, array)
        return name

    def value(self, name: str, kind: str, fields: str) -> str:
        """Define a struct; return a pointer to it."""
        self._constants[name] = f"static const {kind} {name} = {{{fields}}};"
        return f"&{name}"

    def is_signed(self, name: str) -> int:
        """1 for a tensor of int8."""
        return int(self.network.tensors[name].dtype == "int8")

    def result(self, step: Any) -> str:
        """The fields of a struct about the result."""
        tensor = self.network.tensors[step.output]
        return (f"{tensor.zero_point}, {_bound(step.low)}, {_bound(step.high)}, "
                f"{tensor.bytes // tensor.size}")


def _convolve(writer: _Writer, step: Convolution, number: int) -> Iterator[str]:
    network = writer.network
    source = network.tensors[step.input]
    weight, bias = (network.constants[name] for name in (step.weight, step.bias))
    flip = 128 if source.dtype == "int8" else 0
    zero_point = source.zero_point + flip
    folded = _fold(weight, bias, step.finer_by * zero_point)
    depthwise = _is_depthwise(step)
    packed, bits = pack_weights(weight, step.bits, depthwise=depthwise)
    names = [writer.constant(f"{kind}{number}", array) for kind, array in (
        ("weight", packed), ("bias", folded), ("factors", network.constants[step.factors]),
        ("shifts", network.constants[step.shifts]))]
    settings = writer.value(f"step{number}", "ew_convolution", (
        f"{_fields(step.window)}, {step.groups}, {step.finer_by}, {zero_point}, {flip}, "
        f"{writer.result(step)}, {', '.join(names)}"))
    kernel = "depthwise" if depthwise else f"{bits}bit"
    yield (f"ew_convolve_{kernel}({settings}, {writer.read(step.input)}, "
           f"{writer.place(step.output)}, {writer.scratch(number)});")


def _pair(writer: _Writer, step: Sum | Product, number: int) -> Iterator[str]:
    first, second = (writer.network.tensors[name] for name in step.inputs)
    factors = step.factors if isinstance(step, Sum) else (step.factor, 0)
    settings = writer.value(f"step{number}", "ew_pair", (
        f"{first.size}, {second.size}, {first.zero_point}, {second.zero_point}, {factors[0]}, "
        f"{factors[1]}, {step.shift}, {writer.result(step)}"))
    operands = ", ".join(f"{writer.read(name)}, {writer.is_signed(name)}" for name in step.inputs)
    function = "ew_add" if isinstance(step, Sum) else "ew_multiply"
    yield f"{function}({settings}, {operands}, {writer.place(step.output)});"


def _look_up(writer: _Writer, step: Lookup, number: int) -> Iterator[str]:
    is_wide_table = writer.network.tensors[step.output].dtype == "int32"
    kind = "int32" if is_wide_table else "uint8"
    table = writer.network.constants[step.table].astype(kind)
    name = writer.constant(f"table{number}", table)
    size = writer.network.tensors[step.input].size
    flip = 128 if writer.is_signed(step.input) else 0
    function = "ew_look_up_wide" if is_wide_table else "ew_look_up"
    yield (f"{function}({writer.read(step.input)}, {size}, {flip}, {name}, "
           f"{writer.place(step.output, _C_TYPES[kind])});")


def _average(writer: _Writer, step: AveragePool, number: int) -> Iterator[str]:
    factors, shifts = (writer.network.constants[name] for name in (step.factors, step.shifts))
    names = [writer.constant(f"{kind}{number}", array)
             for kind, array in (("factors", factors), ("shifts", shifts))]
    settings = writer.value(f"step{number}", "ew_average_pool", (
        f"{_fields(step.window)}, {writer.network.tensors[step.input].zero_point}, "
        f"{writer.result(step)}, {int(len(factors) > 1)}, {', '.join(names)}"))
    yield (f"ew_average({settings}, {writer.read(step.input)}, {writer.is_signed(step.input)}, "
           f"{writer.place(step.output)});")


def _maximum(writer: _Writer, step: MaximumPool, number: int) -> Iterator[str]:
    settings = writer.value(f"step{number}", "ew_window", _fields(step.window)[1:-1])
    yield (f"ew_maximum({settings}, {writer.read(step.input)}, {writer.is_signed(step.input)}, "
           f"{writer.place(step.output, 'uint8_t')});")


def _copy(writer: _Writer, step: Copy, _: int) -> Iterator[str]:
    tensor = writer.network.tensors[step.output]
    width = tensor.bytes // tensor.size
    if step.fill is not None:
        if width == 1:
            yield f"memset({writer.place(step.output)}, {step.fill & 255}, {tensor.size});"
        else:
            kind = _C_TYPES[tensor.dtype]
            yield (f"for (int32_t i = 0; i < {tensor.size}; i++) "
                   f"{writer.place(step.output, kind)}[i] = {step.fill};")
    for part in step.parts:
        yield from _copy_part(writer, step.output, part, width)


def _copy_part(writer: _Writer, output: str, part: Part, width: int) -> Iterator[str]:
    loops, terms_in, terms_out = [], [], []
    run, sizes, steps_in, steps_out = _longest_run(part)
    for number, (size, step_in, step_out) in enumerate(zip(sizes, steps_in, steps_out,
                                                           strict=True)):
        loops.append(f"for (int32_t i{number} = 0; i{number} < {size}; i{number}++)")
        terms_in.append(f"i{number} * {step_in * width}")
        terms_out.append(f"i{number} * {step_out * width}")
    place_in, place_out = (" + ".join([str(start * width), *terms]) for start, terms in (
        (part.start_in, terms_in), (part.start_out, terms_out)))
    yield (f"{' '.join(loops)} memcpy({writer.place(output, 'uint8_t')} + {place_out}, "
           f"{writer.read(part.input)} + {place_in}, {run * width});").strip()


def _longest_run(part: Part) -> tuple[int, tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Elements that are contiguous in both tensors, and the dimensions that are left."""
    run, kept = 1, len(part.sizes)
    while kept and part.steps_in[kept - 1] == part.steps_out[kept - 1] == run:
        run *= part.sizes[kept - 1]
        kept -= 1
    return run, part.sizes[:kept], part.steps_in[:kept], part.steps_out[:kept]


_WRITERS: Final[dict[type, Any]] = {
    Convolution: _convolve, Sum: _pair, Product: _pair, Lookup: _look_up, AveragePool: _average,
    MaximumPool: _maximum, Copy: _copy}


def _convolve_wide(writer: _Writer, step: Convolution, number: int) -> Iterator[str]:
    network = writer.network
    zero_point = network.tensors[step.input].zero_point
    weight, bias, factors, shifts = (network.constants[name] for name in (
        step.weight, step.bias, step.factors, step.shifts))
    depthwise, whole = step.groups > 1, reads_whole_words(step)
    names = [writer.constant(f"{kind}{number}", array) for kind, array in (
        ("weight", block_taps(weight) if depthwise else block_weights(weight, whole_words=whole)),
        ("bias", fill_block(_fold(weight, bias, step.finer_by * zero_point))),
        ("scales", fill_block(to_scales(factors, shifts))))]
    settings = writer.value(f"step{number}", "ew_wide_convolution", (
        f"{_fields(flatten_places(step.window))}, {step.finer_by}, {zero_point}, "
        f"{writer.result(step)}, {', '.join(names)}"))
    kernel = "depthwise" if depthwise else "convolve" if whole else "convolve_gathered"
    yield (f"ew_wide_{kernel}({settings}, {writer.read(step.input)}, {writer.place(step.output)}, "
           f"{writer.scratch(number)});")


def _add_wide(writer: _Writer, step: Sum, number: int) -> Iterator[str]:
    first, second = (writer.network.tensors[name] for name in step.inputs)
    scales = to_scales(np.array(step.factors), np.array([step.shift] * 2))
    settings = writer.value(f"step{number}", "ew_wide_pair", (
        f"{first.size}, {first.zero_point}, {second.zero_point}, {float(scales[0]).hex()}, "
        f"{float(scales[1]).hex()}, {writer.result(step)}"))
    operands = ", ".join(map(writer.read, step.inputs))
    yield f"ew_wide_add({settings}, {operands}, {writer.place(step.output)});"


_WIDE_WRITERS: Final[dict[type, Any]] = {Convolution: _convolve_wide, Sum: _add_wide}


def _is_depthwise(step: Convolution) -> bool:
    return step.groups > 1 and step.groups == step.window.inputs[-1]


def _fold(weight: NDArray[Any], bias: NDArray[Any], zero_point: int) -> NDArray[np.int32]:
    """A bias that accounts for inputs whose zero point is not subtracted."""
    sums = weight.astype(np.int64).reshape(len(weight), -1).sum(axis=1)
    folded: NDArray[np.int32] = (bias - zero_point * sums).astype(np.int32)
    return folded


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text()


def _fields(window: Window) -> str:
    values = (*window.inputs, *window.outputs, *window.kernel, *window.stride, *window.padding,
              *window.dilation)
    return "{" + ", ".join(map(str, values)) + "}"


def _bound(value: int) -> str:
    """A number in C; the lowest one has no literal of its type."""
    return {2**31 - 1: "INT32_MAX", -(2**31): "INT32_MIN"}.get(value, str(value))


def _define(name: str, array: NDArray[Any]) -> str:
    flat = array.reshape(-1)
    values = [float(value).hex() if array.dtype == np.float64 else _bound(int(value))
              for value in flat]
    rows = [", ".join(values[begin:begin + _PER_LINE])
            for begin in range(0, len(values), _PER_LINE)]
    return (f"static const {_C_TYPES[str(array.dtype)]} {name}[{len(values)}] = {{\n    "
            + ",\n    ".join(rows) + "};")
