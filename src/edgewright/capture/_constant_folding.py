"""Capture stores what the model's code computes from constants; see decision 17."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.nn.utils.parametrize import is_parametrized
from torch.utils import _pytree as pytree

from edgewright.capture._constants import Constants, computing
from edgewright.graph import (
    argument,
    drop_unused_tensors,
    has_macs,
    mark_sparse,
    ops,
    refresh_shapes,
    stored_tensors,
    tensor_of,
)

aten = torch.ops.aten
_LARGEST_BYTES: Final = 2**20  # of a tensor without a stored source: a mask of 512 tokens
_PRODUCTS: Final = ops.MATRIX_PRODUCTS | ops.ADDED_PRODUCTS | {ops.EINSUM}
_RECURRENT: Final = ops.RECURRENT_LAYERS | ops.RECURRENT_CELLS
_WEIGHTED: Final = _RECURRENT | ops.NORMS | {aten.prelu.default}


class _Masking(NamedTuple):
    """How an operator masks: which of its arguments may be the mask, and what it puts there."""

    masks: tuple[str, ...]
    is_dropped: Callable[[Tensor], Tensor]
    filling: str | None = None  # the argument that has to be 0; None where it is so anyway


_MASKING: Final[dict[Any, _Masking]] = {
    aten.mul.Tensor: _Masking(("self", "other"), torch.logical_not),
    aten.masked_fill.Scalar: _Masking(("mask",), torch.as_tensor, "value"),
    aten.where.ScalarOther: _Masking(("condition",), torch.logical_not, "other"),
}
_KEY: Final = "edgewright.folded"


def fold_constants(module: GraphModule, model: nn.Module) -> None:
    """Store every constant that is worth it as one tensor, in place.

    Three kinds are: a weight or bias that the model computes, for only a stored one is quantized
    and pruned; what is computed from buffers and numbers alone, such as a mask; and what is
    computed from parameters and smaller than they are. Everything else is left to the graph: a
    tensor that is only arranged or looked up, and what would make the program larger.

    Args:
        module: A captured graph, in evaluation form.
        model: What it was captured from, for the names that its parametrized weights go by.
    """
    plan = _plan(module)
    if not plan.stored and not plan.dropped:
        return
    values = plan.constants.values()
    for node in reversed(plan.stored):
        if isinstance(values[node], Tensor):
            name = _name_of(module, plan, node, model)
            _store(module, node, values[node], name, plan.sources[node])
            note_folded(module, {name: tuple(plan.sources[node])})
            mark_sparse(module, [name] if _is_masked(plan, node, values) else [])
        else:
            node.replace_all_uses_with(values[node])
    for node in reversed(module.graph.nodes):
        if node in plan.constants.nodes and node not in plan.kept:
            module.graph.erase_node(node)
    module.graph.eliminate_dead_code()
    drop_unused_tensors(module)
    module.recompile()
    refresh_shapes(module)


def folded_tensors(module: GraphModule) -> dict[str, tuple[str, ...]]:
    """Names of the tensors that capture computed, each with those it was computed from.

    They travel with the graph module, as those that are held sparse.
    """
    noted: dict[str, tuple[str, ...]] = module.meta.get(_KEY, {})
    held = stored_tensors(module).keys() if noted else ()
    return {name: sources for name, sources in noted.items() if name in held}


def note_folded(module: GraphModule, folded: dict[str, tuple[str, ...]]) -> None:
    """Note which tensors are computed from which by the model's own code, in place."""
    module.meta[_KEY] = {**folded_tensors(module), **folded}


@dataclass
class _Plan:
    """What becomes of the constants of a graph.

    Attributes:
        constants: What is constant.
        sources: For every constant, the stored tensors it is computed from, by name.
        stored: Constants that are stored.
        dropped: Constants that nothing reads any more.
        kept: Calls that stay.
    """

    constants: Constants
    sources: dict[Node, dict[str, Tensor]]
    stored: list[Node] = field(default_factory=list)
    dropped: list[Node] = field(default_factory=list)
    kept: set[Node] = field(default_factory=set)

    def sources_of(self, node: Node) -> dict[str, Tensor]:
        """The stored tensors a constant is computed from, or the one that it is."""
        return self.sources[node] if node in self.sources else self.constants.stored(node)


