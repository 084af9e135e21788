"""What a method is given, what it gives back, and how that is judged, every method alike."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import edgewright as ew
from benchmarks.common.accuracy import collect_logits
from benchmarks.common.paths import RESNETS
from benchmarks.quantization.cifar10.nncf_peer import OpenVinoEngine
from benchmarks.quantization.unfused_operators import UnfusedEngine, count_operators
from edgewright.exporters import to_onnx
from edgewright.runtime import OnnxEngine
from edgewright.task import Split, load_model, load_task

SAMPLES: Final = 1024  # training images that every method calibrates on, the same ones
_BATCH: Final = 250

Logits = NDArray[np.float32]
Engine = OnnxEngine | OpenVinoEngine


@dataclass(frozen=True, eq=False)
class Subject:
    """What every method starts from.

    Attributes:
        name: Factory in ``examples/resnet.py``.
        module: It, with the published weights, in evaluation mode.
        program: It, captured.
        float_file: It, as an ONNX file in floating point.
        task: CIFAR-10, 5,000 training images held out.
        calibration: The images that ranges are taken from.
        seed: Of everything random.
    """

    name: str
    module: nn.Module
    program: ew.Program
    float_file: bytes
    task: ew.Task
    calibration: Split
    seed: int

    @classmethod
    def load(cls, name: str, data: str, weights: Path, seed: int) -> Subject:
        """The model of that name, from the folders of data and weights."""
        task = load_task(f"cifar10:{data}", normalize="imagenet", seed=seed)
        module = load_model(f"{RESNETS}:{name}", weights / f"{name}-cifar10.safetensors").eval()
        program = ew.Program.capture(module, task.train.example(1))
        calibration = task.train.sample(SAMPLES, seed=seed)
        calibration.example(SAMPLES)  # decodes them now, so that no method is charged for it
        return cls(name, module, program, to_onnx(program), task, calibration, seed)


@dataclass(frozen=True, eq=False)
class Candidate:
    """The result of a method on a subject.

    Attributes:
        files: Content by suffix; the first is what the runtime is given. Empty where the method
            has no file.
        simulate: The integers' arithmetic in floating point, from images to logits; None where
            the method has no such thing.
        simulated_on: What ``simulate`` runs on.
        seconds: Calibration or training, without the export.
        notes: More of the row.
    """

    files: dict[str, bytes]
    simulate: Callable[[Split], Logits] | None
    simulated_on: str | None
    seconds: float
    notes: dict[str, Any] = field(default_factory=dict)


def in_torch(module: nn.Module) -> Callable[[Split], Logits]:
    """Logits of a module on a split."""
    def logits(split: Split) -> Logits:
        found: Logits = collect_logits(module, split, _BATCH)
        return found

    return logits


def on_engine(engine: Engine | UnfusedEngine) -> Callable[[Split], Logits]:
    """Logits of a file on a split."""
    def logits(split: Split) -> Logits:
        parts = [engine.run(tuple(value.numpy() for value in batch.inputs))[0]
                 for batch in split.batches(_BATCH)]
        return np.concatenate(parts)

    return logits


def store(candidate: Candidate, stem: Path) -> Path | None:
    """Write a candidate's files beside each other, and name the first."""
    paths = [Path(f"{stem}{suffix}") for suffix in candidate.files]
    for path, content in zip(paths, candidate.files.values(), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return paths[0] if paths else None


def open_engine(path: Path) -> Engine:
    """A stored file on the runtime it is for, on one thread."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return OpenVinoEngine(path) if path.suffix == ".xml" else OnnxEngine(path.read_bytes())


def judge(subject: Subject, candidate: Candidate, path: Path | None) -> dict[str, Any]:
    """Accuracies on held-out and test images, and how far file, simulation and float agree.

    ``relative_error`` and ``agreement`` hold the file's logits against the simulation's,
    ``float_error`` and ``float_agreement`` against those of the model in floating point, over the
    whole test split; what has no file is judged by its simulation.
    """
    task, engine = subject.task, open_engine(path) if path else None
    simulated = candidate.simulate(task.test) if candidate.simulate else None
    run = on_engine(engine) if engine else candidate.simulate
    assert run is not None
    logits, exact = run(task.test), in_torch(subject.module)(task.test)
    row: dict[str, Any] = {
        "val_accuracy": _accuracy(run(task.val), task.val),
        "test_accuracy": _accuracy(logits, task.test) if engine else None,
        "test_accuracy_simulated": None if simulated is None else _accuracy(simulated, task.test),
        "runtime": engine.runtime if engine else None,
        "simulated_on": candidate.simulated_on,
        "relative_error": None, "agreement": None,
        "float_error": _error(exact, logits), "float_agreement": _agreement(exact, logits),
        "file_bytes": sum(map(len, candidate.files.values())) or None,
        "seconds": round(candidate.seconds, 1),
    }
    if engine and simulated is not None:
        row |= {"relative_error": _error(simulated, logits),
                "agreement": _agreement(simulated, logits)}
    if path and path.suffix == ".onnx":
        row["operators"] = count_operators(path.read_bytes())
    return row | candidate.notes


def _accuracy(logits: Logits, split: Split) -> float:
    targets = torch.cat([batch.targets for batch in split.batches(_BATCH)]).numpy()
    return float((logits.argmax(axis=1) == targets).mean())


def _error(want: Logits, have: Logits) -> float:
    return float(np.linalg.norm((want - have).astype(np.float64)) / np.linalg.norm(want))


def _agreement(want: Logits, have: Logits) -> float:
    return float((want.argmax(axis=1) == have.argmax(axis=1)).mean())
