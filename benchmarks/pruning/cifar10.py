"""Channel pruning of CIFAR-10 ResNets against Torch-Pruning's group-norm and Taylor pruners.

Every method starts from the same weights, has to leave at most the same share of the
multiply-accumulates (by one counter, `Program.costs`), and is then trained by the same loop on the
same labels, with the same schedule and seed; 0 epochs is the program as it comes out of pruning.
5,000 of the training images are held out: they select the epoch, and the peer's best variant. The
10,000 test images are only measured on, once in torch and once on the exported file in ONNX
Runtime. The published weights have seen the held-out images too, so that accuracy on these is
flattering, for every method alike. Latency is not judged here, so channels go one by one
(``round_to=1``) on both sides.

Each row is stored once measured and not measured again, so the benchmark can be run in pieces.
Where the two sides differ by less than one seed does from another, the best variants are run with
three seeds, and the table has their means. The peer is for this benchmark alone::

    pip install torch-pruning==1.6.1

Example:
    python -m benchmarks.pruning.cifar10 --data DIR --weights DIR --only 'resnet20-4x-*'
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain
from statistics import fmean
from typing import Any, Final

import torch

import edgewright as ew
from benchmarks.common.accuracy import accuracies
from benchmarks.common.arguments import row_arguments
from benchmarks.common.paths import RESNETS, RESULTS
from benchmarks.common.result_rows import Rows, keep, provenance, stored
from benchmarks.pruning.cifar10_torch_pruning import PEERS, prune_with_peer
from edgewright.task import load_model, load_task

STORED: Final = RESULTS / "prune_cifar10.json"
# The residual stream may be cut as well, which Torch-Pruning cannot do here (its shortcuts pad), or
# be left whole.
_WHOLE_STREAM: Final = {"ignore": ("conv1", "*.conv2")}
_SOLVED: Final = {"criterion": "gauss_newton", "normalize": False, "allocation": "solved"}
SAMPLES: Final = 1024  # training images every data-driven criterion looks at, a step
# Ours by name. Where little or no training follows, channels are chosen by their effect on the
# logits; where more does, by norms, which leave more parameters for the same MACs. On
# ResNet-20 at 2x, four times the samples to compensate with are worth 0.4 points after 3 epochs.
# Many steps and a strong ridge start lower and end higher (docs/decisions/0011).
OURS: Final[dict[str, dict[str, Any]]] = {
    "ours": _SOLVED | {"samples": SAMPLES},
    "ours-stream": _SOLVED | _WHOLE_STREAM | {"samples": SAMPLES},
    "ours-l2": {"criterion": "l2", "allocation": "global", "samples": 4 * SAMPLES} | _WHOLE_STREAM,
    "ours-norms": {"criterion": "magnitude", "allocation": "global", "samples": 4 * SAMPLES,
                   "steps": 64, "ridge": 1.0} | _WHOLE_STREAM,
}
_PACKAGES: Final = ("edgewright", "torch", "torch-pruning", "onnx", "onnxruntime", "numpy")


@dataclass(frozen=True)
class Point:
    """The setting that every method is compared at.

    Attributes:
        model: Factory in ``examples/resnet.py``.
        reduction: Times fewer multiply-accumulates.
        epochs: Lengths of the recovery, each a run of its own.
    """

    model: str
    reduction: float
    epochs: tuple[int, ...]

    def key(self, method: str, epochs: int, seed: int = 0) -> str:
        """Name of a row."""
        name = f"{self.model}-{self.reduction:g}x-{method}-{epochs}ep"
        return f"{name}-seed{seed}" if seed else name


_SEEDS: Final = {f"resnet56-2.6x-{method}-1ep": (0, 1, 2)
                 for method in ("ours-norms", "group-norm-global")}
POINTS: Final = (Point("resnet20", 4, (0, 1, 3)), Point("resnet20", 2, (0, 1, 3)),
                 Point("resnet56", 4, (0, 1)), Point("resnet56", 2.6, (0, 1)))


def main() -> None:
    """Run the rows that are asked for and missing, then print the table."""
    arguments = parse()
    warnings.filterwarnings("ignore", category=FutureWarning)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    rows = stored(arguments.results)
    todo = [(point, method, seed, missing) for point in POINTS for method in (*OURS, *PEERS)
            for seed in sorted({0, *chain(*_SEEDS.values())})
            if (missing := _missing(point, method, seed, rows, arguments.only))]
    if arguments.list:
        print(*(point.key(method, epochs, seed) for point, method, seed, missing in todo
                for epochs in missing), sep="\n")
        return
    for point, method, seed, missing in todo:
        for key, row in run(point, method, seed, missing, arguments):
            keep(arguments.results, key, row)
    print(table(stored(arguments.results)))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = row_arguments(__doc__, STORED)
    parser.add_argument("--threads", type=int, help="of torch; all cores if left out")
    return parser.parse_args()


def _missing(point: Point, method: str, seed: int, rows: Rows, only: str) -> tuple[int, ...]:
    keys = {epochs: point.key(method, epochs, seed) for epochs in point.epochs
            if seed in _seeds(point, method, epochs)}
    return tuple(epochs for epochs, key in keys.items()
                 if key not in rows and fnmatchcase(key, only))


def _seeds(point: Point, method: str, epochs: int) -> tuple[int, ...]:
    return _SEEDS.get(point.key(method, epochs), (0,))


def run(point: Point, method: str, seed: int, lengths: tuple[int, ...],
        arguments: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Prune once, recover for each of the lengths, and yield the rows."""
    task = load_task(f"cifar10:{arguments.data}", normalize="imagenet", seed=seed)
    model = load_model(f"{RESNETS}:{point.model}",
                       arguments.weights / f"{point.model}-cifar10.safetensors")
    whole = ew.Program.capture(model, task.train.example(1))
    since = time.perf_counter()
    if method in OURS:
        pruned = ew.prune(whole, task, ours(point, method), seed=seed)
    else:
        pruned = prune_with_peer(method, model, task, 1 / point.reduction, samples=SAMPLES,
                                 seed=seed)
    seconds = time.perf_counter() - since
    for epochs in lengths:
        since = time.perf_counter()
        training = schedule(epochs) if epochs else None
        program = ew.fit(pruned, task, training, seed=seed) if training else pruned
        yield point.key(method, epochs, seed), {
            **_cost(whole, program),
            **accuracies(program, task),
            "prune_seconds": round(seconds, 1),
            "fit_seconds": round(time.perf_counter() - since, 1),
            "training": training.model_dump(exclude_defaults=True) if training else None,
            **provenance(_PACKAGES, seed=seed, threads=torch.get_num_threads()),
        }


