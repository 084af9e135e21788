"""A smaller network from a program's own graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edgewright.allocation import select_uniform
from edgewright.channels import (
    Branch,
    LegalWidths,
    find_branches,
    find_groups,
    remove_branch,
    remove_channels,
)
from edgewright.core import format_skip_reasons
from edgewright.distill._initialize import initialize
from edgewright.errors import UsageError
from edgewright.graph import shape_of, stored_tensors
from edgewright.program import Program

_Place = tuple[str, int]  # the addition and the operand a branch is; both outlast other removals


def student(program: Program, width: float = 0.5, depth: float = 1.0, seed: int = 0, *,
            init: Literal["fresh", "teacher"] = "fresh", ignore: tuple[str, ...] = ()) -> Program:
    """A thinner, shallower network of the teacher's own make, to be trained as its student.

    Every group of channels keeps ``width`` of its channels; inputs and outputs stay. Of every
    kind of residual block (same shapes of tensors, at the same place in the pyramid) ``depth`` of
    the blocks stay, evenly spread, the first among them; blocks that change the shape always stay,
    and count. The student shares the teacher's names, so that features are paired by them.

    Args:
        program: The teacher, in floating point; it is left as it is.
        width: Share of the channels, above 0, at most 1.
        depth: Share of the residual blocks, above 0, at most 1.
        seed: Of the weights that are drawn.
        init: ``fresh`` draws weights as torch's layers do; ``teacher`` keeps what is left of the
            teacher's.
        ignore: Names or patterns of layers whose width stays.

    Raises:
        UsageError: A share out of its range, an unknown ``init``, a quantised program, or one with
            no channels or no blocks to remove.
        ParityError: What was removed changed more than it should.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(),
        ...                             torch.nn.Linear(16, 3))
        >>> teacher = Program.capture(model, torch.zeros(1, 4))
        >>> small = student(teacher, width=0.25)
        >>> {name: tuple(tensor.shape) for name, tensor in small.state_dict().items()}
        {'0.weight': (4, 4), '0.bias': (4,), '2.weight': (3, 4), '2.bias': (3,)}
    """
    _check(program, width, depth, init)
    small = program if depth == 1 else _shallower(program, depth)
    small = small if width == 1 else _thinner(small, width, ignore)
    return initialize(small, seed) if init == "fresh" else small.copy()


def _check(program: Program, width: float, depth: float, init: str) -> None:
    for name, share in (("width", width), ("depth", depth)):
        if not 0 < share <= 1:
            raise UsageError(f"{name}={share!r} of a student is out of range; expected a share of "
                             "the teacher's, above 0 and at most 1")
    if init not in {"fresh", "teacher"}:
        raise UsageError(f"init={init!r} is not known; expected 'fresh' or 'teacher'")
    if program.is_quantized:
        raise UsageError("no student can be made of a quantised program; make it of the program "
                         "from before quantising")


def _thinner(program: Program, width: float, ignore: tuple[str, ...]) -> Program:
    groups = find_groups(program, ignore)
    if not groups.groups:
        raise UsageError(f"width={width:g}: no channel of this program can be removed: "
                         f"{format_skip_reasons(groups.kept)}")
    return remove_channels(program, groups, select_uniform(groups, 1 - width, LegalWidths()))


def _shallower(program: Program, depth: float) -> Program:
    doomed = _places_to_remove(program, depth)
    while doomed:
        branch = next(branch for branch in find_branches(program)
                      if (branch.total, branch.operand) in doomed)
        program = remove_branch(program, branch)
        doomed.remove((branch.total, branch.operand))
    return program


def _places_to_remove(program: Program, depth: float) -> set[_Place]:
    """Of every kind of block the ones to go."""
    branches = find_branches(program)
    staying = _changing(program, branches)
    blocks = [branch for branch in _innermost(branches) if branch.total not in staying]
    if not blocks:
        raise UsageError(f"depth={depth:g}: no residual block of this program can be removed; "
                         "leave depth at 1 and choose a smaller width")
    shapes = {name: tuple(tensor.shape)
              for name, tensor in stored_tensors(program.graph_module).items()}
    totals = {node.name: shape_of(node) for node in program.calls()
              if node.name in {branch.total for branch in branches}}
    kinds: dict[tuple[tuple[int, ...], ...], list[_Place]] = {}
    for branch in blocks:
        kind = (totals[branch.total], *(shapes[name] for name in branch.tensors))
        kinds.setdefault(kind, []).append((branch.total, branch.operand))
    others = [totals[total] for total in staying]
    return {place for kind, places in kinds.items()
            for place in _spread_out(places, depth, others.count(kind[0]))}


def _changing(program: Program, branches: Sequence[Branch]) -> set[str]:
    """Additions of blocks that change the shape: both operands are branches, or one reads another.

    The network needs them to get from one stage to the next.
    """
    totals = [branch.total for branch in branches]
    nodes = {node.name: node for node in program.calls()}
    return {branch.total for branch in branches if totals.count(branch.total) > 1
            or sorted(_entry_shape(program, branch)) != sorted(shape_of(nodes[branch.total]))}


def _entry_shape(program: Program, branch: Branch) -> tuple[int, ...]:
    """Shape of what a branch's first layer reads."""
    own = set(branch.tensors)
    first = next(node for node in program.calls()
                 if any(source.target in own for source in node.all_input_nodes))
    read = [source for source in first.all_input_nodes if source.op != "get_attr"]
    return shape_of(read[0]) if read else ()


def _innermost(branches: Sequence[Branch]) -> list[Branch]:
    """Branches that hold no other one."""
    return [branch for branch in branches
            if not any(set(other.tensors) < set(branch.tensors) for other in branches)]


def _spread_out(places: Sequence[_Place], depth: float, staying: int) -> set[_Place]:
    """All but ``depth`` of the places, and of as many others that stay, evenly spread."""
    count = round(depth * (len(places) + staying)) - staying
    count = min(max(count, 0 if staying else 1), len(places))
    kept = {places[index * len(places) // count] for index in range(count)}
    return set(places) - kept
