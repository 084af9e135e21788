"""Make a smaller network from a program's graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edgewright.allocation import select_uniform
from edgewright.channels import (
    Branch,
    LegalWidths,
    find_branches,
    find_groups,
    remove_branches,
    remove_channels,
)
from edgewright.core import format_skip_reasons
from edgewright.distill._initialize import initialize
from edgewright.errors import UsageError
from edgewright.graph import shape_of, stored_tensors
from edgewright.program import Program


def make_student(program: Program, width: float = 0.5, depth: float = 1.0, seed: int = 0, *,
                 init: Literal["fresh", "teacher"] = "fresh",
                 ignore: tuple[str, ...] = ()) -> Program:
    """Make a thinner, shallower version of the teacher, to be trained as its student.

    Every group of channels keeps the share ``width`` of its channels; inputs and outputs do not
    change. Of each kind of residual block (same tensor shapes, in the same stage) the share
    ``depth`` is kept, evenly spread and including the first; blocks that change the shape are
    always kept and counted. The student keeps the teacher's node names, so that features can be
    paired by name.

    Args:
        program: The teacher, in floating point; it is not modified.
        width: Share of the channels to keep, above 0, at most 1.
        depth: Share of the residual blocks to keep, above 0, at most 1.
        seed: Seed of the initial weights.
        init: ``fresh`` initializes weights as torch's layers do; ``teacher`` keeps the teacher's
            remaining weights. Choose ``teacher`` for short trainings and moderate reductions.
        ignore: Names or patterns of layers that keep their width.

    Raises:
        UsageError: A share out of range, an unknown ``init``, a quantized program, or one with no
            channels or no blocks to remove.
        ParityError: A removal changed other parts of the network.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(),
        ...                             torch.nn.Linear(16, 3))
        >>> teacher = Program.capture(model, torch.zeros(1, 4))
        >>> small = make_student(teacher, width=0.25)
        >>> {name: tuple(tensor.shape) for name, tensor in small.state_dict().items()}
        {'0.weight': (4, 4), '0.bias': (4,), '2.weight': (3, 4), '2.bias': (3,)}
    """
    _check(program, width, depth, init)
    small = program if depth == 1 else _make_shallower(program, depth)
    small = small if width == 1 else _make_thinner(small, width, ignore)
    return initialize(small, seed) if init == "fresh" else small.copy()


def _check(program: Program, width: float, depth: float, init: str) -> None:
    for name, share in (("width", width), ("depth", depth)):
        if not 0 < share <= 1:
            raise UsageError(f"{name}={share!r} of a student is out of range; expected a share of "
                             "the teacher's, above 0 and at most 1")
    if init not in {"fresh", "teacher"}:
        raise UsageError(f"unknown init={init!r}; expected 'fresh' or 'teacher'")
    if program.is_quantized:
        raise UsageError("a student cannot be made from a quantized program; use the program from "
                         "before quantization")


def _make_thinner(program: Program, width: float, ignore: tuple[str, ...]) -> Program:
    groups = find_groups(program, ignore)
    if not groups.groups:
        raise UsageError(f"width={width:g}: no channel of this program can be removed: "
                         f"{format_skip_reasons(groups.kept)}")
    return remove_channels(program, groups, select_uniform(groups, 1 - width, LegalWidths()))


def _make_shallower(program: Program, depth: float) -> Program:
    return remove_branches(program, _select_removed(program, depth))


def _select_removed(program: Program, depth: float) -> list[Branch]:
    """Select the blocks to remove, of each kind."""
    branches = find_branches(program)
    staying = _find_shape_changing(program, branches)
    blocks = [branch for branch in _innermost_branches(branches) if branch.total not in staying]
    if not blocks:
        raise UsageError(f"depth={depth:g}: no residual block of this program can be removed; "
                         "leave depth at 1 and choose a smaller width")
    shapes = {name: tuple(tensor.shape)
              for name, tensor in stored_tensors(program.graph_module).items()}
    totals = {node.name: shape_of(node) for node in program.calls()
              if node.name in {branch.total for branch in branches}}
    kinds: dict[tuple[tuple[int, ...], ...], list[Branch]] = {}
    for branch in blocks:
        kind = (totals[branch.total], *(shapes[name] for name in branch.tensors))
        kinds.setdefault(kind, []).append(branch)
    others = [totals[total] for total in staying]
    return [branch for kind, alike in kinds.items()
            for branch in _spread_evenly(alike, depth, others.count(kind[0]))]


def _find_shape_changing(program: Program, branches: Sequence[Branch]) -> set[str]:
    """Additions of blocks that change the shape, which the network needs between stages.

    Both operands are branches, or a branch reads a tensor of another shape.
    """
    totals = [branch.total for branch in branches]
    nodes = {node.name: node for node in program.calls()}
    return {branch.total for branch in branches if totals.count(branch.total) > 1
            or sorted(_entry_shape(program, branch)) != sorted(shape_of(nodes[branch.total]))}


def _entry_shape(program: Program, branch: Branch) -> tuple[int, ...]:
    """Shape of the tensor that a branch's first layer reads."""
    own = set(branch.tensors)
    first = next(node for node in program.calls()
                 if any(source.target in own for source in node.all_input_nodes))
    read = [source for source in first.all_input_nodes if source.op != "get_attr"]
    return shape_of(read[0]) if read else ()


def _innermost_branches(branches: Sequence[Branch]) -> list[Branch]:
    """Branches that contain no other branch."""
    return [branch for branch in branches
            if not any(set(other.tensors) < set(branch.tensors) for other in branches)]


def _spread_evenly(blocks: Sequence[Branch], depth: float, staying: int) -> list[Branch]:
    """The blocks to remove so that ``depth`` of all remain, evenly spread; ``staying`` are kept."""
    count = round(depth * (len(blocks) + staying)) - staying
    count = min(max(count, 0 if staying else 1), len(blocks))
    kept = {index * len(blocks) // count for index in range(count)}
    return [block for index, block in enumerate(blocks) if index not in kept]