def ours(point: Point, method: str) -> ew.ChannelPruning:
    """The settings of one of `OURS`, chosen on the validation images.

    On ResNet-20 at 4x and after a third of an epoch, one step in place of eight costs 2 points,
    and ``global`` in place of ``solved`` 3 with the scores of ``ours``.
    """
    return ew.ChannelPruning(**{"compensate": True, "steps": 8, "ratio": 1 - 1 / point.reduction,
                                "round_to": 1, "least_width": 0} | OURS[method])


def schedule(epochs: int) -> ew.Training:
    """The recovery of every method, on the labels alone.

    Of the peak rates 0.01, 0.02, 0.05 and 0.1, this is the best on the validation images for the
    peer's best variant (ResNet-20 at 4x, a third of an epoch).
    """
    return ew.Training(epochs=epochs, lr=0.02)


def _cost(whole: ew.Program, program: ew.Program) -> dict[str, Any]:
    before, after = whole.costs(), program.costs()
    return {"macs": after.macs, "macs_ratio": round(before.macs / after.macs, 3),
            "parameters": after.parameters,
            "channels": [layer.channels for layer in after.layers]}


def table(rows: Rows) -> str:
    """Test accuracy in percent; of either side the variant that is best on validation.

    The best with the first seed; its accuracy is the mean over all seeds that both sides have.
    """
    lines = ["| model | MACs | epochs | seeds | ours | variant | best peer | variant | points |",
             "|---|---|---|---|---|---|---|---|---|"]
    for point in POINTS:
        for epochs in point.epochs:
            mine, peers = (_best(rows, point, names, epochs) for names in (OURS, PEERS))
            if mine is None or peers is None:
                continue
            seeds = [seed for seed in _seeds(point, mine, epochs)
                     if all(point.key(name, epochs, seed) in rows for name in (mine, peers))]
            a, b = (100 * fmean(rows[point.key(name, epochs, seed)]["test_accuracy"]
                                for seed in seeds) for name in (mine, peers))
            lines.append(f"| {point.model} | {point.reduction:g}x fewer | {epochs} | "
                         f"{', '.join(map(str, seeds))} | {a:.2f} | {mine} | {b:.2f} | {peers} | "
                         f"{a - b:+.2f} |")
    return "\n".join(lines)


def _best(rows: Rows, point: Point, names: Iterable[str], epochs: int) -> str | None:
    found = {name: rows[key]["val_accuracy"] for name in names
             if (key := point.key(name, epochs)) in rows}
    return max(found, key=found.__getitem__) if found else None


if __name__ == "__main__":
    main()
