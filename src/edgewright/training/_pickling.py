"""Sending what a run is made of to other processes, captured networks included."""

from __future__ import annotations

import io
import pickle
import warnings
from operator import attrgetter
from typing import Any, Final, NamedTuple, final

import torch
from torch import nn
from torch._ops import OpOverload
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_aggregate

from edgewright.capture import CapturedModule, InputSpec
from edgewright.errors import UsageError

_REFUSALS: Final = (pickle.PicklingError, TypeError, AttributeError, RuntimeError)
_MODULE_STATE: Final = ("training", "_parameters", "_buffers", "_non_persistent_buffers_set",
                        "_modules")


def pickle_run(whole: object, parts: dict[str, object]) -> bytes:
    """An object as bytes, its tensors by value.

    Args:
        whole: What pickles; networks of torch.fx do so here, though not by themselves.
        parts: Of it, by the names that they have in the error.

    Raises:
        UsageError: Names the first part that cannot be sent.
    """
    try:
        return _pickle(whole)
    except _REFUSALS as error:
        name = next((name for name, part in parts.items() if not _pickles(part)), "run")
        raise UsageError(f"devices above 1 train in processes of their own, to which the {name} "
                         f"cannot be sent: {error}. Define what it is made of at the top level of "
                         "a module, or use one device") from error


def unpickle_run(data: bytes) -> Any:
    """What `pickle_run` made of it, which is to come from this program alone: reading runs code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's, about itself
        return pickle.loads(data)  # noqa: S301 - from the process that started this one


def _pickles(part: object) -> bool:
    try:
        _pickle(part)
    except _REFUSALS:
        return False
    return True


def _pickle(thing: object) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream, pickle.HIGHEST_PROTOCOL).dump(thing)
    return stream.getvalue()


@final
class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        """Networks node by node, operators by name; everything else as it says itself."""
        if isinstance(obj, OpOverload):
            return _find_operator, (str(obj),)
        if not isinstance(obj, GraphModule):
            return NotImplemented
        nodes = [_PlainNode(node.name, node.op, node.target, _name_nodes(node.args),
                            _name_nodes(node.kwargs), _picklable_meta(node.meta))
                 for node in obj.graph.nodes]
        root = nn.Module()
        root.__dict__.update({key: obj.__dict__[key] for key in _MODULE_STATE})
        kind = CapturedModule if isinstance(obj, CapturedModule) else GraphModule
        return _rebuild_network, (kind, root, nodes, obj.graph._codegen, _picklable_meta(obj.meta))


class _PlainNode(NamedTuple):
    name: str
    op: str
    target: Any
    args: Any
    kwargs: Any
    meta: dict[str, Any]


class _Name(str):
    """Of a node, among a node's arguments."""

    __slots__ = ()


def _name_nodes(arguments: Any) -> Any:
    return map_aggregate(
        arguments, lambda part: _Name(part.name) if isinstance(part, Node) else part)


def _picklable_meta(meta: dict[str, Any]) -> dict[str, Any]:
    """What passes noted about a network or a node; not torch's own notes, which do not pickle."""
    return {key: value for key, value in meta.items()
            if isinstance(value, bool | int | float | str)
            or (isinstance(value, tuple)
                and all(isinstance(part, str | InputSpec) for part in value))}


def _find_operator(name: str) -> Any:
    return attrgetter(name)(torch.ops)


def _rebuild_network(kind: type[GraphModule], root: nn.Module, nodes: list[_PlainNode],
                     codegen: Any, meta: dict[str, Any]) -> GraphModule:
    graph, known = Graph(), dict[str, Node]()
    for plain in nodes:
        args, kwargs = map_aggregate((plain.args, plain.kwargs), lambda part: (
            known[part] if isinstance(part, _Name) else part))
        known[plain.name] = node = graph.create_node(
            plain.op, plain.target, args, kwargs, name=plain.name)
        node.meta.update(plain.meta)
    graph.set_codegen(codegen)
    module = kind(root, graph)
    module.training = root.training
    module.meta.update(meta)
    return module
