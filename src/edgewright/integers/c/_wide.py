"""Steps as the kernels for AVX-512 with VNNI read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edgewright.integers._network import IntegerNetwork
from edgewright.integers._steps import Convolution, Step, Sum, Window

LANES: Final = 16   # output channels of a block
_PLACES: Final = 16  # output places whose inputs are copied at once
_TAPS: Final = 128   # the most taps of a depthwise kernel
_FLAGS: Final = {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"}


def runs_wide_kernels(cpuinfo: str = "/proc/cpuinfo") -> bool:
    """Whether this machine's processor has AVX-512 with VNNI."""
    try:
        text = Path(cpuinfo).read_text()
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return set(flags.split()) >= _FLAGS


def is_wide(step: Step, network: IntegerNetwork) -> bool:
    """Whether a step has a kernel for AVX-512."""
    if not all(network.tensors[name].dtype == "uint8" for name in step.inputs):
        return False
    if isinstance(step, Convolution):
        taps = step.window.kernel[0] * step.window.kernel[1]
        return step.groups == 1 or (taps <= _TAPS and step.groups == step.window.inputs[-1]
                                    == step.window.outputs[-1])
    if isinstance(step, Sum):
        first, second = (network.tensors[name].size for name in step.inputs)
        return first == second
    return False


def reads_whole_words(step: Convolution) -> bool:
    """Whether the rows of a kernel are contiguous bytes, a multiple of 4 of them."""
    return step.window.dilation[1] == 1 and (
        step.window.kernel[1] * step.window.inputs[-1]) % 4 == 0


def padded_bytes(step: Convolution) -> int:
    """Working memory: a copy of the input with its padding, and what some places read."""
    window = step.window
    *_, channels = window.inputs
    sides = [(out - 1) * stride + (size - 1) * dilation + 1 for out, stride, size, dilation in zip(
        window.outputs, window.stride, window.kernel, window.dilation, strict=False)]
    padded = sides[0] * sides[1] * channels
    if step.groups == 1 and not reads_whole_words(step):
        taps = window.kernel[0] * window.kernel[1] * channels
        return padded + _PLACES * 4 * -(-taps // 4)
    fits = all(side <= given for side, given in zip(sides, window.inputs, strict=False))
    return 0 if step.groups == 1 and fits and not any(window.padding) else padded


def flatten_places(window: Window) -> Window:
    """A window of 1 x 1 at every place as one row, so that no place is left over in each row.

    Example:
        >>> window = Window(inputs=(3, 5, 8), outputs=(3, 5, 4), kernel=(1, 1))
        >>> flatten_places(window).outputs
        (1, 15, 4)
    """
    (height, width, channels), (*sides, outputs) = window.inputs, window.outputs
    if window.kernel != (1, 1) or window.stride != (1, 1) or sides != [height, width] or any(
            window.padding):
        return window
    return window.replace(inputs=(1, height * width, channels),
                          outputs=(1, height * width, outputs))


def block_weights(weight: NDArray[Any], *, whole_words: bool) -> NDArray[np.int8]:
    """Weights in blocks of outputs, each with 4 inputs of every output after another.

    Args:
        weight: (outputs, kernel height, kernel width, inputs), of int8.
        whole_words: Whether rows of the kernel are read one by one; else all of it at once.

    Returns:
        (blocks, words, 16, 4).
    """
    outputs, height, *_ = weight.shape
    blocks = -(-outputs // LANES)
    rows = height if whole_words else 1
    run = weight.size // outputs // rows
    words = -(-run // 4)
    padded = np.zeros((blocks * LANES, rows, words * 4), np.int8)
    padded[:outputs, :, :run] = weight.reshape(outputs, rows, run)
    split = padded.reshape(blocks, LANES, rows * words, 4)
    return np.ascontiguousarray(split.transpose(0, 2, 1, 3))


def block_taps(weight: NDArray[Any]) -> NDArray[np.int8]:
    """Weights of a depthwise convolution, 4 taps of every channel after another.

    Args:
        weight: (channels, kernel height, kernel width, 1), of int8.

    Returns:
        (blocks, groups of taps, 16, 4).
    """
    channels = len(weight)
    taps = weight.size // channels
    blocks, quads = -(-channels // LANES), -(-taps // 4)
    padded = np.zeros((blocks * LANES, quads * 4), np.int8)
    padded[:channels, :taps] = weight.reshape(channels, taps)
    split = padded.reshape(blocks, LANES, quads, 4)
    return np.ascontiguousarray(split.transpose(0, 2, 1, 3))


def fill_block(array: NDArray[Any]) -> NDArray[Any]:
    """An array per output, with zeros up to a whole block."""
    return np.concatenate([array, np.zeros(-len(array) % LANES, array.dtype)])


def to_scales(factors: NDArray[Any], shifts: NDArray[Any]) -> NDArray[np.float64]:
    """``factors / 2**shifts`` in double precision, exactly."""
    return np.ldexp(factors.astype(np.float64), -shifts.astype(np.int64))
