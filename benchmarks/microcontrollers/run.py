"""Networks in C on emulated microcontrollers: flash, memory, instructions, and the same bits.

ResNet-8 of MLPerf Tiny with weights of 8 and of 4 bits, and ResNet-20, on every emulated board.

Instructions are those that qemu executes, per sample. They are not cycles: a multiplication, a
load and a missed branch count as one each. `flash_bytes` is the network's own file,
without functions of the compiler and the C library. Memory includes the deepest stack and excludes
inputs and outputs.

Example:
    python -m benchmarks.microcontrollers.run --data DIR --weights DIR
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from functools import cache, partial
from typing import Any, Final

from benchmarks.common.arguments import row_arguments
from benchmarks.common.paths import RESULTS
from benchmarks.common.result_rows import keep, provenance, stored
from benchmarks.microcontrollers.models import MODELS, load, quantize
from benchmarks.microcontrollers.ours import Ours
from edgewright.boards import BOARDS

_PACKAGES: Final = ("edgewright", "torch", "numpy", "onnxruntime")
_SAMPLES: Final = {"cortex-m4": 200}
_FEWER_SAMPLES: Final = 20

Rows = Iterator[tuple[str, Callable[[], dict[str, Any]]]]


def main() -> None:
    """Measure every row that is missing."""
    parser = row_arguments(__doc__, RESULTS / "microcontrollers.json")
    settings = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    for key, measure in _rows(settings):
        if not fnmatchcase(key, settings.only) or key in stored(settings.results):
            continue
        if settings.list:
            print(key)
        else:
            keep(settings.results, key, {**measure(), **provenance(_PACKAGES, seed=0)})


def _rows(settings: argparse.Namespace) -> Rows:
    @cache
    def ours(name: str) -> Ours:
        network, task = load(MODELS[name], settings.data, settings.weights)
        return Ours(MODELS[name], quantize(MODELS[name], network, task), task)

    for name in MODELS:
        for cpu in BOARDS:
            yield f"{name}, {cpu}", partial(_on_board, ours, name, cpu)
        yield f"{name}, answers", partial(_answers, ours, name)


def _on_board(ours: Callable[[str], Ours], name: str, cpu: str) -> dict[str, Any]:
    return ours(name).measure_board(cpu, _SAMPLES.get(cpu, _FEWER_SAMPLES))


def _answers(ours: Callable[[str], Ours], name: str) -> dict[str, Any]:
    return ours(name).measure_answers()


if __name__ == "__main__":
    main()
