"""The identity of a run: model, data, settings, versions."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from torch import Tensor

from edgewright.core import Budget, Settings
from edgewright.graph import sparse_tensors
from edgewright.pipeline._directory import digest
from edgewright.program import Program
from edgewright.task import Task

_PACKAGES: Final = ("edgewright", "torch", "onnx", "onnxscript", "onnxruntime", "numpy")


def run_identity(program: Program, task: Task, budget: Budget, recipe: Settings,
                seed: int, teacher: str = "") -> dict[str, str]:
    """Checksums and settings that two runs must share to be the same run.

    Every sample of every split is hashed; see `Split.digest` for the cost.

    Args:
        program: The original.
        task: The data.
        budget: The limits.
        recipe: The recipe, or the settings of a search.
        seed: The seed.
        teacher: Name of the teacher; empty for the original.
    """
    preprocessing = task.preprocessing
    digests = [split.digest() for split in (task.train, task.val, task.test)]
    data = [task.name, task.goal.identity, task.classes, task.train.variation, *digests,
            None if preprocessing is None else preprocessing.model_dump_json()]
    return {
        "model": digest(*_model(program)),
        "data": digest(json.dumps(data).encode()),
        "budget": budget.model_dump_json(exclude_none=True),
        "recipe": recipe.model_dump_json(),
        "seed": str(seed),
        "teacher": teacher,
        "versions": json.dumps(package_versions(), sort_keys=True),
    }


def package_versions() -> dict[str, str]:
    """Versions of all packages that influence a file."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _model(program: Program) -> list[bytes]:
    """Code, all tensors with dtype and shape, and the names of the frozen ones."""
    module, state = program.graph_module, program.state_dict()
    frozen = [name for name, parameter in module.named_parameters() if not parameter.requires_grad]
    facts = json.dumps([sorted(frozen), sparse_tensors(module), dict(program.states)])
    return [module.code.encode(), facts.encode(),
            *(part for name in sorted(state) for part in _tensor(name, state[name]))]


def _tensor(name: str, value: Tensor) -> tuple[bytes, bytes]:
    return f"{name} {value.dtype} {tuple(value.shape)}".encode(), value.numpy().tobytes()
