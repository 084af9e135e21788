"""C code computes what the reference computes, bit for bit, and touches no other memory."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.integers.networks import (
    average,
    convolution,
    copies,
    draw_integers,
    lookup,
    maximum,
    pair,
    wide_copies,
    with_exits,
)

from edgewright.errors import UsageError
from edgewright.integers import (
    IntegerNetwork,
    Product,
    Sum,
    from_integers,
    run_exits,
    run_reference,
    to_integers,
)
from edgewright.integers.c import CompiledNetwork, find_compiler, write_c

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="needs a C compiler")

NETWORKS: dict[str, IntegerNetwork] = {
    "convolution": convolution(0),
    "odd outputs": convolution(1, outputs=5),
    "of signed inputs": convolution(2, dtype="int8"),
    "with 32 bits": convolution(3, wide=True),
    "pointwise": convolution(4, kernel=(1, 1), padding=(0, 0)),
    "pointwise, signed": convolution(5, kernel=(1, 1), padding=(0, 0), dtype="int8"),
    "pointwise, padded": convolution(6, kernel=(1, 1)),
    "pointwise, many outputs": convolution(23, kernel=(1, 1), padding=(0, 0), outputs=37),
    "many outputs": convolution(24, outputs=40, channels=8),
    "no whole words, dilated": convolution(25, channels=3, dilation=(1, 2), padding=(1, 2)),
    "stride": convolution(7, stride=(2, 3)),
    "dilated": convolution(8, dilation=(2, 2), padding=(2, 2)),
    "wide padding": convolution(9, kernel=(5, 1), padding=(4, 3)),
    "windows in the padding alone": convolution(26, padding=(1, 8), places=(7, 1)),
    "groups": convolution(10, groups=2),
    "depthwise": convolution(11, groups=4, outputs=4),
    "depthwise, two each": convolution(12, groups=4, outputs=8),
    "depthwise, signed": convolution(13, groups=5, channels=5, outputs=5, dtype="int8"),
    "depthwise, stride": convolution(14, groups=6, channels=6, stride=(2, 2), kernel=(3, 2)),
    "4 bits": convolution(15, bits=4, channels=3),
    "3 bits": convolution(16, bits=3),
    "2 bits": convolution(17, bits=2, channels=3, kernel=(3, 1)),
    "1 bit": convolution(18, bits=1, channels=3),
    "1 bit, signed": convolution(19, bits=1, channels=5, dtype="int8"),
    "1 bit, groups": convolution(20, bits=1, groups=2),
    "4 bits, finer bias": convolution(21, bits=4, finer_by=8),
    "4 bits, depthwise": convolution(22, bits=4, groups=4, outputs=4),
    "sum": pair(Sum, 0),
    "sum of signed": pair(Sum, 1, ("int8", "int8")),
    "sum of both": pair(Sum, 2, ("uint8", "int8")),
    "repeated sum": pair(Sum, 3, repeated=True),
    "product": pair(Product, 4),
    "product of both": pair(Product, 5, ("int8", "uint8"), repeated=True),
    "lookup": lookup(0),
    "signed lookup": lookup(1, "int8"),
    "wide lookup": lookup(2, "int8", "int32"),
    "average": average(0, varies=False),
    "average of many channels": average(3, varies=True, channels=37),
    "average at borders": average(1, varies=True),
    "signed average": average(2, varies=True, dtype="int8"),
    "maximum": maximum(),
    "signed maximum": maximum("int8"),
    "copies": copies(),
    "wide copies": wide_copies(),
}
SANITIZERS = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def run_sanitized(of: IntegerNetwork, inputs: list[NDArray[Any]], folder: Path) -> list[Any]:
    """Run samples in a process of its own that ends where it touches other memory."""
    source = write_c(of, "net")
    ports = [*of.structure.inputs, *source.outputs]
    sizes = [of.tensors[port.tensor].bytes for port in ports]
    given = len(inputs)
    buffers = [f"malloc({size})" for size in sizes]
    reads = " && ".join(f"fread(b[{i}], {sizes[i]}, 1, stdin)" for i in range(given))
    writes = " ".join(f"fwrite(b[{i}], {sizes[i]}, 1, stdout);" for i in range(given, len(sizes)))
    arguments = ", ".join(f"b[{i}]" for i in range(len(sizes)))
    (folder / "net.c").write_text(source.code)
    (folder / "net.h").write_text(source.header)
    (folder / "main.c").write_text(
        '#include <stdio.h>\n#include <stdlib.h>\n#include "net.h"\n'
        f"int main(void) {{ void *b[] = {{{', '.join(buffers)}}};\n"
        f"while ({reads}) {{ net_run({arguments}); {writes} }}\n"
        f"for (unsigned i = 0; i < sizeof b / sizeof *b; i++) {{ free(b[i]); }}\n"
        "return 0; }\n")
    subprocess.run(["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", *SANITIZERS,
                    "-o", "main", "net.c", "main.c"], cwd=folder, check=True)
    rows = np.concatenate([array.reshape(len(array), -1).view(np.uint8) for array in inputs], 1)
    done = subprocess.run(["./main"], cwd=folder, input=rows.tobytes(), capture_output=True,
                          check=True)
    found = np.frombuffer(done.stdout, np.uint8).reshape(len(rows), -1)
    return np.split(found, np.cumsum(sizes[given:])[:-1], axis=1)


@pytest.mark.parametrize("name", NETWORKS)
def test_c_computes_what_the_reference_computes(name: str, tmp_path: Path) -> None:
    of = NETWORKS[name]
    inputs = draw_integers(of, 20)
    expected = run_reference(of, inputs)
    assert expected[0].min() < expected[0].max()
    for found, wanted in zip(run_sanitized(of, inputs, tmp_path), expected, strict=True):
        assert np.array_equal(found.reshape(-1), wanted.reshape(-1).view(np.uint8))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_library_for_this_machine_computes_the_same(name: str) -> None:
    of = NETWORKS[name]
    inputs = draw_integers(of, 20)
    compiled = CompiledNetwork(of)
    for found, wanted in zip(compiled.run(inputs), run_reference(of, inputs), strict=True):
        assert np.array_equal(found, wanted)
    values = [from_integers(array, port, of.tensors[port.tensor])
              for array, port in zip(inputs, of.structure.inputs, strict=True)]
    for found, wanted, port in zip(compiled.run_values(values), run_reference(of, inputs),
                                   of.structure.outputs, strict=True):
        assert np.array_equal(found, from_integers(wanted, port, of.tensors[port.tensor]))
    with pytest.raises(ValueError, match="expected"):
        compiled.run([array.astype(np.int64) for array in inputs])


def test_values_are_rounded_and_clamped_as_integers_are_made() -> None:
    of = NETWORKS["lookup"]
    port, = of.structure.inputs
    tensor = of.tensors["in"]
    generator = np.random.default_rng(0)
    values = np.concatenate([generator.uniform(-20, 200, (50, 30)), np.full((1, 30), np.inf),
                             np.arange(-300, 600).reshape(30, 30) / 4]).astype(np.float32)
    wanted, = run_reference(of, [to_integers(values, port, tensor)])
    found, = CompiledNetwork(of).run_values([values])
    assert np.array_equal(found, from_integers(wanted, of.structure.outputs[0], of.tensors["out"]))


def test_names_that_c_cannot_use_are_refused() -> None:
    for name in ("", "Net", "1net", "net;", "a" * 33, "net\n"):
        with pytest.raises(UsageError, match="cannot name functions in C"):
            write_c(NETWORKS["sum"], name)


def test_samples_leave_in_c_where_they_leave_in_the_reference(tmp_path: Path) -> None:
    of = with_exits()
    inputs = draw_integers(of, 200)
    wanted, taken = run_exits(of, inputs)
    assert 20 < taken.sum() < 180
    for source in (write_c(of), write_c(of, wide=True)):
        found, exits = CompiledNetwork(of, source).run_exits(inputs)
        assert np.array_equal(found, wanted)
        assert np.array_equal(exits, taken)
    sanitized, = run_sanitized(of, inputs, tmp_path)
    assert np.array_equal(sanitized.reshape(-1), wanted.reshape(-1).view(np.uint8))


def test_what_lies_behind_an_exit_is_not_computed_for_samples_that_leave() -> None:
    code = write_c(with_exits()).code
    body = code[code.index("network_run(const"):]
    first, second = (body.index(f"&step{number},") for number in (1, 0))
    assert first < body.index("ew_is_sure") < second
