"""Where channels are read: the operands that are summed over them, watched while data passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, final

import numpy as np
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from edgewright.channels import ChannelGroup, Incidence, find_groups
from edgewright.errors import UsageError
from edgewright.graph import ops, shape_of
from edgewright.pruning.criteria._subject import Subject
from edgewright.training import as_outputs

_VIEWS: Final = ops.RESHAPES | ops.DROPOUTS


@final
@dataclass(frozen=True, eq=False)
class Read:
    """An operand of a contraction: the activation as the next layer reads it.

    It lies behind whatever norm, rectifier or pooling its channels pass first, and is what the
    check of every prune sets to zero. An operand along which nothing is summed over any channel
    that could be removed is no read.

    Attributes:
        node: The convolution or matrix product.
        operand: The node whose result is read.
        dim: The operand's dimension that holds the channels.
        batch: The operand's dimension that grows with the samples.
        incidence: Where channels lie along ``dim``.
    """

    node: Node
    operand: Node
    dim: int
    batch: int
    incidence: Incidence

    @property
    def argument(self) -> int:
        """Position of the operand among the node's arguments."""
        return self.node.args.index(self.operand)

    @property
    def size(self) -> int:
        """Indices along ``dim``."""
        return shape_of(self.operand)[self.dim]


Watch: TypeAlias = Callable[[Read, Tensor], Tensor]


def find_reads(subject: Subject) -> tuple[Read, ...]:
    """Every read of a program's channels, each effect of a channel once.

    A product of two activations (attention's of queries and keys) is read through its first
    operand alone: to zero a channel in one of them is to remove it from the product. A depthwise
    convolution is no read: what it puts out is read in its place.

    Raises:
        UsageError: A group is read by nothing that can be watched; it is named.
    """
    reads: list[Read] = []
    seen: set[tuple[Node, bytes]] = set()
    for node, operand, dim in subject.groups.contractions:
        batch = _batch_dim(operand)
        incidence = subject.along(operand, dim)
        key = (node, incidence.columns.tobytes())
        if batch is None or _is_depthwise(node, operand):
            continue
        if len(incidence.columns) and key not in seen:
            seen.add(key)
            reads.append(Read(node, operand, dim, batch, incidence))
    covered = np.zeros(subject.count, dtype=bool)
    for read in reads:
        covered[read.incidence.columns] = True
    for group, span in zip(subject.groups.groups, subject.spans, strict=True):
        if not covered[span].all():
            raise UsageError(f"criterion={subject.criterion!r} looks at activations, and no layer "
                             f"reads those of {group.name}; use a criterion on weights "
                             f"('magnitude'){_or_ignore(subject, group)}")
    return tuple(reads)


def _or_ignore(subject: Subject, group: ChannelGroup) -> str:
    """The name that keeps a group out of the pruning, if there is one."""
    for name, _ in group.slices:
        left = find_groups(subject.program, (name,)).groups
        if all(other.slices != group.slices for other in left):
            return f", or keep it whole with ignore=({name!r},)"
    return ""


def distinct_operands(reads: Sequence[Read]) -> tuple[Read, ...]:
    """Of the reads of one operand along one dimension, the first."""
    return tuple({(read.operand, read.dim): read for read in reversed(reads)}.values())[::-1]


def before_averaging(subject: Subject, read: Read) -> Read:
    """The same channels as the pool in front of a read sees them; the read itself without one."""
    found, node = read, read.operand
    while node.target in ops.AVERAGES | _VIEWS:
        source: Any = node.args[0]
        if node.target in ops.AVERAGES:
            batch = _batch_dim(source)
            for dim in range(len(shape_of(source))):
                incidence = subject.along(source, dim)
                if batch is not None and len(incidence.columns):
                    found = Read(node, source, dim, batch, incidence)
        node = source
    return found


def observe(subject: Subject, reads: Sequence[Read], watch: Watch,
            batch_size: int) -> Iterator[tuple[tuple[Tensor, ...], Tensor]]:
    """Pass the samples through the program, in evaluation form; yields (outputs, targets).

    Args:
        subject: The program and its samples.
        reads: What to watch.
        watch: Is given each operand as it is read, and says what is read in its place.
        batch_size: Samples at a time.
    """
    watched = _Watched(subject.program.graph_module, reads, watch)
    for batch in subject.samples.batches(batch_size):
        yield as_outputs(watched.run(*batch.inputs)), batch.targets


class _Watched(Interpreter):
    """Runs a graph, handing the operands that are read to ``watch``."""

    def __init__(self, module: GraphModule, reads: Sequence[Read], watch: Watch) -> None:
        super().__init__(module)
        self._watch = watch
        self._reads: dict[Node, list[Read]] = {}
        for read in reads:
            self._reads.setdefault(read.node, []).append(read)

    def run_node(self, n: Node) -> Any:
        reads = self._reads.get(n)
        if reads is None:
            return super().run_node(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        operands = list(args)
        for read in reads:
            operands[read.argument] = self._watch(read, operands[read.argument])
        return n.target(*operands, **kwargs)  # type: ignore[operator]


def _is_depthwise(node: Node, operand: Node) -> bool:
    """Whether each channel passes a filter of its own, to be read further on."""
    groups = ops.groups_of(node)
    return groups > 1 and groups == shape_of(operand)[1]


def _batch_dim(operand: Node) -> int | None:
    """The dimension whose size follows the batch's; None if none does, or several."""
    one, two = shape_of(operand, 1), shape_of(operand, 2)
    grows = [dim for dim, (a, b) in enumerate(zip(one, two, strict=True)) if a != b]
    return grows[0] if len(grows) == 1 else None
