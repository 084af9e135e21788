"""A program's accuracy twice: in torch, and of its exported file on ONNX Runtime."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from edgewright.exporters import to_onnx
from edgewright.program import Program
from edgewright.runtime import OnnxEngine
from edgewright.task import Split, Task
from edgewright.training import evaluate_module

_BATCH: Final = 500


def accuracies(program: Program, task: Task) -> dict[str, Any]:
    """Shares of right answers on the validation and the test split, and which file gave them."""
    module, file = program.module(), to_onnx(program)
    engine = OnnxEngine(file)
    found: dict[str, Any] = {}
    for name, split in (("val", task.val), ("test", task.test)):
        found[f"{name}_accuracy"] = evaluate_module(module, split)[-1]
        found[f"{name}_accuracy_onnx"] = _on_runtime(engine, split)
    return {**found, "file_bytes": len(file), "file_sha256": hashlib.sha256(file).hexdigest()}


def _on_runtime(engine: OnnxEngine, split: Split) -> float:
    right = sum(int((engine.run(tuple(value.numpy() for value in batch.inputs))[0].argmax(axis=1)
                     == batch.targets.numpy()).sum()) for batch in split.batches(_BATCH))
    return right / len(split)
