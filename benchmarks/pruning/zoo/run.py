"""The zoo: prune half of the channels of every model, prove it, and run the result; one row each.

Every classification model of torchvision with at most 120 M parameters, and a choice of timm's,
random weights, at the model's own image size. Each side runs in a process of its own, on one
thread, Edgewright and Torch-Pruning first in turn. Each row is stored once measured; a model with a
complete row is skipped. The peer and the models' sources are for this benchmark alone::

    pip install torchvision==0.28.0 timm==1.0.31 torch-pruning==1.6.1

Example:
    python -m benchmarks.pruning.zoo.run --only 'torchvision:resnet*'
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from benchmarks.common.commands import child_command, running_command
from benchmarks.common.paths import RESULTS
from benchmarks.common.result_rows import versions
from benchmarks.pruning.zoo.edgewright_side import run_ours
from benchmarks.pruning.zoo.models import LARGEST, ZooModel, all_models
from benchmarks.pruning.zoo.rows import Ours, Peer, last_error, last_row
from benchmarks.pruning.zoo.summary import summarize
from benchmarks.pruning.zoo.torch_pruning_side import run_peer
from edgewright.core import write_atomically
from edgewright.measure import machine

STORED: Final = RESULTS / "prune_zoo.json"
_PACKAGES: Final = ("edgewright", "torch", "torchvision", "timm", "torch-pruning", "onnx",
                    "onnxscript", "onnxruntime", "numpy")
_ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}

Results = dict[str, dict[str, Any]]


def main() -> None:
    """Run what is asked for and has no row yet, then print the table."""
    arguments = parse()
    if arguments.child:
        _child(arguments)
        return
    zoo, too_large = all_models()
    chosen = [model for model in zoo if fnmatchcase(str(model), arguments.only)]
    rows = _stored(arguments.results)
    todo = [model for model in chosen
            if arguments.redo or not _is_complete(rows.get(str(model), {}), arguments)]
    if arguments.list:
        print(*todo, sep="\n")
        return
    head = _head(arguments, too_large)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        tasks = {pool.submit(_both_sides, model, zoo.index(model), arguments): model
                 for model in todo}
        for task in as_completed(tasks):
            key = str(tasks[task])
            rows[key] = {**rows.get(key, {}), **task.result()}
            ordered = {str(model): rows[str(model)] for model in zoo if str(model) in rows}
            write_atomically(arguments.results,
                             (json.dumps({**head, "models": ordered}, indent=1) + "\n").encode())
            print(key, json.dumps(rows[key]), flush=True)
    summarize({str(model): rows[str(model)] for model in chosen if str(model) in rows})


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", metavar="PATTERN", help="such as 'timm:*'")
    parser.add_argument("--redo", action="store_true", help="also what has a complete row")
    parser.add_argument("--list", action="store_true", help="name what would be run, and stop")
    parser.add_argument("--stage", default="onnx", choices=["capture", "prune", "onnx"],
                        help="how far to take each model")
    parser.add_argument("--no-peer", action="store_true", help="leave Torch-Pruning out")
    parser.add_argument("--jobs", type=int, default=1, help="times compare only with one")
    parser.add_argument("--timeout", type=float, default=600, help="seconds per side")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=STORED)
    parser.add_argument("--child", choices=["ours", "peer"], help=argparse.SUPPRESS)
    return parser.parse_args()


def _child(arguments: argparse.Namespace) -> None:
    if arguments.child == "peer":
        run_peer(arguments.only, arguments.seed)
    else:
        run_ours(arguments.only, arguments.stage, arguments.seed)


def _both_sides(model: ZooModel, place: int, arguments: argparse.Namespace) -> Results:
    """The row of one model; who goes first alternates, as the second finds its files cached."""
    sides = ["ours"] if arguments.no_peer else ["ours", "peer"]
    found = {side: _side(model, side, arguments) for side in sides[:: -1 if place % 2 else 1]}
    return {side: found[side] for side in sides}


def _side(model: ZooModel, side: str, arguments: argparse.Namespace) -> dict[str, Any]:
    command = child_command("--child", side, "--only", str(model),
                            "--stage", arguments.stage, "--seed", str(arguments.seed))
    failure = None
    try:
        done = subprocess.run(command, capture_output=True, check=False, env=os.environ
                              | _ONE_THREAD, timeout=arguments.timeout)
        output = done.stdout
        if done.returncode:
            failure = last_error(done.stderr.decode(errors="replace"))
    except subprocess.TimeoutExpired as error:
        output, failure = error.stdout or b"", f"not done after {arguments.timeout:g} s"
    kind: type[Ours | Peer] = Ours if side == "ours" else Peer
    return asdict(last_row(kind, output.decode(), failure))


def _stored(path: Path) -> Results:
    rows: Results = json.loads(path.read_text())["models"] if path.is_file() else {}
    return rows


def _is_complete(row: dict[str, Any], arguments: argparse.Namespace) -> bool:
    last = {"capture": "capture_seconds", "prune": "prune_seconds", "onnx": "onnx_error"}
    ours = row.get("ours", {})
    is_done = bool(ours) and (ours["failure"] or ours[last[arguments.stage]] is not None)
    return bool(is_done and (arguments.no_peer or "peer" in row))


def _head(arguments: argparse.Namespace, too_large: dict[str, int]) -> dict[str, Any]:
    return {"command": running_command(), "seed": arguments.seed,
            "machine": machine(), "versions": versions(_PACKAGES),
            "most_parameters": LARGEST, "left_out": too_large}


if __name__ == "__main__":
    main()
