"""What makes a run the one it is."""

from __future__ import annotations

from torch.utils import _pytree as pytree

from edgewright.core import Budget
from edgewright.pipeline._directory import digest
from edgewright.pipeline._recipe import Recipe
from edgewright.program import Program
from edgewright.task import Split, Task

_PROBE = 64


def identity_of(program: Program, task: Task, budget: Budget, recipe: Recipe,
                seed: int) -> dict[str, str]:
    """Checksums and settings that two runs must share to be the same run."""
    state = program.state_dict()
    weights = digest(program.graph_module.code.encode(),
                     *(name.encode() + state[name].numpy().tobytes() for name in sorted(state)))
    preprocessing = task.preprocessing
    data = digest(*(_probe(split) for split in (task.train, task.val, task.test)),
                  b"" if preprocessing is None else preprocessing.model_dump_json().encode())
    return {
        "model": weights,
        "data": data,
        "budget": budget.model_dump_json(exclude_none=True),
        "recipe": recipe.model_dump_json(),
        "seed": str(seed),
    }


def _probe(split: Split) -> bytes:
    """A split's length and its first samples stand for it."""
    count = min(_PROBE, len(split))
    batch = next(split.select(range(count)).batches(count))
    tensors = [*pytree.tree_leaves(batch.inputs), batch.targets]
    return len(split).to_bytes(8, "little") + b"".join(t.numpy().tobytes() for t in tensors)
