"""Networks on emulated microcontrollers: the same bits, with flash, memory and instructions."""

from __future__ import annotations

import numpy as np
import pytest
from tests.integers.networks import (
    average,
    convolution,
    draw_integers,
    network,
    pair,
    tensor,
    with_exits,
)

from edgewright.boards import BOARDS, is_available, run_on_board
from edgewright.errors import MissingToolError, ModelError, UsageError
from edgewright.integers import IntegerNetwork, Lookup, Sum, run_exits, run_reference
from edgewright.integers.c import write_c

needs_tools = pytest.mark.skipif(not is_available(), reason="needs arm-none-eabi-gcc and "
                                                            "qemu-system-arm")
NETWORKS: dict[str, IntegerNetwork] = {
    "convolution": convolution(1, outputs=5), "depthwise": convolution(11, groups=4, outputs=4),
    "4 bits": convolution(15, bits=4, channels=3), "1 bit": convolution(18, bits=1, channels=3),
    "sum": pair(Sum, 2, ("uint8", "int8")), "average": average(1, varies=True)}


@needs_tools
@pytest.mark.parametrize("cpu", BOARDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_board_computes_what_the_reference_computes(name: str, cpu: str) -> None:
    of = NETWORKS[name]
    inputs = draw_integers(of, 10)
    found = run_on_board(of, write_c(of), cpu, inputs)
    for one, wanted in zip(found.outputs, run_reference(of, inputs), strict=True):
        assert np.array_equal(one, wanted)
    assert 100 < found.flash_bytes < 20_000
    assert 0 < found.ram_bytes < 4000
    assert 500 < found.instructions < 500_000


@needs_tools
def test_samples_of_fewer_instructions_than_a_tick_are_counted() -> None:
    values = tensor("in", (1,)), tensor("out", (1,))
    of = network([values[0]], values[1], Lookup(input="in", output="out", table="t"),
                 {"t": np.arange(256, dtype=np.uint8)})
    found = run_on_board(of, write_c(of), "cortex-m4", draw_integers(of, 3))
    assert found.most_instructions <= 200


@needs_tools
def test_samples_that_leave_early_take_fewer_instructions() -> None:
    of = with_exits()
    inputs = draw_integers(of, 40)
    wanted, taken = run_exits(of, inputs)
    found = run_on_board(of, write_c(of), "cortex-m4", inputs)
    assert np.array_equal(found.outputs[0], wanted)
    assert found.exits is not None
    assert np.array_equal(found.exits, taken)
    assert found.instructions < found.most_instructions


@needs_tools
def test_a_network_that_exceeds_a_board_is_refused() -> None:
    of = convolution(0, channels=300, outputs=300)
    with pytest.raises(ModelError, match="linking for cortex-m55, with 512 kB of flash"):
        run_on_board(of, write_c(of), "cortex-m55", draw_integers(of, 1))


def test_an_unknown_processor_is_refused() -> None:
    of = convolution(0)
    with pytest.raises(UsageError, match=r"unknown processor 'z80'.*cortex-m0"):
        run_on_board(of, write_c(of), "z80", draw_integers(of, 1))


def test_missing_tools_are_named_with_the_line_that_installs_them(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    of = convolution(0)
    with pytest.raises(MissingToolError, match="apt-get install gcc-arm-none-eabi") as caught:
        run_on_board(of, write_c(of), "cortex-m4", draw_integers(of, 1))
    assert caught.value.exit_code == 6
