"""Checks of the inputs that a captured module is called with.

Except for the batch and dynamic dimensions, a graph has its example inputs' sizes as constants. At
another size it might run and compute something wrong, so other sizes are refused, as in the file.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, final

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx import _pytree as fx_pytree
from torch.utils import _pytree as pytree

from edgewright.core import Size, check_equal_sizes, find_wrong_size, format_shape
from edgewright.errors import DataError
from edgewright.graph import name_sizes, sizes_of, tensor_of

_KEY: Final = "edgewright.inputs"
_BATCH: Final = (None,)
_STRUCTURE_ERRORS: Final = (TypeError, ValueError, LookupError, AttributeError, AssertionError)


@final
class InputSpec(NamedTuple):
    """Name, shape (None for the batch size, ranges for other varying sizes) and dtype of an input.

    Example:
        >>> InputSpec("x", (None, 3, 32, 32), torch.float32).shape_text
        '(N, 3, 32, 32)'
    """

    name: str
    shape: tuple[Size, ...]
    dtype: torch.dtype

    @property
    def shape_text(self) -> str:
        """The shape as text, with N for the batch size."""
        return format_shape(self.shape)


def record_input_specs(module: GraphModule) -> None:
    """Record the inputs that a graph expects, in place, for `check_inputs`, also when pickled."""
    specs = read_input_specs(module)
    if specs is not None:
        module.meta[_KEY] = specs


def read_input_specs(module: GraphModule) -> tuple[InputSpec, ...] | None:
    """The inputs that a graph expects; None if it was not exported."""
    nodes = module.graph.find_nodes(op="placeholder")
    values = [tensor_of(node) for node in nodes]
    names = name_sizes(module)
    found = [InputSpec(node.name, sizes_of(value, names), value.dtype)
             for node, value in zip(nodes, values, strict=True) if value is not None]
    return tuple(found) if len(found) == len(nodes) else None


def check_inputs(module: GraphModule, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Check a call's inputs against those of the captured graph; skipped during tracing.

    Raises:
        DataError: The number or nesting of the inputs is different, or an input has another dtype
            or shape.
    """
    if torch.compiler.is_compiling():
        return
    specs: tuple[InputSpec, ...] | None = module.meta.get(_KEY)
    if specs is None:
        return
    leaves = _flatten_inputs(module, specs, args, kwargs)
    batches = [_check_input(spec, leaf, module)
               for spec, leaf in zip(specs, leaves, strict=True)]
    check_equal_sizes([spec.name for spec in specs], [leaf.shape for leaf in leaves],
                      [spec.shape for spec in specs])
    sizes = sorted({size for size in batches if size is not None})
    if len(sizes) > 1:
        raise DataError(f"the inputs have different batch sizes: {sizes}; pass the same number of "
                        "samples in each")


def _flatten_inputs(module: GraphModule, specs: Sequence[InputSpec], args: tuple[Any, ...],
          kwargs: Mapping[str, Any]) -> list[Any]:
    """The inputs as a flat list, in the order of the graph's inputs."""
    codegen = module.graph._codegen
    if not kwargs and len(args) == len(specs) and (_is_flat(codegen) or _are_tensors(args)):
        return list(args)
    given = len(pytree.tree_leaves((args, dict(kwargs))))
    expected = f"the program takes {_describe_inputs(specs)}"
    try:
        bound = inspect.signature(module.forward).bind(*args, **kwargs).args if kwargs else args
        leaves = list(bound)
        if isinstance(codegen, torch.fx.graph._PyTreeCodeGen):
            leaves = fx_pytree.tree_flatten_spec((bound, {}), codegen.pytree_info.in_spec)
    except _STRUCTURE_ERRORS as error:
        raise DataError(f"{expected}, got {given} with a different nesting; pass them as the "
                        "model's own forward takes them") from error
    if len(leaves) != len(specs) or given != len(specs):
        raise DataError(f"{expected}, got {given}")
    return leaves


def nest_inputs(module: GraphModule, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of a call, nested as the graph takes them if they are given flat."""
    codegen = module.graph._codegen
    if _is_flat(codegen) or not _are_tensors(args):
        return args
    assert isinstance(codegen, torch.fx.graph._PyTreeCodeGen)  # noqa: S101  (not flat)
    spec = codegen.pytree_info.in_spec.child(0)
    if len(args) != spec.num_leaves:
        return args
    nested: tuple[Any, ...] = pytree.tree_unflatten(args, spec)
    return nested


def _are_tensors(args: tuple[Any, ...]) -> bool:
    return all(isinstance(arg, Tensor) for arg in args)


def _is_flat(codegen: torch.fx.graph.CodeGen) -> bool:
    """Whether every argument is a single tensor, as in most models."""
    return not isinstance(codegen, torch.fx.graph._PyTreeCodeGen) or all(
        child.is_leaf() for child in codegen.pytree_info.in_spec.child(0).children())


def _describe_inputs(specs: Sequence[InputSpec]) -> str:
    names = ", ".join(spec.name for spec in specs)
    return f"{len(specs)} input{'s' * (len(specs) != 1)} ({names})"


def _is_converted(spec: InputSpec, given: Tensor, module: GraphModule) -> bool:
    """Whether the module was converted to another precision, and the input as well."""
    own = (tensor.dtype for tensor in module.parameters() if tensor.is_floating_point())
    return spec.dtype.is_floating_point and given.dtype == next(own, None)


def _check_input(spec: InputSpec, given: Any, module: GraphModule) -> int | None:
    """Check one input and return its batch size; None if the first dimension is fixed."""
    if not isinstance(given, Tensor):
        raise DataError(f"input {spec.name!r} is a {type(given).__name__}, expected a tensor; use "
                        "torch.as_tensor")
    if given.dtype != spec.dtype and not _is_converted(spec, given, module):
        raise DataError(f"input {spec.name!r} is {given.dtype}, expected {spec.dtype}; use "
                        f".to({spec.dtype}) if that is intended")
    shape = tuple(given.shape)
    if len(shape) != len(spec.shape) or find_wrong_size(shape, spec.shape) is not None:
        raise DataError(f"input {spec.name!r} has shape {shape}, expected {spec.shape_text}; for "
                        "other sizes, capture the model with an example of that size, or with "
                        "dynamic=")
    if not given.numel():
        raise DataError(f"input {spec.name!r} is empty (shape {shape}); pass at least one sample")
    return shape[0] if spec.shape[:1] == _BATCH else None
