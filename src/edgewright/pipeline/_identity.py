"""What makes a run the one it is."""

from __future__ import annotations

import json
from typing import Final

from torch.utils import _pytree as pytree

from edgewright.core import Budget
from edgewright.pipeline._bundling import package_versions
from edgewright.pipeline._directory import digest
from edgewright.pipeline._recipe import Recipe
from edgewright.pipeline._seeded import seeded
from edgewright.program import Program
from edgewright.task import Split, Task

_PROBE: Final = 256


def identity_of(program: Program, task: Task, budget: Budget, recipe: Recipe,
                seed: int) -> dict[str, str]:
    """Checksums and settings that two runs must share to be the same run."""
    state = program.state_dict()
    weights = digest(program.graph_module.code.encode(),
                     *(name.encode() + state[name].numpy().tobytes() for name in sorted(state)))
    preprocessing = task.preprocessing
    with seeded(seed):
        probes = [_probe(split) for split in (task.train, task.val, task.test)]
    data = digest(*probes, json.dumps(task.classes).encode(),
                  b"" if preprocessing is None else preprocessing.model_dump_json().encode())
    return {
        "model": weights,
        "data": data,
        "budget": budget.model_dump_json(exclude_none=True),
        "recipe": recipe.model_dump_json(),
        "seed": str(seed),
        "versions": json.dumps(package_versions(), sort_keys=True),
    }


def _probe(split: Split) -> bytes:
    """A split's length, its labels where they are at hand, and samples from all over it."""
    step = max(1, len(split) // _PROBE)
    batch = next(split.select(range(0, len(split), step)[:_PROBE]).batches(_PROBE))
    labels = split.labels()
    tensors = [*pytree.tree_leaves(batch.inputs), batch.targets,
               *([] if labels is None else [labels])]
    return len(split).to_bytes(8, "little") + b"".join(t.numpy().tobytes() for t in tensors)
