"""Constant folding: capture stores what the model computes from constants; see decision 17."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.nn.utils.parametrize import is_parametrized
from torch.utils import _pytree as pytree

from edgewright.capture._constants import Constants, find_source_call
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
_MAX_BYTES: Final = 2**20  # of a folded tensor without a stored source: a mask for 512 tokens
_PRODUCTS: Final = ops.MATRIX_PRODUCTS | ops.ADDED_PRODUCTS | {ops.EINSUM}
_RECURRENT: Final = ops.RECURRENT_LAYERS | ops.RECURRENT_CELLS
_WEIGHTED: Final = _RECURRENT | ops.NORMS | {aten.prelu.default}


class _Masking(NamedTuple):
    """How an operator masks: which arguments may be the mask, and which elements it zeros."""

    masks: tuple[str, ...]
    is_dropped: Callable[[Tensor], Tensor]
    fill_argument: str | None = None  # the argument that must be 0; None if masked elements are 0


_MASKING: Final[dict[Any, _Masking]] = {
    aten.mul.Tensor: _Masking(("self", "other"), torch.logical_not),
    aten.masked_fill.Scalar: _Masking(("mask",), torch.as_tensor, "value"),
    aten.where.ScalarOther: _Masking(("condition",), torch.logical_not, "other"),
}
_KEY: Final = "edgewright.folded"


def fold_constants(module: GraphModule, model: nn.Module) -> None:
    """Store every constant that is worth storing as one tensor, in place.

    Three kinds of constants are stored: weights and biases that the model computes, because only
    stored ones can be quantized and pruned; constants computed from buffers and numbers alone, for
    example a mask; and constants computed from parameters and smaller than these. Everything else
    stays in the graph: tensors that are only rearranged or looked up, and constants that would make
    the program larger.

    Args:
        module: A captured graph, in evaluation mode.
        model: The model it was captured from, for the names of its parametrized weights.
    """
    plan = _plan(module)
    if not plan.stored and not plan.dropped:
        return
    values = plan.constants.values()
    for node in reversed(plan.stored):
        if isinstance(values[node], Tensor):
            name = _choose_name(module, plan, node, model)
            _store(module, node, values[node], name, plan.sources[node])
            record_folded(module, {name: tuple(plan.sources[node])})
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
    """Names of the tensors that capture computed, each with the tensors it was computed from.

    They are kept with the graph module, like the marks of sparse tensors.
    """
    recorded: dict[str, tuple[str, ...]] = module.meta.get(_KEY, {})
    present = stored_tensors(module).keys() if recorded else ()
    return {name: sources for name, sources in recorded.items() if name in present}


def record_folded(module: GraphModule, folded: dict[str, tuple[str, ...]]) -> None:
    """Record which tensors the model's own code computes from which, in place."""
    module.meta[_KEY] = {**folded_tensors(module), **folded}


