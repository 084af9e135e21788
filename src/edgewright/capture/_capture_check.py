"""A captured graph computes what the model does, in float32, the same at every call."""

from __future__ import annotations

import copy
from typing import Any, Final

import torch
from torch import nn
from torch.fx import GraphModule, Node
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols
from torch.utils import _pytree as pytree

from edgewright.capture._admission import plain
from edgewright.errors import ModelError
from edgewright.graph import TOLERANCE, argument, calls, compare_outputs, op_name, user_location

_NARROW: Final = frozenset({torch.float16, torch.bfloat16, torch.float8_e4m3fn,
                            torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz})
# Arguments with which an operator that may draw random numbers draws none.
_QUIET: Final = frozenset({"dropout_p", "dropout", "train", "training"})


def check_operators(module: GraphModule, model: str) -> None:
    """See that every call computes in float32, in shapes of the inputs', and draws no numbers.

    Raises:
        ModelError: Names the operator and the line of the user's code.
    """
    for node in calls(module.graph):
        if any(map(_is_of_values, pytree.tree_leaves(node.meta.get("val")))):
            raise ModelError(f"{model} computes a size or a number from the values of its input "
                             f"({op_name(node)}{user_location(node)}), which a graph cannot hold; "
                             "keep shapes fixed: mask with torch.where, and compute with tensors")
        types = {leaf.dtype for leaf in pytree.tree_leaves(node.meta.get("val"))
                 if isinstance(leaf, torch.Tensor)}
        narrow = sorted(plain(dtype) for dtype in types & _NARROW)
        if narrow or node.target is torch.ops.higher_order.wrap_with_autocast:
            raise ModelError(f"{model} computes in {narrow[0] if narrow else 'lower precision'} "
                             f"({op_name(node)}{user_location(node)}); Edgewright computes in "
                             "float32: take half() and torch.autocast out of the forward pass")
        if _draws(node):
            raise ModelError(f"{model} draws random numbers in evaluation mode ({op_name(node)}"
                             f"{user_location(node)}), so that no file of it could be proved; take "
                             "them as an input, or draw them in training only")


def check_outputs(module: GraphModule, model: nn.Module, example_inputs: tuple[Any, ...]) -> None:
    """See that the graph computes what the model does, for one sample and for two.

    A model that takes one sample for something else (its shape differs) has no say for one.

    Raises:
        ModelError: They differ.
    """
    for batch in (1, 2):
        inputs = pytree.tree_map(lambda leaf, count=batch: leaf[:count].clone(), example_inputs)
        with torch.no_grad():
            try:
                want = model(*copy.deepcopy(inputs))
            except (RuntimeError, ValueError, TypeError, LookupError):
                continue  # a model that cannot take one sample by itself
            have = module(*inputs)
        error = compare_outputs(want, have)
        if error > TOLERANCE and _is_comparable(want, have):
            raise ModelError(
                f"{type(model).__name__} cannot be captured: for {batch} sample(s) it computes "
                f"something else than its graph (relative error {error:.2e}); its forward pass "
                "branches on the batch size, or on what changes from call to call: make it one "
                "computation for all")


def _is_comparable(want: Any, have: Any) -> bool:
    """Whether two results are alike in shape, and the first is finite."""
    wanted, had = (pytree.tree_leaves(value) for value in (want, have))
    return ([getattr(leaf, "shape", None) for leaf in wanted]
            == [getattr(leaf, "shape", None) for leaf in had]
            and all(bool(torch.isfinite(leaf).all()) for leaf in wanted
                    if isinstance(leaf, torch.Tensor)))


def _is_of_values(leaf: object) -> bool:
    """Whether a size, or a number, is known only once a tensor's values are."""
    sizes = leaf.shape if isinstance(leaf, torch.Tensor) else (leaf,)
    return any(bool(free_unbacked_symbols(size)) for size in sizes
               if isinstance(size, torch.SymInt | torch.SymFloat | torch.SymBool))


def _draws(node: Node) -> bool:
    """Whether a call draws random numbers in evaluation mode."""
    target: Any = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return False
    if argument(node, "p", 1.0) == 0:  # a dropout of nothing
        return False
    if argument(node, "train", False) is True or argument(node, "dropout_p", 0.0):
        return True
    is_random = torch.Tag.nondeterministic_seeded in target.tags
    return is_random and not any(argument.name in _QUIET for argument in target._schema.arguments)
