"""The sizes that torch's own modules note down about their weights, brought up to date."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import nn
from torch.fx import Graph, Node

from edgewright.graph import argument, calls, shape_of

aten = torch.ops.aten
Sizes = dict[str, Any]
Facts = Mapping[str, int]

_CONVOLUTIONS: Final = frozenset({
    aten.conv1d.default, aten.conv2d.default, aten.conv3d.default, aten.conv1d.padding,
    aten.conv2d.padding, aten.conv3d.padding, aten.conv_transpose1d.default,
    aten.conv_transpose2d.input, aten.conv_transpose3d.input})
_ATTENTIONS: Final = frozenset({aten.scaled_dot_product_attention.default, aten.bmm.default,
                                aten.baddbmm.default})


def written_sizes(module: nn.Module, facts: Facts) -> Sizes:
    """What a standard module's size attributes have to be for the weights it holds now.

    Args:
        module: Any module; one that is not torch's own has none that are known.
        facts: From `facts_of`, of this module.

    Returns:
        Attribute names and values; empty where nothing is known.
    """
    rule = next((rule for kinds, rule in _RULES if isinstance(module, kinds)), None)
    return {} if rule is None else rule(module, facts)


def facts_of(graph: Graph) -> dict[str, dict[str, int]]:
    """What no weight's shape tells, for every stored tensor's name: groups and head widths."""
    facts: dict[str, dict[str, int]] = {}
    for node in calls(graph):
        if node.target in _CONVOLUTIONS:
            _note(facts, node.args[1], "groups", argument(node, 6, "groups", 1))
        elif node.target is aten.group_norm.default:
            _note(facts, argument(node, 2, "weight"), "groups", node.args[1])
        elif node.target in _ATTENTIONS:
            query = argument(node, 1 if node.target is aten.baddbmm.default else 0)
            _note(facts, query, "head_dim", shape_of(query)[-1])
    return facts


def _note(facts: dict[str, dict[str, int]], source: Any, fact: str, value: Any) -> None:
    """Note a fact on every tensor a value is computed from, the first one of its kind only."""
    pending, seen = [source], set()
    while pending:
        node = pending.pop()
        if isinstance(node, Node) and node not in seen:
            seen.add(node)
            if node.op == "get_attr":
                facts.setdefault(str(node.target), {}).setdefault(fact, value)
            pending.extend(node.all_input_nodes)


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
    """Heads of ``head_dim`` channels; queries, keys and values are as wide as the output."""
    width = module.out_proj.weight.shape[0]
    head_dim = facts.get("head_dim", module.head_dim)
    packed = module.in_proj_weight is not None
    return {"embed_dim": width, "head_dim": head_dim, "num_heads": max(width // head_dim, 1),
            "kdim": width if packed else module.k_proj_weight.shape[1],
            "vdim": width if packed else module.v_proj_weight.shape[1]}


_RULES: Final[tuple[tuple[Any, Callable[[Any, Facts], Sizes]], ...]] = (
    (nn.modules.conv._ConvNd, _convolution),
    (nn.Linear, _linear),
    (nn.modules.batchnorm._NormBase, _batch_norm),
    ((nn.LayerNorm, nn.RMSNorm), _layer_norm),
    (nn.GroupNorm, _group_norm),
    ((nn.Embedding, nn.EmbeddingBag), _embedding),
    (nn.PReLU, _prelu),
    (nn.MultiheadAttention, _attention),
)
