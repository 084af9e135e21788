"""Quantization of CIFAR-10 ResNets against ONNX Runtime, NNCF and torchao, on the runtime.

Every method starts from the same weights. What calibrates sees the same 1,024 training images; what
trains has the original as its teacher and at most 3 epochs. 5,000 training images are held out (the
published weights have seen them, so that accuracy on these is flattering, for every method alike);
the 10,000 test images are only measured on: the file on its runtime, and the simulation of its
integers in floating point, wherever the method has one.

Each row is stored once measured and not measured again, so the benchmark can be run in pieces.
Files are kept, so that ``--latency`` can be run separately, on an idle machine: all files of a
model in one process, one pinned thread, in turn. The peers are for this benchmark alone::

    pip install nncf==3.4.0 openvino==2026.4.1 torchao==0.18.0

Example:
    python -m benchmarks.quantization.cifar10.run --data DIR --weights DIR --only 'resnet20-ort-*'
    python -m benchmarks.quantization.cifar10.run --data DIR --weights DIR --latency
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, TypeVar

import torch

from benchmarks.common.arguments import row_arguments
from benchmarks.common.paths import RESULTS, ROOT
from benchmarks.common.result_rows import Rows, keep, provenance, stored
from benchmarks.quantization.cifar10.edgewright_methods import OURS, quantize_ours
from benchmarks.quantization.cifar10.latency import time_files
from benchmarks.quantization.cifar10.nncf_peer import quantize_nncf
from benchmarks.quantization.cifar10.onnxruntime_peer import quantize_static
from benchmarks.quantization.cifar10.rows import (
    Candidate,
    Subject,
    in_torch,
    judge,
    on_engine,
    store,
)
from benchmarks.quantization.cifar10.torchao_peer import QUANTIZERS, export_onnx, quantize_pt2e
from benchmarks.quantization.unfused_operators import UnfusedEngine
from edgewright.task import load_task

STORED: Final = RESULTS / "quantize_cifar10.json"
FILES: Final = ROOT / "runs" / "quantize_cifar10"
PEERS: Final = ("ort-static", "nncf-ptq", *(f"torchao-{name}" for name in QUANTIZERS))
MODELS: Final = {"resnet20": ("float", *PEERS, *OURS),
                 "resnet56": ("float", *PEERS, "ours-w8a8-ptq", "ours-w4a8-ptq")}
_PACKAGES: Final = ("edgewright", "torch", "torchao", "nncf", "openvino", "onnx", "onnxscript",
                    "onnxruntime", "numpy")

T = TypeVar("T")


def main() -> None:
    """Run the rows that are asked for and missing, or time the files; then print the table."""
    arguments = parse()
    warnings.filterwarnings("ignore", category=FutureWarning)
    torch.set_num_threads(arguments.threads)
    todo = {model: missing for model, methods in MODELS.items()
            if (missing := _missing(model, methods, arguments))}
    if arguments.list:
        print(*(f"{model}-{method}" for model, methods in todo.items() for method in methods),
              sep="\n")
        return
    found = latencies(arguments) if arguments.latency else rows_by_scale(todo, arguments)
    for key, row in found:
        keep(arguments.results, key, {**row, **provenance(
            _PACKAGES, seed=arguments.seed, threads=arguments.threads)})
    print(table(stored(arguments.results)))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = row_arguments(__doc__, STORED)
    parser.add_argument("--latency", action="store_true", help="only time the files that are kept")
    parser.add_argument("--rounds", type=int, default=400, help="runs of each file, to be timed")
    parser.add_argument("--files", type=Path, default=FILES, help="folder that keeps the files")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _missing(model: str, methods: tuple[str, ...], arguments: argparse.Namespace) -> list[str]:
    rows = stored(arguments.results)
    return [method for method in methods if (key := f"{model}-{method}") not in rows
            and fnmatchcase(key, arguments.only)]


def rows_by_scale(todo: dict[str, list[str]],
            arguments: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Quantize, store the file and judge it, row by row."""
    for model, methods in todo.items():
        subject = Subject.load(model, arguments.data, arguments.weights, arguments.seed)
        for method in methods:
            key = f"{model}-{method}"
            candidate = make(method, subject)
            yield key, judge(subject, candidate, store(candidate, arguments.files / key))


def make(method: str, subject: Subject) -> Candidate:
    """The row of one method on one model."""
    if method in OURS:
        return quantize_ours(method, subject)
    if method == "float":
        return Candidate({".onnx": subject.float_file}, in_torch(subject.module), "torch", 0.0)
    if method == "ort-static":
        file, seconds = _timed(lambda: quantize_static(subject.float_file, subject.calibration))
        return Candidate({".onnx": file}, on_engine(UnfusedEngine(file)),
                         "onnxruntime, operator by operator", seconds)
    if method == "nncf-ptq":
        files, seconds = _timed(lambda: quantize_nncf(subject.float_file, subject.calibration))
        return Candidate(files, None, None, seconds)
    name = method.removeprefix("torchao-")
    module, seconds = _timed(lambda: quantize_pt2e(name, subject.module, subject.calibration))
    return Candidate({".onnx": export_onnx(module, subject.calibration)}, in_torch(module),
                     "torch", seconds)


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    since = time.perf_counter()
    return work(), time.perf_counter() - since


def latencies(arguments: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """One row a model: the latency of every file that is there."""
    images = load_task(f"cifar10:{arguments.data}", normalize="imagenet").test
    for model, methods in MODELS.items():
        found = {method: path for method in methods for suffix in (".onnx", ".xml")
                 if (path := arguments.files / f"{model}-{method}{suffix}").is_file()}
        if found and fnmatchcase(f"{model}-latency", arguments.only):
            yield f"{model}-latency", {"files": time_files(found, images, arguments.rounds)}


def table(rows: Rows) -> str:
    """Accuracies in percent, drops in points from the float file, bytes, and latency ratios."""
    lines = ["| model | method | test | drop | held out | simulated | agree | bytes | bundle | "
             "of float | of ort-static |", "|---|---|---|---|---|---|---|---|---|---|---|"]
    for model, methods in MODELS.items():
        times = rows.get(f"{model}-latency", {}).get("files", {})
        base = rows.get(f"{model}-float", {}).get("test_accuracy")
        for method in methods:
            if row := rows.get(f"{model}-{method}"):
                drop = None if base is None or row["test_accuracy"] is None else (
                    base - row["test_accuracy"])
                ratios = times.get(method, {})
                cells = [_percent(row["test_accuracy"]), _percent(drop),
                         _percent(row["val_accuracy"]), _percent(row["test_accuracy_simulated"]),
                         _percent(row["agreement"]),
                         *(_plain(row.get(name)) for name in ("file_bytes", "bundle_bytes")),
                         *(_plain(ratios.get(name)) for name in ("of_float", "of_ort_static"))]
                lines.append(f"| {model} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f}"


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:,}"


if __name__ == "__main__":
    main()
