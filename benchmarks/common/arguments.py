"""The command line of the benchmarks that go through rows on CIFAR-10."""

from __future__ import annotations

import argparse
from pathlib import Path


def row_arguments(description: str | None, results: Path) -> argparse.ArgumentParser:
    """A parser of where the data, the weights and the rows are, and which rows to run."""
    parser = argparse.ArgumentParser(description=description,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of CIFAR-10's parquet files")
    parser.add_argument("--weights", required=True, type=Path,
                        help="folder of resnet20-cifar10.safetensors and its like")
    parser.add_argument("--only", default="*", help="pattern of rows to run")
    parser.add_argument("--list", action="store_true", help="name the rows that are missing")
    parser.add_argument("--results", type=Path, default=results)
    return parser
