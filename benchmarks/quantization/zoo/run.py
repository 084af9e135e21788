"""Models of different kinds: quantized, exported, and compared with ONNX Runtime; one row each.

Every one has random weights and calibrated batch norms, is calibrated on noise with Edgewright's
defaults, and runs in a process of its own, on one thread. A row says which layers stayed in
floating point and why, which of the file's layers ONNX Runtime runs on integers, and how far its
outputs are from the program's. For comparison, it has how far the outputs move when every number
that the program computes is changed in its last bit (no file can be nearer than that), and how many
integers single operators compute differently from the same inputs. Each row is stored once
measured; a model that has one is skipped. The models' sources are for this benchmark alone::

    pip install --no-deps torchvision==0.28.0 timm==1.0.31

Example:
    python -m benchmarks.quantization.zoo.run --only 'torchvision:*'
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from benchmarks.common.commands import child_command
from benchmarks.common.paths import RESULTS
from benchmarks.common.result_rows import Rows, provenance, stored
from benchmarks.pruning.zoo.rows import last_error
from benchmarks.quantization.zoo.models import MODELS
from benchmarks.quantization.zoo.row import ZooRow, run_model
from edgewright.core import write_atomically

STORED: Final = RESULTS / "quantize_zoo.json"
_PACKAGES: Final = ("edgewright", "torch", "torchvision", "timm", "onnx", "onnxscript",
                    "onnxruntime", "numpy")
_ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}


def main() -> None:
    """Run what is asked for and has no row yet, then print the table."""
    arguments = parse()
    if arguments.child:
        run_model(arguments.child, arguments.samples, arguments.seed)
        return
    todo = [name for name in MODELS if fnmatchcase(name, arguments.only)
            and (arguments.redo or name not in stored(arguments.results))]
    if arguments.list:
        print(*todo, sep="\n")
        return
    for name in todo:
        row = asdict(take(name, arguments)) | provenance(
            _PACKAGES, seed=arguments.seed, samples=arguments.samples, threads=1)
        rows = {**stored(arguments.results), name: row}
        ordered = {known: rows[known] for known in MODELS if known in rows}
        write_atomically(arguments.results, json.dumps(ordered, indent=1).encode() + b"\n")
        print(name, json.dumps(row), flush=True)
    print(table(stored(arguments.results)))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", metavar="PATTERN", help="such as 'timm:*'")
    parser.add_argument("--redo", action="store_true", help="also what has a row")
    parser.add_argument("--list", action="store_true", help="name what would be run, and stop")
    parser.add_argument("--samples", type=int, default=256, help="inputs that are compared")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds per model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=STORED)
    parser.add_argument("--child", metavar="MODEL", help=argparse.SUPPRESS)
    return parser.parse_args()


def take(name: str, arguments: argparse.Namespace) -> ZooRow:
    """The row of one model, as far as its process came."""
    command = child_command("--child", name, "--samples", str(arguments.samples),
                            "--seed", str(arguments.seed))
    failure = None
    try:
        done = subprocess.run(command, capture_output=True, check=False,
                              env=os.environ | _ONE_THREAD, timeout=arguments.timeout)
        output = done.stdout
        if done.returncode:
            failure = last_error(done.stderr.decode(errors="replace"))
    except subprocess.TimeoutExpired as error:
        output, failure = error.stdout or b"", f"not done after {arguments.timeout:g} s"
    rows = [line for line in output.decode().splitlines() if line.startswith('{"parameters"')]
    found: dict[str, Any] = json.loads(rows[-1]) if rows else {}
    return ZooRow(**{**found, "failure": failure})


def table(rows: Rows) -> str:
    """The rows, then why layers stayed in floating point, and every failure, by name."""
    lines = ["| model | layers | on integers | fused | error | agree | classes | operator by "
             "operator | bytes / float | nudged error | agree | integers off |",
             "|---|---|---|---|---|---|---|---|---|---|---|---|"]
    for name, row in rows.items():
        bytes_left = row["bytes"] and row["bytes"] / row["float_bytes"]
        cells = (row["layers"], row["integer_layers"], _short(row["fused_share"], ".0%"),
                 _short(row["relative_error"], ".1e"), _short(row["agreement"], ".1%"),
                 row["classes"], _short(row["single_operator_error"], ".1e"),
                 _short(bytes_left, ".2f"), _short(row.get("nudged_error"), ".1e"),
                 _short(row.get("nudged_agreement"), ".1%"),
                 _short(row.get("integers_off"), ".1e"))
        lines.append(f"| {name} | {' | '.join('' if c is None else str(c) for c in cells)} |")
    for name, row in rows.items():
        lines += [f"{name}: {len(layers)} in floating point: {reason}"
                  for reason, layers in row["in_float"].items()]
        lines += [f"{name}: {row['failure']}"] if row["failure"] else []
    return "\n".join(lines)


def _short(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form).replace("%", " %")


if __name__ == "__main__":
    main()
