"""The files of finished searches beside the best files that peers make of ResNet-56.

Peers start from the same weights: ONNX Runtime's and NNCF's post-training quantization, and
Torch-Pruning at several rates, trained on the labels for ``--minutes`` and then quantized by ONNX
Runtime. ResNet-20's published weights, quantized by ONNX Runtime, are the control: a plainly
smaller network. Sizes are those of the files, deflated, as bundles are. ``--latency`` times all
files in turn in one process on one core, and then prints for each of our files the best peer that
is no larger, and the best that is no slower. The peers are for this benchmark alone::

    pip install nncf==3.4.0 openvino==2026.4.1 torch-pruning==1.6.1

Example:
    python -m benchmarks.search.front --data DIR --weights DIR --only 'torch-pruning *'
    python -m benchmarks.search.front --data DIR --weights DIR --runs DIR DIR --latency
"""

from __future__ import annotations

import time
import warnings
import zlib
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import torch

import edgewright as ew
from benchmarks.common.arguments import row_arguments
from benchmarks.common.paths import RESULTS, ROOT
from benchmarks.common.result_rows import Rows, keep, provenance, stored
from benchmarks.pruning.cifar10_torch_pruning import prune_with_peer
from benchmarks.quantization.cifar10.nncf_peer import quantize_nncf
from benchmarks.quantization.cifar10.onnxruntime_peer import quantize_static
from benchmarks.quantization.cifar10.rows import Engine, Subject, on_engine, open_engine
from edgewright.bundle import read_bundle
from edgewright.exporters import to_onnx
from edgewright.measure import compare_latency, pin_to_core
from edgewright.runtime import Session
from edgewright.search import read_record
from edgewright.task import Split

STORED: Final = RESULTS / "front.json"
FILES: Final = ROOT / "runs" / "front"
_PACKAGES: Final = ("edgewright", "torch", "nncf", "openvino", "torch-pruning", "onnxruntime")
_KEPT: Final = (0.75, 0.5, 0.35, 0.25, 0.15)  # of the multiply-accumulates
_PRUNER: Final = "group-norm-global"  # its best in ``benchmarks/pruning/cifar10.py``
_IMAGES: Final = 200
_ROUNDS: Final = 40
_IN_A_ROW: Final = 10
_QUIETEST: Final = 0.5
_OURS: Final = "ours, "

Files = dict[str, bytes]


def main() -> None:
    """Make the peers' files, or time all files; then print the comparison."""
    parser = row_arguments(__doc__, STORED)
    parser.add_argument("--runs", nargs="*", type=Path, default=[], help="finished searches")
    parser.add_argument("--files", type=Path, default=FILES, help="folder of the peers' files")
    parser.add_argument("--minutes", type=float, default=20.0, help="of training after pruning")
    parser.add_argument("--latency", action="store_true", help="time all files and compare them")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    makers = _makers(arguments.minutes)
    todo = [name for name in makers if name not in stored(arguments.results)
            and fnmatchcase(name, arguments.only)]
    if arguments.list:
        print(*todo, sep="\n")
        return
    origin = provenance(_PACKAGES, seed=arguments.seed)
    if not arguments.latency:
        for name in todo:
            keep(arguments.results, name, origin | _make(name, makers[name], arguments))
        return
    task = Subject.load("resnet20", arguments.data, arguments.weights, arguments.seed).task
    for folder in arguments.runs:
        for name, row in _read_ours(folder).items():
            keep(arguments.results, name, origin | row)
    keep(arguments.results, "latency", origin | _time_all(arguments, task.test))
    print(_compare(stored(arguments.results)))


def _makers(minutes: float) -> dict[str, tuple[str, Callable[[Subject], Files]]]:
    """The network that every peer starts from, and what it makes of it, by name."""
    def static(subject: Subject) -> Files:
        return {".onnx": quantize_static(subject.float_file, subject.calibration)}

    def nncf(subject: Subject) -> Files:
        return quantize_nncf(subject.float_file, subject.calibration)

    def pruned(kept: float) -> Callable[[Subject], Files]:
        def make(subject: Subject) -> Files:
            program = prune_with_peer(_PRUNER, subject.module, subject.task, kept, samples=1024,
                                      seed=subject.seed)
            training = ew.Training(time=60 * minutes, lr=0.05, schedule="one_cycle")
            trained = ew.fit(program, subject.task, training, seed=subject.seed)
            return {".onnx": quantize_static(to_onnx(trained), subject.calibration)}

        return make

    return {"onnxruntime": ("resnet56", static), "nncf": ("resnet56", nncf),
            "control, resnet20 by onnxruntime": ("resnet20", static),
            **{f"torch-pruning to {kept:.0%}, onnxruntime": ("resnet56", pruned(kept))
               for kept in _KEPT}}


