"""A program's accuracy twice: in torch, and of its exported file on ONNX Runtime."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import nn

from edgewright.exporters import to_onnx
from edgewright.program import Program
from edgewright.runtime import OnnxEngine
from edgewright.task import Split, Task
from edgewright.training import evaluate_module, run_batches

_BATCH: Final = 500


def accuracies(program: Program, task: Task) -> dict[str, Any]:
    """Shares of right answers on the validation and the test split, and which file gave them."""
    module, file = program.module(), to_onnx(program)
    engine = OnnxEngine(file)
    found: dict[str, Any] = {}
    for name, split in (("val", task.val), ("test", task.test)):
        found[f"{name}_accuracy"] = evaluate_module(module, split, task.goal)[-1].value
        found[f"{name}_accuracy_onnx"] = _on_runtime(engine, split)
    return {**found, "file_bytes": len(file), "file_sha256": hashlib.sha256(file).hexdigest()}


def collect_logits(module: nn.Module, split: Split, batch_size: int) -> NDArray[np.float32]:
    """What the last exit of a classifier returns on a split, (N, classes)."""
    batches = run_batches(module, split, batch_size=batch_size)
    return np.concatenate([outputs[-1].cpu().numpy() for outputs, _ in batches])


def _on_runtime(engine: OnnxEngine, split: Split) -> float:
    right = sum(int((engine.run(tuple(value.numpy() for value in batch.inputs))[0].argmax(axis=1)
                     == batch.targets.numpy()).sum()) for batch in split.batches(_BATCH))
    return right / len(split)
