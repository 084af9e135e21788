"""Remove channels from a program, and prove that nothing else changed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node
from torch.utils import _pytree as pytree

from edgewright.errors import ParityError, UsageError
from edgewright.program._channels import ChannelGroups
from edgewright.program._costs import stored_tensors
from edgewright.program._nodes import argument, op_name
from edgewright.program._shapes import refresh_shapes

if TYPE_CHECKING:
    from edgewright.program._program import Program

aten = torch.ops.aten
TOLERANCE: Final = 1e-4
_LEAST_SCALE: Final = 1e-3  # outputs of a smaller norm are compared absolutely

Kept = Callable[[Any, int], "NDArray[np.bool_] | None"]


def remove_channels(program: Program, groups: ChannelGroups, channels: Collection[int]) -> Program:
    """The program without ``channels``, sliced for real and checked.

    Masked (the channels zeroed wherever they are read) and sliced must compute the same function
    on random inputs, to a relative error of 1e-4.

    Args:
        program: The program ``groups`` was found in.
        groups: What has to be sliced together.
        channels: Labels from ``groups.groups``.

    Raises:
        UsageError: A label of no group, or nothing would be left of a tensor.
        ParityError: The two differ; the program is not returned.
    """
    known = {channel for group in groups.groups for channel in group.channels}
    if foreign := set(channels) - known:
        raise UsageError(f"{min(foreign)} is no channel that can be removed; take channels from "
                         "the groups that were found in this program")
    gone = groups.removed_flags(channels)
    _refuse_empty(program, groups, gone)
    sliced = program.copy()
    twins = dict(zip(program.graph.nodes, sliced.graph.nodes, strict=True))

    def kept(node: Any, dim: int) -> NDArray[np.bool_] | None:
        labels = groups.of(node)[dim]
        return None if labels is None else ~gone[labels]

    for node, twin in twins.items():
        if node.op == "call_function":
            _resize(node, twin, kept)
    _slice_tensors(program, sliced.graph_module, groups, gone)
    sliced.graph_module.recompile()
    refresh_shapes(sliced.graph_module)
    _prove(program, sliced, groups, gone)
    return sliced


def _refuse_empty(program: Program, groups: ChannelGroups, gone: NDArray[np.bool_]) -> None:
    for name in stored_tensors(program.graph_module):
        for dim, labels in enumerate(groups.tensor(name)):
            if labels is not None and len(labels) and gone[labels].all():
                raise UsageError(f"all {len(labels)} indices of {name}, dimension {dim}, would be "
                                 "removed; keep at least one channel of every group")


def _slice_tensors(program: Program, module: GraphModule, groups: ChannelGroups,
                   gone: NDArray[np.bool_]) -> None:
    done: dict[int, Tensor] = {}
    for name, tensor in stored_tensors(program.graph_module).items():
        if id(tensor) not in done:
            done[id(tensor)] = _sliced(tensor, groups.tensor(name), gone)
        owner, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(owner), leaf, done[id(tensor)])


def _sliced(tensor: Tensor, dims: Any, gone: NDArray[np.bool_]) -> Tensor:
    result = tensor.detach()
    for dim, labels in enumerate(dims):
        if labels is not None and gone[labels].any():
            indices = torch.from_numpy(np.flatnonzero(~gone[labels]))
            result = result.index_select(dim, indices)
    result = result.clone()
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(result, requires_grad=tensor.requires_grad)
    return result


def _resize(node: Node, twin: Node, kept: Kept) -> None:
    """Rewrite the sizes an operator call has written into it."""
    rule = _RESIZE.get(op_name(node).rstrip("_").partition(".")[0])
    if rule is not None:
        rule(node, twin, kept)


def _resize_convolution(node: Node, twin: Node, kept: Kept) -> None:
    groups = argument(node, 6, "groups", 1)
    inputs = kept(node.args[0], 1)
    if inputs is not None and groups == len(inputs):
        twin.update_arg(6, int(inputs.sum()))


def _resize_view(node: Node, twin: Node, kept: Kept) -> None:
    position = 2 if op_name(node).startswith("unflatten") else 1
    offset = argument(node, 1) % argument(node, 0).meta["val"].ndim if position == 2 else 0
    sizes = list(argument(twin, position))
    rank = len(node.meta["val"].shape)
    for index, size in enumerate(sizes):
        flags = kept(node, (offset + index) % rank)
        if flags is not None and isinstance(size, int) and size >= 0:
            sizes[index] = int(flags.sum())
    twin.update_arg(position, sizes)


def _resize_slice(node: Node, twin: Node, kept: Kept) -> None:
    source = argument(node, 0)
    flags = kept(source, argument(node, 1, "dim", 0) % source.meta["val"].ndim)
    if flags is None or flags.all():
        return
    bounds = slice(argument(node, 2, "start"), argument(node, 3, "end"))
    start, end, _ = bounds.indices(len(flags))
    first = int(flags[:start].sum())
    twin.args = (*twin.args[:1], argument(twin, 1, "dim", 0), first,
                 first + int(flags[start:end].sum()))
    twin.kwargs = {}


def _resize_split(node: Node, twin: Node, kept: Kept) -> None:
    source = argument(node, 0)
    dim = argument(node, 2, "dim", 0) % source.meta["val"].ndim
    flags = kept(source, dim)
    if flags is None:
        return
    bounds = np.cumsum([part.shape[dim] for part in node.meta["val"]])[:-1]
    sizes = [int(part.sum()) for part in np.split(flags, bounds)]
    twin.target = aten.split_with_sizes.default
    twin.args = (twin.args[0], sizes, dim)


def _resize_pad(node: Node, twin: Node, kept: Kept) -> None:
    amounts = list(argument(node, 1))
    rank = len(node.meta["val"].shape)
    for back in range(len(amounts) // 2):
        flags = kept(node, rank - 1 - back)
        if flags is None:
            continue
        before, after = amounts[2 * back], amounts[2 * back + 1]
        amounts[2 * back] = int(flags[:before].sum())
        amounts[2 * back + 1] = int(flags[len(flags) - after:].sum())
    twin.update_arg(1, amounts)


_RESIZE: Final[dict[str, Callable[[Node, Node, Kept], None]]] = {
    **dict.fromkeys(["conv1d", "conv2d", "conv3d"], _resize_convolution),
    **dict.fromkeys(["view", "reshape", "_unsafe_view", "unflatten"], _resize_view),
    "slice": _resize_slice,
    **dict.fromkeys(["split", "split_with_sizes", "chunk"], _resize_split),
    **dict.fromkeys(["pad", "constant_pad_nd"], _resize_pad),
}


class _Masked(Interpreter):
    """Runs a program with the removed channels zeroed wherever they are summed over."""

    def __init__(self, module: GraphModule, groups: ChannelGroups,
                 gone: NDArray[np.bool_]) -> None:
        super().__init__(module)
        self._masks: dict[str, list[tuple[int, int, Tensor]]] = {}
        for node, place, dim in groups.contractions:
            labels = groups.of(node.args[place])[dim]
            if labels is not None and gone[labels].any():
                mask = torch.from_numpy(~gone[labels])
                self._masks.setdefault(node.name, []).append((place, dim, mask))

    def run_node(self, n: Node) -> Any:
        if n.name not in self._masks:
            return super().run_node(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        operands = list(args)
        for place, dim, mask in self._masks[n.name]:
            shape = [1] * operands[place].ndim
            shape[dim] = -1
            operands[place] = operands[place] * mask.reshape(shape)
        return n.target(*operands, **kwargs)  # type: ignore[operator]


def _prove(program: Program, sliced: Program, groups: ChannelGroups,
           gone: NDArray[np.bool_]) -> None:
    inputs = random_inputs(program.example_inputs, seed=0)
    flat = pytree.tree_leaves(inputs)
    with torch.no_grad():
        masked = _Masked(program.graph_module, groups, gone).run(
            *flat, enable_io_processing=False)
    for want, have in zip(pytree.tree_leaves(masked), pytree.tree_leaves(sliced.run(*inputs)),
                          strict=True):
        scale = max(float(want.float().norm()), _LEAST_SCALE)
        error = float((want.float() - have.float()).norm()) / scale
        if not error <= TOLERANCE:
            raise ParityError(f"slicing changed the function: masked and sliced outputs differ by "
                              f"{error:.2e} (relative), at most {TOLERANCE:g} is allowed; the "
                              "program was left as it was; please report the model")


def random_inputs(example: tuple[Any, ...], seed: int) -> tuple[Any, ...]:
    """Inputs like the example: normal noise for floats, the example itself for the rest."""
    generator = torch.Generator().manual_seed(seed)

    def like(leaf: Tensor) -> Tensor:
        if leaf.is_floating_point():
            return torch.randn(leaf.shape, generator=generator).to(leaf.dtype)
        return leaf

    result: tuple[Any, ...] = pytree.tree_map(like, example)
    return result
