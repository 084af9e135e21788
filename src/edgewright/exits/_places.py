"""Possible places of exits: the cuts of a program whose tensor can feed a head."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from torch import Tensor
from torch.fx import Node

from edgewright.errors import ModelError, UsageError
from edgewright.exits._config import EarlyExits
from edgewright.exits._features import Features, NetworkSize, OutputSizes
from edgewright.exits._head_designs import Head
from edgewright.graph import alias_root, count_macs, mutates_in_place, ops, shape_of
from edgewright.program import Program, find_cuts, outputs_of

_MAX_DIMENSIONS: Final = 5


@dataclass(frozen=True)
class ExitPlace:
    """A cut that an exit can be attached to.

    Attributes:
        name: Name of the call in the graph.
        macs: Multiply-accumulates per sample up to it.
        head: The head that would compute the exit's output.
    """

    name: str
    macs: int
    head: Head


def find_exit_places(program: Program, config: EarlyExits | None = None) -> tuple[ExitPlace, ...]:
    """All cuts that an exit can be attached to, in order.

    A cut is a call whose result is the only tensor alive after it. An exit can be attached if the
    next layer reads the tensor directly, or if it is a residual stream read by a norm and others. A
    tensor between a layer and its norm or activation is not a place, because runtimes fuse them.

    Args:
        program: With one output, the batch first.
        config: The head design; cuts that cannot feed it are omitted.

    Raises:
        ModelError: The program has another output.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(),
        ...                             torch.nn.Linear(8, 3))
        >>> place, = find_exit_places(Program.capture(model, torch.zeros(1, 4)))
        >>> place.name, place.macs, place.head.kind, place.head.macs
        ('relu', 32, 'pooled', 24)
    """
    config = config or EarlyExits()
    return tuple(place for cut, place in _inspect_cuts(program, config).items()
                 if isinstance(place, ExitPlace))


def find_named_places(program: Program, config: EarlyExits) -> tuple[ExitPlace, ...]:
    """The places that ``config.places`` names, in the graph's order.

    Raises:
        UsageError: A name is not a cut; the message lists similar names.
        ModelError: The tensor there cannot feed a head; the message gives the reason.
    """
    cuts = _inspect_cuts(program, config)
    usable = [name for name, place in cuts.items() if isinstance(place, ExitPlace)]
    for name in config.names:
        found = cuts.get(name)
        if found is None:
            raise UsageError(f"places: {name!r} is not a cut of the graph, where a single tensor "
                             f"is alive; {list_similar_names(name, usable)}")
        if isinstance(found, str):
            raise ModelError(f"the tensor {name} cannot feed an exit: {found}; "
                             f"{list_similar_names(name, usable)}")
    return tuple(place for name, place in cuts.items()
                 if name in config.names and isinstance(place, ExitPlace))


def count_possible_exits(program: Program) -> int:
    """The number of places for exits in a program; 0 for a program with several outputs."""
    return len(find_exit_places(program)) if _find_output_sizes(program) is not None else 0


def list_similar_names(name: str, known: Iterable[str]) -> str:
    """A phrase with the places whose names are similar to an unknown one, or all places."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=5, cutoff=0.5)
    return (f"similar places: {', '.join(near)}" if near else
            f"places: {', '.join(names) or 'none'}")


def _find_output_sizes(program: Program) -> OutputSizes | None:
    """Sizes of one sample's output; None if there are several outputs, or none of floats."""
    output, *others = outputs_of(program)
    shape = shape_of(output)
    fits = not others and bool(shape) and output.meta["val"].is_floating_point()
    return shape[1:] if fits else None


def _inspect_cuts(program: Program, config: EarlyExits) -> dict[str, ExitPlace | str]:
    """Every cut by name, in order: its place, or the reason why it is not one."""
    output = _find_output_sizes(program)
    if output is None:
        shapes = ", ".join(str(shape_of(node)) for node in outputs_of(program))
        raise ModelError(f"early exits need one floating-point output with the batch first, the "
                         f"program returns {shapes} for one sample")
    writers = {alias_root(node): node for node in program.calls() if mutates_in_place(node)}
    spent = _count_macs_up_to(program)
    total = max(spent.values())
    network = NetworkSize(total, program.costs().parameters)
    places: dict[str, ExitPlace | str] = {}
    for cut in find_cuts(program):
        reason = (_find_obstacle(cut, writers.get(alias_root(cut)))
                  or _explain_no_gain(spent[cut], total))
        places[cut.name] = reason or _make_place(cut, spent[cut], network, output, config)
    return places


def _make_place(cut: Node, macs: int, network: NetworkSize, output: OutputSizes,
                config: EarlyExits) -> ExitPlace | str:
    readers = {user.target for user in cut.users}
    shape = shape_of(cut)[1:]
    channels_last = len(shape) > 1 and readers.isdisjoint(
        ops.DIRECT_CONVOLUTIONS | ops.CHANNEL_NORMS)
    features = Features(shape, channels_last)
    if reason := config.head.incompatibility(features, output):
        return reason
    return ExitPlace(cut.name, macs, config.head.design(features, output, network))


def _find_obstacle(cut: Node, writer: Node | None) -> str:
    """The reason why no head can read a cut's tensor; empty if one can.

    Args:
        cut: The node that computes the tensor.
        writer: The last call that writes into its memory.
    """
    value: Tensor = cut.meta["val"]
    shape = shape_of(cut)
    if not value.is_floating_point():
        return f"it holds {str(value.dtype).removeprefix('torch.')}, not floating point"
    if not shape or shape_of(cut, 2) != (2 * shape[0], *shape[1:]) or shape[0] != 1:
        return f"the first dimension of its shape {shape} for one sample is not the batch"
    if not 2 <= len(shape) <= _MAX_DIMENSIONS:
        return f"its shape {shape} for one sample has {len(shape)} dimensions"
    if writer is not None and cut < writer:
        return f"{writer.name} writes into it later"
    if not _is_layer_input(cut):
        readers = ", ".join(user.name for user in cut.users)
        return f"no layer reads it directly, only {readers}"
    return ""


def _is_layer_input(cut: Node) -> bool:
    """Whether layers read a tensor directly, or it is a residual stream."""
    readers: list[Any] = [user.target for user in cut.users]
    return not ops.OUTPUTS_FIRST.isdisjoint(readers) or (
        len(readers) > 1 and not ops.NORMS.isdisjoint(readers))


def _explain_no_gain(spent: int, total: int) -> str:
    if spent == 0:
        return "nothing is computed before it"
    return "everything is computed by then" if spent == total else ""


def _count_macs_up_to(program: Program) -> dict[Node, int]:
    spent, total = {}, 0
    for node in program.calls():
        total += count_macs(node)
        spent[node] = total
    return spent
