"""Re-initialize weights as torch's layers do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn
from torch.fx import Node

from edgewright.graph import ops, stored_tensors
from edgewright.program import Program

_STATISTICS: Final = frozenset({"running_mean", "running_var"})
Tensors: TypeAlias = Mapping[str, Tensor]  # by the name of the operator's argument


def initialize(program: Program, seed: int = 0) -> Program:
    """Return the program with freshly initialized weights, as in torch's layers.

    As in each layer's `reset_parameters`, convolutions and linear layers are initialized uniformly
    (He et al. 2015, with a = sqrt(5)), norms as the identity with fresh running statistics,
    embeddings normally, recurrent layers uniformly, and PReLU slopes with 0.25. Tensors of no such
    layer (position embeddings, class tokens, layer scales) keep their values, and so do tensors
    that training does not change: frozen parameters (``requires_grad=False``) and buffers.

    Args:
        program: A floating-point program; it is not modified.
        seed: The same seed gives the same weights.

    Example:
        >>> program = Program.capture(nn.Linear(4, 3), torch.zeros(1, 4))
        >>> one, again = initialize(program, 1), initialize(program, 1)
        >>> torch.equal(one.state_dict()["weight"], again.state_dict()["weight"])
        True
    """
    drawn = program.copy()
    state, done = drawn.state_dict(), set[int]()
    fixed = {name for name, tensor in stored_tensors(drawn.graph_module).items()
             if not tensor.requires_grad}
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for node in drawn.calls():
            reset = _find_reset(node)
            if reset is None:
                continue
            sources = _find_stored_tensors(node)
            tensors = {name: state[source] for name, source in sources.items()}
            unchanged = [(tensor, tensor.clone()) for name, tensor in tensors.items()
                       if tensor.data_ptr() in done  # tied to a tensor initialized earlier
                       or (sources[name] in fixed and name not in _STATISTICS)]
            reset(tensors)
            for tensor, value in unchanged:
                tensor.copy_(value)
            done.update(tensor.data_ptr() for tensor in tensors.values())
    return program.with_state(state)


def _find_reset(node: Node) -> Callable[[Tensors], None] | None:
    return _RESETS.get(node.target)


def _find_stored_tensors(node: Node) -> dict[str, str]:
    """Names of the stored tensors that a call reads, by argument name and position in a list."""
    target: Any = node.target
    names = [argument.name for argument in target._schema.arguments]
    given = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
    flat = {f"{name}.{place}" if isinstance(value, list | tuple) else name: item
            for name, value in given.items()
            for place, item in enumerate(value if isinstance(value, list | tuple) else [value])}
    return {name: str(value.target) for name, value in flat.items()
            if isinstance(value, Node) and value.op == "get_attr"}


def _reset_layer(tensors: Tensors) -> None:
    """Reset a convolution or a linear layer."""
    weight, bias = tensors.get("weight"), tensors.get("bias")
    if weight is None:
        return
    nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
    if bias is not None:
        fan_in = weight[0].numel()
        nn.init.uniform_(bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))


def _reset_norm(tensors: Tensors) -> None:
    for name, tensor in tensors.items():
        nn.init.constant_(tensor, float(name in {"weight", "running_var"}))


def _reset_embedding(tensors: Tensors) -> None:
    for tensor in tensors.values():
        nn.init.normal_(tensor)


def _reset_prelu(tensors: Tensors) -> None:
    for tensor in tensors.values():
        nn.init.constant_(tensor, 0.25)


def _reset_recurrent(tensors: Tensors) -> None:
    """Reset all layers and directions; every second matrix has hidden size columns."""
    weights = [tensor for name, tensor in tensors.items() if name.startswith("params.")]
    hidden = weights[1].shape[1] if len(weights) > 1 else 1
    for weight in weights:
        nn.init.uniform_(weight, -1 / math.sqrt(hidden), 1 / math.sqrt(hidden))


_RESETS: Final[dict[Any, Callable[[Tensors], None]]] = {
    **dict.fromkeys(ops.LAYERS, _reset_layer),
    **dict.fromkeys(ops.NORMS, _reset_norm),
    **dict.fromkeys(ops.RECURRENT_LAYERS, _reset_recurrent),
    ops.EMBEDDING: _reset_embedding,
    ops.EMBEDDING_BAG: _reset_embedding,
    torch.ops.aten.prelu.default: _reset_prelu,
}