def _plan(module: GraphModule) -> _Plan:
    """Choose, so that no storage that is written to in place is stored by half."""
    varying: set[Node] = set()
    while True:
        constants = Constants(module, varying)
        plan = _Plan(constants, _sources(module, constants))
        for node in reversed(module.graph.nodes):
            _choose(plan, node)
        halved = {root for root, writers in constants.writers.items()
                  if root in constants.nodes and not _is_whole(plan, root, writers)}
        if not halved:
            return plan
        varying |= halved


def _is_whole(plan: _Plan, root: Node, writers: list[Node]) -> bool:
    """Whether a storage is not needed any more once the constants are stored."""
    order = {node: place for place, node in enumerate(root.graph.nodes)}
    last = max(order[writer] for writer in writers)
    readers = [user for node in plan.stored if root in plan.constants.roots(node)
               for user in node.users if user in plan.kept]
    return root not in plan.kept and all(order[reader] > last for reader in readers)


def _choose(plan: _Plan, node: Node) -> None:
    """Store, keep or drop one node, once that is decided of all that read it."""
    if node not in plan.constants.nodes:
        plan.kept.add(node)
        return
    readers = [user for user in node.users if user in plan.kept]
    if not readers:
        plan.dropped.append(node)
    elif _is_worth_storing(plan, node, readers):
        plan.stored.append(node)
    else:
        plan.kept.add(node)


def _is_worth_storing(plan: _Plan, node: Node, readers: list[Node]) -> bool:
    value = node.meta.get("val")
    if not isinstance(value, Tensor):
        return not isinstance(value, list | tuple) and value is not None
    source = computing(node)
    if source.op == "get_attr" or all(reader.op == "output" for reader in readers):
        return False
    if any(_reads_as_weight(reader, node) for reader in readers):
        return True
    if _parameters(plan.sources[node]):
        return source is node and _bytes(node) < _freed(node)
    is_grown = source is not node and _bytes(node) > _bytes(node.all_input_nodes[0])
    return not is_grown and _bytes(node) <= max(_LARGEST_BYTES, _freed(node))


def _sources(module: GraphModule, constants: Constants) -> dict[Node, dict[str, Tensor]]:
    sources: dict[Node, dict[str, Tensor]] = {}
    for node in module.graph.nodes:
        if node in constants.nodes:
            sources[node] = {}
            for arg in node.all_input_nodes:
                sources[node].update(sources[arg] if arg in sources else constants.stored(arg))
    return sources


def _bytes(node: Node) -> int:
    value = tensor_of(node)
    return 0 if value is None else value.numel() * value.element_size()


def _freed(node: Node) -> int:
    """Bytes of the stored tensors that nothing but ``node`` needs."""
    own, pending, total = {node}, list(node.all_input_nodes), 0
    while pending:
        source = pending.pop()
        if source in own or not own.issuperset(source.users):
            continue
        own.add(source)
        pending.extend(source.all_input_nodes)
        total += _bytes(source) if source.op == "get_attr" else 0
    return total


def _reads_as_weight(reader: Node, node: Node) -> bool:
    """Whether a call multiplies, norms or looks up by what ``node`` computes."""
    if reader.target is ops.EMBEDDING:
        return node is argument(reader, "weight")
    if reader.target in _PRODUCTS:
        return True
    return (has_macs(reader) or reader.target in _WEIGHTED) and node not in _data(reader)


def _data(reader: Node) -> list[Node]:
    """What a layer works on, and no weight of it: its input; of a recurrent one its states too."""
    read = [reader.args[0], argument(reader, "hx") if reader.target in _RECURRENT else None]
    leaves = pytree.tree_leaves(read)
    return [leaf for leaf in leaves if isinstance(leaf, Node)]


