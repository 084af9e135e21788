"""How much the loss rises without residual branches, after the layers around them were fitted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import torch
from torch.utils import _pytree as pytree

from edgewright.channels import Branch, as_node, bypass_branches, find_branches
from edgewright.goals import Goal
from edgewright.graph import bytes_of
from edgewright.program import Program, fold_batch_norm
from edgewright.pruning._refit import (
    OriginalValues,
    Refitter,
    draw_samples,
    reads_overwritten_memory,
)
from edgewright.pruning._refit_plan import TRANSPARENT, plan_refit
from edgewright.task import Split
from edgewright.training import split_exits

_MOST_BYTES: Final = 2**30  # activations of the original
_ROWS: Final = 2**13        # observations per fitted layer
_LAYERS: Final = 3          # fitted per removed branch
_RIDGE: Final = 0.1


@final
@dataclass(frozen=True)
class BlockDamages:
    """Rise of the mean loss without branches, after a fit of the layers around them.

    Attributes:
        alone: Without one branch, by its name; at least 0, infinite if the loss becomes NaN.
        pairs: Without two adjacent branches together, but at least the larger rise without one of
            them, minus the rises without each.
    """

    alone: Mapping[str, float]
    pairs: Mapping[tuple[str, str], float]


def measure_block_damages(program: Program, branches: Sequence[Branch], split: Split,
                          goal: Goal, *, layers: int = _LAYERS, seed: int = 0) -> BlockDamages:
    """Measure how well the loss recovers from the removal of each branch and adjacent pair.

    What counts is how well a block can be made up for, not what its removal alone does (PRACTISE,
    Wang & Wu 2023, "Practical Network Acceleration with Tiny Sets", section 3.3). They train
    adapters around the block and compare last features; here the first ``layers`` layers after a
    removal, from the one before the block on, are fitted by least squares, see `refit_layers`, and
    the loss is compared. Values of the original are computed once; per removal only what comes
    after it runs.

    Args:
        program: In floating point.
        branches: From `find_branches` of the program.
        split: The samples; fewer are used if their activations exceed 1 GiB.
        goal: Its loss is measured.
        layers: Number of layers to fit per removed branch; 0 for none.
        seed: Seed for choosing the observations to fit to.

    Example:
        >>> import torch
        >>> from edgewright.goals import Classification
        >>> from edgewright.task import TensorSplit
        >>> class Residual(torch.nn.Linear):
        ...     def forward(self, x):
        ...         return x + super().forward(x).relu()
        >>> x, y = torch.randn(40, 4), torch.arange(40) % 2
        >>> model = torch.nn.Sequential(Residual(4, 4), Residual(4, 4), torch.nn.Linear(4, 2))
        >>> program = Program.capture(model, x)
        >>> found = measure_block_damages(program, find_branches(program), TensorSplit(x, y),
        ...                               Classification())
        >>> sorted(found.alone), min(found.alone.values()) >= 0, list(found.pairs)
        (['0', '1'], True, [('0', '1')])
    """
    meter = _Meter(program, split, goal, layers, seed)
    alone = {branch.name: max(0.0, meter.measure((branch,))) for branch in branches}
    pairs = {}
    for first, second in find_adjacent(program, branches):
        each = alone[first.name], alone[second.name]
        extra = max(meter.measure((first, second)), *each) - sum(each)
        if math.isfinite(extra):
            pairs[first.name, second.name] = extra
    return BlockDamages(alone, pairs)


def find_adjacent(program: Program, branches: Sequence[Branch]) -> Iterator[tuple[Branch, Branch]]:
    """Pairs of branches of which the second is added to the sum that the first is an operand of.

    Between the two additions may be rectifiers, copies and dropouts only.
    """
    nodes = {node.name: node for node in program.calls()}
    for second in branches:
        kept = as_node(nodes[second.total].args[1 - second.operand])
        while kept.target in TRANSPARENT:
            kept = as_node(kept.args[0])
        yield from ((first, second) for first in branches if first.total == kept.name)


@final
class _Meter:
    """Measures the rise of the loss without branches."""

    def __init__(self, program: Program, split: Split, goal: Goal, layers: int, seed: int) -> None:
        self._program, self._goal = fold_batch_norm(program), goal
        self._branches = {(branch.total, branch.operand): branch
                          for branch in find_branches(self._program)}
        stored = max(1, sum(map(bytes_of, self._program.calls())))
        self._batch = draw_samples(split, _MOST_BYTES // stored)
        self._originals = OriginalValues(self._program, pytree.tree_leaves(self._batch.inputs))
        self._layers = 0 if reads_overwritten_memory(program) else layers
        self._seed = seed
        end = self._program.graph.output_node()
        with torch.no_grad():
            self._before = self._loss(self._program, self._originals.read(end.name))

    def measure(self, branches: Sequence[Branch]) -> float:
        """The rise of the loss; infinite if it becomes NaN."""
        shortened = bypass_branches(self._program, [
            self._branches[branch.total, branch.operand] for branch in branches])
        plan = plan_refit(self._program, shortened, self._layers * len(branches))
        refitter = Refitter(shortened, plan, ridge=_RIDGE, seed=self._seed, most_rows=_ROWS)
        after = self._loss(shortened, refitter.run_plan(self._originals, forget=False))
        return math.inf if math.isnan(after) else after - self._before

    def _loss(self, program: Program, result: Any) -> float:
        """The mean loss of all exits."""
        outputs = split_exits(program.graph.process_outputs(result), program.exits)
        return sum(float(self._goal.loss(output, self._batch.targets))
                   for output in outputs) / len(outputs)
