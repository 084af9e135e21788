"""How a benchmark was called, and how it calls itself in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path


def running_command() -> str:
    """The command that runs, its paths without their folders."""
    words = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
    return " ".join(["python", "-m", running_module(), *words])


def child_command(*words: str) -> list[str]:
    """The benchmark that runs, once more, with other arguments."""
    return [sys.executable, "-m", running_module(), *words]


def running_module() -> str:
    """The module that `python -m` was given, such as "benchmarks.pruning.cifar10"."""
    spec = sys.modules["__main__"].__spec__
    if spec is None:
        raise RuntimeError("run benchmarks as modules: python -m benchmarks.FOLDER.NAME")
    return spec.name