def _is_masked(plan: _Plan, node: Node, values: dict[Node, Any]) -> bool:
    """Whether a constant is made of parameters and a fixed mask, whose zeros no training moves."""
    source = computing(node)
    masking = _MASKING.get(source.target)
    if masking is None or (masking.filling and argument(source, masking.filling) != 0):
        return False
    for arg in (argument(source, name) for name in masking.masks):
        if isinstance(arg, Node) and not _parameters(plan.sources_of(arg)) and _parameters(
                plan.sources[source]):
            mask = values[arg] if arg in values else plan.sources_of(arg)[str(arg.target)]
            return bool(masking.is_dropped(mask).any())
    return False


def _parameters(sources: dict[str, Tensor]) -> list[nn.Parameter]:
    return [tensor for tensor in sources.values() if isinstance(tensor, nn.Parameter)]


def _name_of(module: GraphModule, plan: _Plan, node: Node, model: nn.Module) -> str:
    """A name for a constant: its parametrization's, its layer's, or where it is computed.

    The names of the tensors that are dropped with this are free; those still read are not.
    """
    wanted = _parametrized(model, plan.sources[node]) or _layers_name(plan, node)
    if wanted is None:
        path = _path_of(computing(node))
        wanted = f"{path}.{node.name}" if path else node.name
    name, count = wanted, 0
    while not _is_free(module, plan, name):
        count += 1
        name = f"{wanted}_{count}"
    return name


def _parametrized(model: nn.Module, sources: dict[str, Tensor]) -> str | None:
    """The one weight that `torch.nn.utils.parametrize` computes from some of the sources."""
    found = {f"{path}.{name}".lstrip(".")
             for path, owner in model.named_modules() if is_parametrized(owner)
             for name, parts in owner.parametrizations.items()
             for part, _ in (*parts.named_parameters(), *parts.named_buffers())
             if f"{path}.parametrizations.{name}.{part}".lstrip(".") in sources}
    return found.pop() if len(found) == 1 else None


def _layers_name(plan: _Plan, node: Node) -> str | None:
    """Weight or bias of the module whose call reads the constant as such."""
    reader = next((user for user in node.users
                   if user in plan.kept and _reads_as_weight(user, node)), None)
    if reader is None:
        return None
    path, target = _path_of(reader), reader.target
    assert isinstance(target, torch._ops.OpOverload)  # noqa: S101  (a layer)
    names = [argument.name for argument in target._schema.arguments]
    is_bias = any(arg is node and name == "bias"
                  for arg, name in zip(reader.args, names, strict=False))
    return f"{path}.{'bias' if is_bias else 'weight'}".lstrip(".")


def _path_of(node: Node) -> str:
    """The module in whose forward pass a node was called."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack else ""


def _is_free(module: GraphModule, plan: _Plan, name: str) -> bool:
    """Whether nothing that stays goes by that name."""
    readers = {user for node in module.graph.nodes if node.op == "get_attr"
               and node.target == name for user in node.users}
    path, _, leaf = name.rpartition(".")
    try:
        owner = module.get_submodule(path)
    except AttributeError:
        return True
    held = leaf in owner._parameters or leaf in owner._buffers
    return readers.isdisjoint(plan.kept) if held else not hasattr(owner, leaf)


def _store(module: GraphModule, node: Node, value: Tensor, name: str,
           sources: dict[str, Tensor]) -> None:
    """Put a constant's value under a name and read it from there."""
    path, _, leaf = name.rpartition(".")
    owner = _owner(module, path)
    if hasattr(owner, leaf):
        delattr(owner, leaf)
    parameters = _parameters(sources)
    own = value.detach().clone(memory_format=torch.contiguous_format)
    if parameters and own.is_floating_point():
        trains = any(parameter.requires_grad for parameter in parameters)
        owner.register_parameter(leaf, nn.Parameter(own, requires_grad=trains))
    else:
        owner.register_buffer(leaf, own)
    with module.graph.inserting_before(node):
        stored = module.graph.get_attr(name)
    node.replace_all_uses_with(stored)


def _owner(module: GraphModule, path: str) -> nn.Module:
    """The module at a path, made where a graph needs none by that name yet."""
    owner: nn.Module = module
    for step in path.split(".") if path else ():
        if step not in owner._modules:
            owner.add_module(step, nn.Module())
        owner = owner.get_submodule(step)
    return owner
