"""Where the tensors of a network lie in one block of memory, planned in advance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, final

from edgewright.integers._network import IntegerNetwork
from edgewright.integers._steps import Step

_ALIGNMENT: Final = 8


class Block(NamedTuple):
    """Bytes that are needed for a time.

    Attributes:
        bytes: How many.
        first: When they are written first: the place of a step in the order of `parts`.
        last: When they are read last.
    """

    bytes: int
    first: int
    last: int


@final
@dataclass(frozen=True)
class MemoryPlan:
    """Where everything lies.

    Attributes:
        offsets: Offset in the memory of every tensor that lies there, by name.
        scratch: Offset of every step's working memory, by the step's number.
        size: Bytes of the memory.
    """

    offsets: Mapping[str, int]
    scratch: Mapping[int, int]
    size: int


def plan_memory(network: IntegerNetwork, scratch: Mapping[int, int]) -> MemoryPlan:
    """Place all tensors but the inputs and outputs, which the caller holds.

    Tensors whose times do not overlap share memory, and an element-wise step writes where it reads
    if nothing reads that later. Of several sequences of placing them the best is taken.

    Args:
        network: The network.
        scratch: Bytes of working memory by the number of the step that needs them.
    """
    held = {port.tensor for port in (*network.structure.inputs, *network.structure.outputs)}
    owner = _share(network, held)
    blocks: dict[str | int, Block] = {}
    for name, (first, last) in _lifetimes(network).items():
        if name in held:
            continue
        root = owner[name]
        known = blocks.get(root, Block(network.tensors[name].bytes, first, last))
        blocks[root] = Block(max(known.bytes, network.tensors[name].bytes),
                             min(known.first, first), max(known.last, last))
    blocks |= {number: Block(scratch[number], time, time)
               for time, number in enumerate(_order(network)) if scratch.get(number)}
    size, places = min((_place(blocks, order) for order in _orders(blocks)),
                       key=lambda placed: placed[0])
    return MemoryPlan({name: places[root] for name, root in owner.items() if root in places},
                      {number: places[number] for number in scratch if number in places}, size)


def _order(network: IntegerNetwork) -> list[int]:
    """The numbers of the steps in the order in which they run."""
    return [number for part in network.parts() for number in part]


def _lifetimes(network: IntegerNetwork) -> dict[str, tuple[int, int]]:
    """When each tensor is written first and read last."""
    found: dict[str, tuple[int, int]] = {}
    for time, number in enumerate(_order(network)):
        step = network.steps[number]
        found[step.output] = time, time
        for name in step.inputs:
            if name in found:
                found[name] = found[name][0], time
    return found


def _share(network: IntegerNetwork, held: set[str]) -> dict[str, str]:
    """The tensor whose memory each tensor uses: its own, or the first one's of its step."""
    lifetimes = _lifetimes(network)
    owner: dict[str, str] = {}
    for time, number in enumerate(_order(network)):
        step = network.steps[number]
        if step.output in held:
            continue
        owner[step.output] = step.output
        first = step.inputs[0]
        if (step.in_place and first in owner and lifetimes[first][1] == time
                and step.inputs.count(first) == 1 and _are_alike(network, step, first)):
            owner[step.output] = owner[first]
    return owner


def _are_alike(network: IntegerNetwork, step: Step, name: str) -> bool:
    return network.tensors[name].bytes == network.tensors[step.output].bytes


def _orders(blocks: Mapping[str | int, Block]) -> list[list[str | int]]:
    """Sequences in which blocks may be placed."""
    names = list(blocks)
    return [
        sorted(names, key=lambda one: -blocks[one].bytes),
        sorted(names, key=lambda one: (-(blocks[one].last - blocks[one].first),
                                       -blocks[one].bytes)),
        sorted(names, key=lambda one: -blocks[one].bytes * (
            1 + blocks[one].last - blocks[one].first)),
        sorted(names, key=lambda one: (blocks[one].first, -blocks[one].bytes)),
    ]


def _place(blocks: Mapping[str | int, Block],
           order: Sequence[str | int]) -> tuple[int, dict[str | int, int]]:
    """Place each block at the lowest offset that is free while it is needed."""
    placed: dict[str | int, int] = {}
    for name in order:
        block = blocks[name]
        beside = sorted((placed[other], placed[other] + _aligned(blocks[other].bytes))
                        for other in placed
                        if blocks[other].first <= block.last and block.first <= blocks[other].last)
        offset = 0
        for begin, end in beside:
            if offset + block.bytes <= begin:
                break
            offset = max(offset, end)
        placed[name] = offset
    size = max((placed[name] + _aligned(blocks[name].bytes) for name in placed), default=0)
    return size, placed


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
