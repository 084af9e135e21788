"""Removal of whole residual branches, least harmful first."""

from __future__ import annotations

import math
from typing import Final, NamedTuple, Self, final

from pydantic import Field, model_validator

from edgewright.channels import (
    Branch,
    find_branches,
    remove_branch,
    remove_branches,
    resolve_branches,
)
from edgewright.core import Settings
from edgewright.errors import UsageError
from edgewright.goals import Goal
from edgewright.graph import match_tensors, stored_tensors
from edgewright.program import Program
from edgewright.pruning._refit import refit_layers
from edgewright.task import Split, Task
from edgewright.training import Score, check_program, evaluate_module, measure_loss

_DROP_TOLERANCE: Final = 1e-9
_LISTED: Final = 3  # names in a note
# Settings that choose branches, so they contradict named ones.
_CHOOSING: Final = ("count", "ratio", "max_drop", "ignore", "samples", "rescore")
# The addition and operand of a branch; they do not change when other branches are removed.
_BranchKey = tuple[str, int]


@final
class BlockPruning(Settings):
    """Pruning of whole residual branches.

    Branches are removed one by one until ``count`` branches or ``ratio`` of the MACs are removed;
    with ``max_drop``, only while the task's primary metric does not get worse by more than that. At
    least one of the three must be given, or the names of the branches to ``remove``.

    Attributes:
        count: Number of branches to remove, 1 or more.
        ratio: Fraction of the program's multiply-accumulates to remove, above 0 and below 1.
        max_drop: How much worse any exit's primary metric may become on the samples, compared with
            the original program, in the metric's unit (0.01 is one percentage point of accuracy).
        ignore: Names or patterns of layers to keep; branches that contain them are kept.
        samples: Number of validation samples to use.
        rescore: Number of branches to score again after each removal, the least harmful first.
            Higher values choose better and take longer.
        remove: Names of the branches to remove, as `find_branches` returns them, in the order of
            removal. They are not scored, which needs no data; leave the settings that choose
            branches at their defaults.
        refit: Fit the remaining layers by least squares to reproduce the original's activations,
            see `refit_layers`; takes a few passes over ``refit_samples``. None: only if there is a
            task.
        refit_samples: Number of training samples for ``refit``.
        ridge: How strongly ``refit`` keeps weights near the trained ones, as a multiple of the mean
            variance of their inputs.

    Raises:
        UsageError: A value is out of range, there is no goal, or ``remove`` is combined with a
            setting that chooses branches.

    Example:
        >>> BlockPruning(count=2).samples
        1024
        >>> BlockPruning(remove=("layer1.1", "layer3.2")).goal
        'remove 2 blocks (layer1.1, layer3.2)'
    """

    count: int | None = Field(default=None, ge=1)
    ratio: float | None = Field(default=None, gt=0, lt=1)
    max_drop: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    ignore: tuple[str, ...] = ()
    samples: int = Field(default=1024, ge=1)
    rescore: int = Field(default=8, ge=1)
    remove: tuple[str, ...] = ()
    refit: bool | None = None
    refit_samples: int = Field(default=1024, ge=2)
    ridge: float = Field(default=0.1, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _check_goal(self) -> Self:
        if self.remove:
            defaults = type(self).model_fields
            given = [name for name in _CHOOSING if getattr(self, name) != defaults[name].default]
            if given:
                raise UsageError("BlockPruning: the blocks to remove are named, so nothing is left "
                                 f"to choose with {', '.join(given)}; omit either")
        elif self.count is None and self.ratio is None and self.max_drop is None:
            raise UsageError("BlockPruning needs a goal; give count, ratio or max_drop, or the "
                             "names of blocks to remove")
        return self

    @property
    def goal(self) -> str:
        """Text that describes what to remove.

        Example:
            >>> BlockPruning(count=2, max_drop=0.01).goal
            'remove 2 blocks, metric drop at most 0.01'
        """
        if self.remove:
            more = len(self.remove) - _LISTED
            names = ", ".join(self.remove[:_LISTED]) + (f" and {more} more" if more > 0 else "")
            return f"remove {_count_blocks(len(self.remove))} ({names})"
        goals = [] if self.count is None else [_count_blocks(self.count)]
        goals += [] if self.ratio is None else [f"{100 * self.ratio:.0f} % of the MACs"]
        words = f"remove {' or '.join(goals) or 'blocks'}"
        if self.max_drop is None:
            return words
        return f"{words}, metric drop at most {self.max_drop:g}"


def _count_blocks(count: int) -> str:
    return f"{count} block{'s' * (count > 1)}"


def prune_blocks(program: Program, task: Task | None, config: BlockPruning, *,
                 seed: int = 0) -> Program:
    """Remove the residual branches that matter least on validation data, or those named.

    A branch's score is the mean loss of all exits on samples of the validation split, without the
    branch. The branch with the lowest score is removed. Then the ``rescore`` best of
    the others are scored again, because a branch matters more after its neighbor is removed (Veit
    2016; greedy as in Chen and Zhao 2018, who rank by linear probes instead). In total this takes
    one pass over the samples per branch, and ``rescore`` passes per removed branch after the first;
    with ``max_drop`` one more per removed branch, for the metric. Branches named in ``remove`` are
    removed without any pass. At last the remaining layers are fitted, if there is a task.

    Args:
        program: In floating point, with or without early exits; it is not changed.
        task: The data: the validation split for choosing branches, and the training split for
            fitting layers. None if the branches are named.
        config: When to stop, what to keep, and whether to fit.
        seed: Seed for choosing samples.

    Returns:
        The shortened program; ``program`` itself if ``max_drop`` does not allow any removal.

    Raises:
        UsageError: The program is quantized or has no removable branch, a pattern in ``ignore``
            matches nothing, there are too few branches for ``count`` or ``ratio``, a name in
            ``remove`` is unknown, or there is no task to choose or fit with.
        ModelError: The program's outputs do not fit the task's goal.
        ParityError: Removing a branch is not equivalent to setting it to zero.

    Example:
        >>> import torch
        >>> class Residual(torch.nn.Linear):
        ...     def forward(self, x):
        ...         return x + super().forward(x).relu()
        >>> x, y = torch.randn(40, 4), torch.arange(40) % 2
        >>> model = torch.nn.Sequential(Residual(4, 4), Residual(4, 4), torch.nn.Linear(4, 2))
        >>> program = Program.capture(model, x)
        >>> short = prune_blocks(program, Task((x, y), test=(x, y)), BlockPruning(count=1))
        >>> program.costs().macs, short.costs().macs
        (40, 24)
    """
    if program.is_quantized:
        raise UsageError("blocks of a quantized program cannot be removed; remove them before "
                         "quantizing")
    if task is None and config.refit:
        raise UsageError("refit=True needs data; give a task, or omit refit")
    shortened = (remove_branches(program, resolve_branches(program, config.remove))
                 if config.remove else _remove_chosen(program, task, config, seed))
    if task is None or config.refit is False or shortened is program:
        return shortened
    samples = task.train.sample(min(config.refit_samples, len(task.train)), seed=seed)
    return refit_layers(program, shortened, samples, ridge=config.ridge, seed=seed).program


def _remove_chosen(program: Program, task: Task | None, config: BlockPruning,
                   seed: int) -> Program:
    """Remove the branches that matter least."""
    if task is None:
        raise UsageError(f"to {config.goal}, blocks are scored on data; give a task, or the names "
                         "of blocks to remove")
    check_program(program, task)
    ignored = set(match_tensors(stored_tensors(program.graph_module), config.ignore))
    if not _find_removable(program, ignored):
        exception = f", except those kept by ignore={list(config.ignore)}" if ignored else ""
        raise UsageError("no residual branch of this program can be removed: it has no addition of "
                         "two tensors of equal shape that are computed with different "
                         f"parameters{exception}")
    split = task.val.sample(min(config.samples, len(task.val)), seed=seed)
    return _remove_branches(program, _Samples(split, task.goal), config, ignored)


class _Samples(NamedTuple):
    """The validation samples, and the goal that programs are evaluated by."""

    split: Split
    goal: Goal

    def loss(self, program: Program) -> float:
        """The mean loss of all exits; infinite if it is NaN."""
        loss = measure_loss(program.module(), self.split, self.goal)
        return math.inf if math.isnan(loss) else loss

    def scores(self, program: Program) -> tuple[Score, ...]:
        """The primary metric of each exit."""
        return evaluate_module(program.module(), self.split, self.goal)


def _remove_branches(program: Program, samples: _Samples, config: BlockPruning,
                     ignored: set[str]) -> Program:
    """Remove one branch after another until the goal is reached."""
    initial = () if config.max_drop is None else samples.scores(program)
    losses: dict[_BranchKey, float] = {}
    result, removed = program, 0
    while not _is_reached(program, result, removed, config):
        branches = _find_removable(result, ignored)
        if not branches:
            _raise_unreachable(program, result, removed, config)
            break
        best = _find_least_harmful(result, branches, losses, samples, config.rescore)
        if config.max_drop is not None and any(
                before.merit - after.merit > config.max_drop + _DROP_TOLERANCE
                for before, after in zip(initial, samples.scores(best), strict=True)):
            break
        result, removed = best, removed + 1
    return result


def _find_removable(program: Program, ignored: set[str]) -> tuple[Branch, ...]:
    return tuple(branch for branch in find_branches(program)
                 if ignored.isdisjoint(branch.tensors))


def _find_least_harmful(program: Program, branches: tuple[Branch, ...],
                        losses: dict[_BranchKey, float], samples: _Samples,
                        rescore: int) -> Program:
    """Remove each candidate branch and return the best result; updates ``losses``."""
    unscored = [branch for branch in branches if _branch_key(branch) not in losses]
    scored = sorted((branch for branch in branches if _branch_key(branch) in losses),
                    key=lambda branch: losses[_branch_key(branch)])
    found: list[tuple[float, Program]] = []
    for branch in [*unscored, *scored[:rescore]]:
        shorter = remove_branch(program, branch)
        losses[_branch_key(branch)] = loss = samples.loss(shorter)
        if not found or loss < found[0][0]:
            found = [(loss, shorter)]
    return found[0][1]


def _branch_key(branch: Branch) -> _BranchKey:
    return branch.total, branch.operand


def _is_reached(program: Program, result: Program, removed: int, config: BlockPruning) -> bool:
    if config.count is not None and removed >= config.count:
        return True
    return config.ratio is not None and _removed_fraction(program, result) >= config.ratio


def _removed_fraction(program: Program, result: Program) -> float:
    """The fraction of the multiply-accumulates that was removed."""
    return 1 - result.costs().macs / max(program.costs().macs, 1)


def _raise_unreachable(program: Program, result: Program, removed: int,
                       config: BlockPruning) -> None:
    """Raise an error if the goal cannot be reached, with what can be removed."""
    if config.count is not None or config.ratio is not None:
        raise UsageError(f"cannot {config.goal}: removing all {removed} removable branches "
                         f"removes {100 * _removed_fraction(program, result):.0f} % of the MACs; "
                         "remove less, or prune channels too")