@dataclass
class _Plan:
    """What happens to each constant of a graph.

    Attributes:
        constants: The constants.
        sources: For every constant, the stored tensors it is computed from, by name.
        stored: Constants that are stored.
        dropped: Constants that nothing reads any more.
        kept: Calls that stay in the graph.
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
    """Choose what to store; a storage that is written in place is stored completely or not."""
    varying: set[Node] = set()
    while True:
        constants = Constants(module, varying)
        plan = _Plan(constants, _sources(module, constants))
        for node in reversed(module.graph.nodes):
            _choose(plan, node)
        partly_stored = {root for root, writers in constants.writers.items()
                  if root in constants.nodes and not _is_whole(plan, root, writers)}
        if not partly_stored:
            return plan
        varying |= partly_stored


def _is_whole(plan: _Plan, root: Node, writers: list[Node]) -> bool:
    """Whether a storage is not needed any more once the constants are stored."""
    order = {node: index for index, node in enumerate(root.graph.nodes)}
    last = max(order[writer] for writer in writers)
    readers = [user for node in plan.stored if root in plan.constants.roots(node)
               for user in node.users if user in plan.kept]
    return root not in plan.kept and all(order[reader] > last for reader in readers)


def _choose(plan: _Plan, node: Node) -> None:
    """Decide whether to store, keep or drop a node, after the nodes that read it."""
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
    source = find_source_call(node)
    if source.op == "get_attr" or all(reader.op == "output" for reader in readers):
        return False
    if any(_reads_as_weight(reader, node) for reader in readers):
        return True
    if _parameters(plan.sources[node]):
        return source is node and _size_bytes(node) < _freed_bytes(node)
    is_larger = source is not node and _size_bytes(node) > _size_bytes(node.all_input_nodes[0])
    return not is_larger and _size_bytes(node) <= max(_MAX_BYTES, _freed_bytes(node))


def _sources(module: GraphModule, constants: Constants) -> dict[Node, dict[str, Tensor]]:
    sources: dict[Node, dict[str, Tensor]] = {}
    for node in module.graph.nodes:
        if node in constants.nodes:
            sources[node] = {}
            for arg in node.all_input_nodes:
                sources[node].update(sources[arg] if arg in sources else constants.stored(arg))
    return sources


def _size_bytes(node: Node) -> int:
    value = tensor_of(node)
    return 0 if value is None else value.numel() * value.element_size()


def _freed_bytes(node: Node) -> int:
    """Bytes of the stored tensors that only ``node`` needs."""
    own, pending, total = {node}, list(node.all_input_nodes), 0
    while pending:
        source = pending.pop()
        if source in own or not own.issuperset(source.users):
            continue
        own.add(source)
        pending.extend(source.all_input_nodes)
        total += _size_bytes(source) if source.op == "get_attr" else 0
    return total


def _reads_as_weight(reader: Node, node: Node) -> bool:
    """Whether a call uses ``node`` as a weight: to multiply, to normalize or to look up rows."""
    if reader.target is ops.EMBEDDING:
        return node is argument(reader, "weight")
    if reader.target in _PRODUCTS:
        return True
    return (has_macs(reader) or reader.target in _WEIGHTED) and node not in _data_inputs(reader)


def _data_inputs(reader: Node) -> list[Node]:
    """The inputs of a layer that are not weights; for a recurrent layer, including its states."""
    read = [reader.args[0], argument(reader, "hx") if reader.target in _RECURRENT else None]
    leaves = pytree.tree_leaves(read)
    return [leaf for leaf in leaves if isinstance(leaf, Node)]


def _is_masked(plan: _Plan, node: Node, values: dict[Node, Any]) -> bool:
    """Whether a constant is computed from parameters and a fixed mask that zeros some elements."""
    source = find_source_call(node)
    masking = _MASKING.get(source.target)
    if masking is None or (masking.fill_argument and argument(source, masking.fill_argument) != 0):
        return False
    for arg in (argument(source, name) for name in masking.masks):
        if isinstance(arg, Node) and not _parameters(plan.sources_of(arg)) and _parameters(
                plan.sources[source]):
            mask = values[arg] if arg in values else plan.sources_of(arg)[str(arg.target)]
            return bool(masking.is_dropped(mask).any())
    return False


def _parameters(sources: dict[str, Tensor]) -> list[nn.Parameter]:
    return [tensor for tensor in sources.values() if isinstance(tensor, nn.Parameter)]


def _choose_name(module: GraphModule, plan: _Plan, node: Node, model: nn.Module) -> str:
    """Choose a name for a constant: from its parametrization, its layer, or its module.

    Names of tensors that this folding removes can be reused; names of tensors that are still read
    cannot.
    """
    wanted = _parametrized_name(model, plan.sources[node]) or _layer_tensor_name(plan, node)
    if wanted is None:
        path = _module_path(find_source_call(node))
        wanted = f"{path}.{node.name}" if path else node.name
    name, count = wanted, 0
    while not _is_free(module, plan, name):
        count += 1
        name = f"{wanted}_{count}"
    return name


def _parametrized_name(model: nn.Module, sources: dict[str, Tensor]) -> str | None:
    """Name of the weight that `torch.nn.utils.parametrize` computes from the sources, if unique."""
    found = {f"{path}.{name}".lstrip(".")
             for path, owner in model.named_modules() if is_parametrized(owner)
             for name, parts in owner.parametrizations.items()
             for part, _ in (*parts.named_parameters(), *parts.named_buffers())
             if f"{path}.parametrizations.{name}.{part}".lstrip(".") in sources}
    return found.pop() if len(found) == 1 else None


def _layer_tensor_name(plan: _Plan, node: Node) -> str | None:
    """Name as the weight or bias of the layer that reads the constant; None without a layer."""
    reader = next((user for user in node.users
                   if user in plan.kept and _reads_as_weight(user, node)), None)
    if reader is None:
        return None
    path, target = _module_path(reader), reader.target
    assert isinstance(target, torch._ops.OpOverload)  # noqa: S101  (a layer)
    names = [parameter.name for parameter in target._schema.arguments]
    is_bias = any(arg is node and name == "bias"
                  for arg, name in zip(reader.args, names, strict=False))
    return f"{path}.{'bias' if is_bias else 'weight'}".lstrip(".")


def _module_path(node: Node) -> str:
    """Path of the module whose forward pass made a call."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack else ""


def _is_free(module: GraphModule, plan: _Plan, name: str) -> bool:
    """Whether no tensor that stays has this name."""
    readers = {user for node in module.graph.nodes if node.op == "get_attr"
               and node.target == name for user in node.users}
    path, _, leaf = name.rpartition(".")
    try:
        owner = module.get_submodule(path)
    except AttributeError:
        return True
    is_tensor = leaf in owner._parameters or leaf in owner._buffers
    return readers.isdisjoint(plan.kept) if is_tensor else not hasattr(owner, leaf)


def _store(module: GraphModule, node: Node, value: Tensor, name: str,
           sources: dict[str, Tensor]) -> None:
    """Store a constant's value under a name and read it from there, in place."""
    path, _, leaf = name.rpartition(".")
    owner = _get_or_add_module(module, path)
    if hasattr(owner, leaf):
        delattr(owner, leaf)
    parameters = _parameters(sources)
    own = value.detach().clone(memory_format=torch.contiguous_format)
    if parameters and own.is_floating_point():
        requires_grad = any(parameter.requires_grad for parameter in parameters)
        owner.register_parameter(leaf, nn.Parameter(own, requires_grad=requires_grad))
    else:
        owner.register_buffer(leaf, own)
    with module.graph.inserting_before(node):
        stored = module.graph.get_attr(name)
    node.replace_all_uses_with(stored)


def _get_or_add_module(module: GraphModule, path: str) -> nn.Module:
    """The module at a path; it is created if it does not exist."""
    owner: nn.Module = module
    for step in path.split(".") if path else ():
        if step not in owner._modules:
            owner.add_module(step, nn.Module())
        owner = owner.get_submodule(step)
    return owner
