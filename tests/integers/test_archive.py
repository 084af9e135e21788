"""Networks as bytes: what is read is what was written, or it is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from tests.integers.networks import average, convolution, copies, draw_integers, with_exits

from edgewright.errors import BundleError
from edgewright.integers import IntegerNetwork, from_bytes, run_reference, to_bytes
from edgewright.integers.c import write_c


@pytest.mark.parametrize("of", [convolution(0), convolution(1, bits=2), average(0, varies=True),
                                copies(), with_exits()],
                         ids=["convolution", "2 bits", "average", "copies", "exits"])
def test_a_network_is_read_as_it_was_written(of: IntegerNetwork) -> None:
    data = to_bytes(of)
    read = from_bytes(data)
    assert read.structure == of.structure
    assert to_bytes(read) == data
    inputs = draw_integers(of, 3)
    for found, wanted in zip(run_reference(read, inputs), run_reference(of, inputs), strict=True):
        assert np.array_equal(found, wanted)


def split(data: bytes) -> tuple[bytes, dict[str, Any], bytes]:
    begin = data.index(b"\n") + 9
    length = int.from_bytes(data[begin - 8:begin], "little")
    return data[:begin - 8], json.loads(data[begin:begin + length]), data[begin + length:]


def joined(magic: bytes, header: Any, rest: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return magic + len(text).to_bytes(8, "little") + text + rest


def test_every_truncation_and_any_longer_file_is_refused() -> None:
    data = to_bytes(convolution(0))
    for end in [*range(60), *range(60, len(data), 37), len(data) - 1]:
        with pytest.raises(BundleError, match="export it again"):
            from_bytes(data[:end])
    with pytest.raises(BundleError, match="bytes, expected"):
        from_bytes(data + b"x")


def test_a_header_that_is_too_long_is_refused_before_it_is_read() -> None:
    magic, *_ = split(to_bytes(convolution(0)))
    with pytest.raises(BundleError, match="longer than"):
        from_bytes(magic + (2**60).to_bytes(8, "little") + b"{}")


@pytest.mark.parametrize("header", [b"", b"[]", b"nonsense", b"\xff\xfe", b"[" * 100_000,
                                    b'{"structure": {}}'])
def test_headers_of_another_form_are_refused(header: bytes) -> None:
    magic, _, rest = split(to_bytes(convolution(0)))
    with pytest.raises(BundleError, match="cannot be read"):
        from_bytes(joined(magic, header, rest))


def change(path: tuple[Any, ...], value: Any) -> bytes:
    magic, header, rest = split(to_bytes(convolution(0)))
    place = header
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return joined(magic, header, rest)


STEP: tuple[Any, ...] = ("structure", "steps", 0)


@pytest.mark.parametrize(("path", "value"), [
    (("constants", "w", "shape"), [2**31, 2**31, 2**31, 2**31]),
    (("constants", "w", "shape"), [1] * 5), (("constants", "w", "shape"), [6, 3, 3, 5]),
    (("constants", "w", "dtype"), "float64"), (("structure", "tensors", 0, "dtype"), "object"),
    (("structure", "tensors", 0, "shape"), [2**40]), (("structure", "tensors", 0, "scale"), 0.0),
    ((*STEP, "window", "inputs"), [7, 6, 400]), ((*STEP, "window", "stride"), [0, 1]),
    ((*STEP, "kind"), "loop"), ((*STEP, "groups"), 2**20), ((*STEP, "weight"), "b"),
    ((*STEP, "output"), "in"), ((*STEP, "bits"), 1), ((*STEP, "low"), -1),
    (("structure", "inputs", 0, "order"), [0, 0, 1]),
    (("structure", "exits"), [{"factor": 1, "shift": 1, "limit": 1}]),
    (("structure", "more"), 1)])
def test_structures_that_do_not_fit_together_are_refused(path: tuple[Any, ...],
                                                         value: Any) -> None:
    with pytest.raises(BundleError, match="cannot be read"):
        from_bytes(change(path, value))


def test_names_of_a_file_do_not_reach_the_code() -> None:
    evil = '"; system("touch /tmp/owned"); //*/ #include'
    data = to_bytes(convolution(0)).replace(b'"in"', json.dumps(evil).encode())
    magic = data[:data.index(b"\n") + 1]
    at = len(magic) + 8
    grown = data.count(json.dumps(evil).encode()) * (len(json.dumps(evil)) - len('"in"'))
    length = int.from_bytes(data[len(magic):at], "little") + grown
    source = write_c(from_bytes(magic + length.to_bytes(8, "little") + data[at:]))
    assert "system" not in source.code + source.header
    assert "owned" not in source.code + source.header
