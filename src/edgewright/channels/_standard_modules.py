"""The size attributes of torch's own modules, computed from their weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import nn
from torch.fx import Graph, Node

from edgewright.errors import ModelError
from edgewright.graph import ancestors, argument, calls, ops, shape_of

aten = torch.ops.aten
Sizes = dict[str, Any]
Facts = Mapping[str, int]

_BATCHED_PRODUCTS: Final = frozenset({aten.bmm.default, aten.baddbmm.default})  # in attention


def size_attributes(module: nn.Module, facts: Facts) -> Sizes:
    """The size attributes that a torch module must have for its current weights.

    Args:
        module: Any module; for modules that are not torch's own, nothing is known.
        facts: From `collect_sizes`, for this module.

    Returns:
        Attribute names and values; empty if nothing is known.

    Raises:
        ModelError: The module cannot have its weights: layers of one stack differ in width.
    """
    rule = next((rule for kinds, rule in _RULES if isinstance(module, kinds)), None)
    return {} if rule is None else rule(module, facts)


def collect_sizes(graph: Graph) -> dict[str, dict[str, int]]:
    """Sizes that weights do not determine (groups, head widths), by stored tensor name."""
    facts: dict[str, dict[str, int]] = {}
    for node in calls(graph):
        if node.target in ops.CONVOLUTIONS:
            _record(facts, argument(node, "weight"), "groups", ops.groups_of(node))
        elif node.target is aten.group_norm.default:
            _record(facts, argument(node, "weight"), "groups", argument(node, "num_groups"))
        elif node.target is ops.ATTENTION or node.target in _BATCHED_PRODUCTS:
            query = (argument(node, "query") if node.target is ops.ATTENTION
                     else ops.factors(node)[0])
            _record(facts, query, "head_dim", shape_of(query)[-1])
    return facts


def _record(facts: dict[str, dict[str, int]], source: Any, fact: str, value: Any) -> None:
    """Record a fact for every tensor that a value is computed from; the first one wins."""
    for node in ancestors([source] if isinstance(source, Node) else ()):
        if node.op == "get_attr":
            facts.setdefault(str(node.target), {}).setdefault(fact, value)


def _convolution(module: Any, facts: Facts) -> Sizes:
    groups = facts.get("groups", module.groups)
    first, second = module.weight.shape[:2]
    outputs, inputs = (second, first) if module.transposed else (first, second)
    if module.transposed:
        return {"in_channels": inputs, "out_channels": outputs * groups, "groups": groups}
    return {"in_channels": inputs * groups, "out_channels": outputs, "groups": groups}


def _linear(module: Any, facts: Facts) -> Sizes:
    del facts
    outputs, inputs = module.weight.shape
    return {"in_features": inputs, "out_features": outputs}


def _batch_norm(module: Any, facts: Facts) -> Sizes:
    del facts
    tensor = module.weight if module.weight is not None else module.running_mean
    return {} if tensor is None else {"num_features": tensor.shape[0]}


def _layer_norm(module: Any, facts: Facts) -> Sizes:
    del facts
    return {} if module.weight is None else {"normalized_shape": tuple(module.weight.shape)}


def _group_norm(module: Any, facts: Facts) -> Sizes:
    if module.weight is None:
        return {}
    return {"num_channels": module.weight.shape[0],
            "num_groups": facts.get("groups", module.num_groups)}


def _embedding(module: Any, facts: Facts) -> Sizes:
    del facts
    count, width = module.weight.shape
    return {"num_embeddings": count, "embedding_dim": width}


def _prelu(module: Any, facts: Facts) -> Sizes:
    del facts
    return {"num_parameters": module.weight.numel()}


def _attention(module: Any, facts: Facts) -> Sizes:
    """Heads have ``head_dim`` channels; queries, keys and values are as wide as the output."""
    width = module.out_proj.weight.shape[0]
    head_dim = facts.get("head_dim", module.head_dim)
    packed = module.in_proj_weight is not None
    return {"embed_dim": width, "head_dim": head_dim, "num_heads": max(width // head_dim, 1),
            "kdim": width if packed else module.k_proj_weight.shape[1],
            "vdim": width if packed else module.v_proj_weight.shape[1]}


def _recurrent(module: Any, facts: Facts) -> Sizes:
    del facts
    widths = [getattr(module, f"weight_hh_l{layer}").shape[1] for layer in range(module.num_layers)]
    if len(set(widths)) > 1:
        raise ModelError(f"one {type(module).__name__} cannot have layers of the widths "
                         f"{', '.join(map(str, widths))}; write it as one module per layer")
    return {"input_size": module.weight_ih_l0.shape[1]} | (
        {} if module.proj_size else {"hidden_size": widths[0]})


def _recurrent_cell(module: Any, facts: Facts) -> Sizes:
    del facts
    return {"input_size": module.weight_ih.shape[1], "hidden_size": module.weight_hh.shape[1]}


_RULES: Final[tuple[tuple[Any, Callable[[Any, Facts], Sizes]], ...]] = (
    (nn.modules.conv._ConvNd, _convolution),
    (nn.Linear, _linear),
    (nn.modules.batchnorm._NormBase, _batch_norm),
    ((nn.LayerNorm, nn.RMSNorm), _layer_norm),
    (nn.GroupNorm, _group_norm),
    ((nn.Embedding, nn.EmbeddingBag), _embedding),
    (nn.PReLU, _prelu),
    (nn.MultiheadAttention, _attention),
    (nn.RNNBase, _recurrent),
    (nn.modules.rnn.RNNCellBase, _recurrent_cell),
)
