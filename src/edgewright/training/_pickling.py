"""Pickle a run, including captured networks, to send it to other processes."""

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

_PICKLING_ERRORS: Final = (pickle.PicklingError, TypeError, AttributeError, RuntimeError)
_MODULE_STATE: Final = ("training", "_parameters", "_buffers", "_non_persistent_buffers_set",
                        "_modules")


def pickle_run(whole: object, parts: dict[str, object]) -> bytes:
    """Pickle an object, with tensors by value.

    Args:
        whole: A picklable object; torch.fx networks are supported too.
        parts: Parts of the object, by their names in the error message.

    Raises:
        UsageError: A part cannot be pickled; the message names the first one.
    """
    try:
        return _pickle(whole)
    except _PICKLING_ERRORS as error:
        name = next((name for name, part in parts.items() if not _pickles(part)), "run")
        raise UsageError(f"training with devices > 1 uses several processes, but the {name} "
                         f"cannot be pickled: {error}. Define its classes and functions at the top "
                         "level of a module, or use one device") from error


def unpickle_run(data: bytes) -> Any:
    """Undo `pickle_run`; only for data from this program, because unpickling runs code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # raised within torch
        return pickle.loads(data)  # noqa: S301 - from the process that started this one


def _pickles(part: object) -> bool:
    try:
        _pickle(part)
    except _PICKLING_ERRORS:
        return False
    return True


def _pickle(thing: object) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream, pickle.HIGHEST_PROTOCOL).dump(thing)
    return stream.getvalue()


@final
class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        """Reduce networks node by node and operators by name; the default for the rest."""
        if isinstance(obj, OpOverload):
            return _find_operator, (str(obj),)
        if not isinstance(obj, GraphModule):
            return NotImplemented
        nodes = [_PickledNode(node.name, node.op, node.target, _replace_nodes_by_names(node.args),
                            _replace_nodes_by_names(node.kwargs), _picklable_meta(node.meta))
                 for node in obj.graph.nodes]
        root = nn.Module()
        root.__dict__.update({key: obj.__dict__[key] for key in _MODULE_STATE})
        kind = CapturedModule if isinstance(obj, CapturedModule) else GraphModule
        return _rebuild_network, (kind, root, nodes, obj.graph._codegen, _picklable_meta(obj.meta))


class _PickledNode(NamedTuple):
    name: str
    op: str
    target: Any
    args: Any
    kwargs: Any
    meta: dict[str, Any]


class _NodeName(str):
    """The name of a node that is an argument of another node."""

    __slots__ = ()


def _replace_nodes_by_names(arguments: Any) -> Any:
    return map_aggregate(
        arguments, lambda part: _NodeName(part.name) if isinstance(part, Node) else part)


def _picklable_meta(meta: dict[str, Any]) -> dict[str, Any]:
    """The metadata that can be pickled: plain values, not torch's own objects."""
    return {key: value for key, value in meta.items()
            if isinstance(value, bool | int | float | str)
            or (isinstance(value, tuple)
                and all(isinstance(part, str | InputSpec) for part in value))}


def _find_operator(name: str) -> Any:
    return attrgetter(name)(torch.ops)


def _rebuild_network(kind: type[GraphModule], root: nn.Module, nodes: list[_PickledNode],
                     codegen: Any, meta: dict[str, Any]) -> GraphModule:
    graph, known = Graph(), dict[str, Node]()
    for plain in nodes:
        args, kwargs = map_aggregate((plain.args, plain.kwargs), lambda part: (
            known[part] if isinstance(part, _NodeName) else part))
        known[plain.name] = node = graph.create_node(
            plain.op, plain.target, args, kwargs, name=plain.name)
        node.meta.update(plain.meta)
    graph.set_codegen(codegen)
    module = kind(root, graph)
    module.training = root.training
    module.meta.update(meta)
    return module
