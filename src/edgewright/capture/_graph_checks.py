"""Checks that a captured graph computes what the model does, in float32 and deterministically."""

from __future__ import annotations

import copy
from typing import Any, Final

import torch
from torch import nn
from torch.fx import GraphModule, Node
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols
from torch.utils import _pytree as pytree

from edgewright.capture._model_checks import dtype_name
from edgewright.errors import ModelError
from edgewright.graph import TOLERANCE, argument, calls, compare_outputs, op_name, user_location

_LOW_PRECISION: Final = frozenset({torch.float16, torch.bfloat16, torch.float8_e4m3fn,
                            torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz})
# Arguments that control whether an operator draws random numbers.
_RANDOMNESS_ARGUMENTS: Final = frozenset({"dropout_p", "dropout", "train", "training"})


def check_operators(module: GraphModule, model: str) -> None:
    """Check that calls compute in float32, with static shapes, and without random numbers.

    Raises:
        ModelError: A call does not; the message names the operator and the user's line.
    """
    for node in calls(module.graph):
        if any(map(_is_value_dependent, pytree.tree_leaves(node.meta.get("val")))):
            raise ModelError(f"{model} computes a size or a number from the values of its input "
                             f"({op_name(node)}{user_location(node)}), which a graph cannot hold; "
                             "keep shapes fixed: mask with torch.where, and compute with tensors")
        types = {leaf.dtype for leaf in pytree.tree_leaves(node.meta.get("val"))
                 if isinstance(leaf, torch.Tensor)}
        narrow = sorted(dtype_name(dtype) for dtype in types & _LOW_PRECISION)
        if narrow or node.target is torch.ops.higher_order.wrap_with_autocast:
            raise ModelError(f"{model} computes in {narrow[0] if narrow else 'lower precision'} "
                             f"({op_name(node)}{user_location(node)}); Edgewright computes in "
                             "float32: remove half() and torch.autocast from the forward pass")
        if _is_random(node):
            raise ModelError(f"{model} draws random numbers in evaluation mode ({op_name(node)}"
                             f"{user_location(node)}), so that exports cannot be verified; make "
                             "them an input, or draw them in training only")


def check_outputs(module: GraphModule, model: nn.Module, example_inputs: tuple[Any, ...]) -> None:
    """Check that the graph computes what the model does, for one sample and for two.

    A batch size is skipped if the outputs have different shapes there, for example in a model that
    interprets a single sample differently.

    Raises:
        ModelError: The outputs differ.
    """
    for batch in (1, 2):
        inputs = pytree.tree_map(lambda leaf, count=batch: leaf[:count].clone(), example_inputs)
        with torch.no_grad():
            try:
                expected = model(*copy.deepcopy(inputs))
            except (RuntimeError, ValueError, TypeError, LookupError):
                continue  # a model that does not accept a single sample
            actual = module(*inputs)
        error = compare_outputs(expected, actual)
        if error > TOLERANCE and _is_comparable(expected, actual):
            raise ModelError(
                f"{type(model).__name__} cannot be captured: for {batch} sample(s) it computes "
                f"something else than its graph (relative error {error:.2e}); its forward pass "
                "branches on the batch size, or on state that changes between calls: use the same "
                "computation in all cases")


def _is_comparable(expected: Any, actual: Any) -> bool:
    """Whether two results have the same shapes, and the first is finite."""
    reference, found = (pytree.tree_leaves(value) for value in (expected, actual))
    return ([getattr(leaf, "shape", None) for leaf in reference]
            == [getattr(leaf, "shape", None) for leaf in found]
            and all(bool(torch.isfinite(leaf).all()) for leaf in reference
                    if isinstance(leaf, torch.Tensor)))


def _is_value_dependent(leaf: object) -> bool:
    """Whether a number, or a size of a tensor, depends on the values of a tensor."""
    sizes = leaf.shape if isinstance(leaf, torch.Tensor) else (leaf,)
    return any(bool(free_unbacked_symbols(size)) for size in sizes
               if isinstance(size, torch.SymInt | torch.SymFloat | torch.SymBool))


def _is_random(node: Node) -> bool:
    """Whether a call draws random numbers in evaluation mode."""
    target: Any = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return False
    if argument(node, "p", 1.0) == 0:  # dropout with probability 0
        return False
    if argument(node, "train", False) is True or argument(node, "dropout_p", 0.0):
        return True
    is_random = torch.Tag.nondeterministic_seeded in target.tags
    return is_random and not any(parameter.name in _RANDOMNESS_ARGUMENTS
                                 for parameter in target._schema.arguments)