def _make(name: str, maker: tuple[str, Callable[[Subject], Files]],
          arguments: Any) -> dict[str, Any]:
    """Make a peer's file, keep it, and measure its accuracy on the test split."""
    network, make = maker
    subject = Subject.load(network, arguments.data, arguments.weights, arguments.seed)
    since = time.perf_counter()
    files = make(subject)
    seconds = round(time.perf_counter() - since, 1)
    paths = [arguments.files / f"{name}{suffix}" for suffix in files]
    for path, content in zip(paths, files.values(), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    logits = on_engine(open_engine(paths[0]))(subject.task.test)
    targets = torch.cat([batch.targets for batch in subject.task.test.batches(500)]).numpy()
    return {"file": paths[0].name, "accuracy": float((logits.argmax(axis=1) == targets).mean()),
            "bytes": sum(len(zlib.compress(content, 9)) for content in files.values()),
            "seconds": seconds}


def _read_ours(folder: Path) -> Rows:
    """The verified files of a search's front."""
    record, found = read_record(folder), {}
    for name in record.front:
        path = folder / "trials" / name / "model.edge"
        if path.is_file():
            compressed = read_bundle(path).manifest.report.compressed
            found[f"{_OURS}{folder.name} {name}"] = {
                "file": str(path), "accuracy": compressed["accuracy"],
                "bytes": compressed["size_bytes"], "seconds": record.seconds}
    return found


def _time_all(arguments: Any, images: Split) -> dict[str, Any]:
    """Median latencies in ms of all files, in turn; ours through the session that reads bundles."""
    samples = [(batch.inputs[0].numpy(),)
               for batch in images.select(range(_IMAGES)).batches(1)]

    def run_engine(engine: Engine) -> Callable[[int], object]:
        return lambda index: engine.run(samples[index % _IMAGES])

    def run_session(session: Session) -> Callable[[int], object]:
        return lambda index: session(*samples[index % _IMAGES])

    with pin_to_core():
        candidates = {
            name: run_session(Session(read_bundle(row["file"]))) if name.startswith(_OURS)
            else run_engine(open_engine(arguments.files / row["file"]))
            for name, row in stored(arguments.results).items() if "file" in row}
        found = compare_latency(candidates, rounds=_ROUNDS, warmup=20, in_a_row=_IN_A_ROW,
                                quietest=_QUIETEST)
    return {"median_ms": {name: round(one.median_ms, 4) for name, one in found.items()},
            "mean_ms": {name: round(one.mean_ms, 4) for name, one in found.items()}}


def _compare(rows: Rows) -> str:
    """Every file; for ours, the best peer that is no larger, and the best that is no slower."""
    times = rows["latency"]["median_ms"]
    peers = {name: row for name, row in rows.items()
             if "file" in row and not name.startswith(_OURS)}
    lines = ["| file | test | bytes | ms | best peer of no more bytes | of no more ms |",
             "|---|---|---|---|---|---|"]
    for name, row in sorted(rows.items(), key=lambda item: item[1].get("bytes", 0)):
        if "file" not in row:
            continue
        rivals = ("", "") if name in peers else (
            _best(peers, [other for other in peers if peers[other]["bytes"] <= row["bytes"]]),
            _best(peers, [other for other in peers if times[other] <= times[name]]))
        cells = [name, f"{100 * row['accuracy']:.2f}", f"{row['bytes']:,.0f}",
                 f"{times[name]:.3f}", *rivals]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _best(peers: Mapping[str, Mapping[str, Any]], names: list[str]) -> str:
    best = max(names, key=lambda name: float(peers[name]["accuracy"]), default="")
    return best and f"{best}: {100 * peers[best]['accuracy']:.2f}"


if __name__ == "__main__":
    main()
