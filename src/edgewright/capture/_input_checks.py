"""Checks of the inputs that a captured module is called with.

Except for the batch, a graph contains the sizes of its example inputs as constants. At another size
it might run and compute something wrong, so other sizes are refused, as in the exported file.
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

from edgewright.errors import DataError

_KEY: Final = "edgewright.inputs"
_BATCH: Final = (None,)
_STRUCTURE_ERRORS: Final = (TypeError, ValueError, LookupError, AttributeError, AssertionError)


@final
class InputSpec(NamedTuple):
    """Name, shape (with None for the batch size) and dtype of an input tensor.

    Example:
        >>> InputSpec("x", (None, 3, 32, 32), torch.float32).shape_text
        '(N, 3, 32, 32)'
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: torch.dtype

    @property
    def shape_text(self) -> str:
        """The shape as text, with N for the batch size."""
        sizes = ["N" if size is None else str(size) for size in self.shape]
        return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def record_input_specs(module: GraphModule) -> None:
    """Record the inputs that a graph expects, in place, for `check_inputs`, also when pickled."""
    nodes = [node for node in module.graph.nodes if node.op == "placeholder"]
    values = [node.meta.get("val") for node in nodes]
    if all(isinstance(value, Tensor) for value in values):
        module.meta[_KEY] = tuple(
            InputSpec(node.name, tuple(size if isinstance(size, int) else None
                                       for size in value.shape), value.dtype)
            for node, value in zip(nodes, values, strict=True))


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
    batches = [_check_input(spec, leaf, module)
               for spec, leaf in zip(specs, _flatten_inputs(module, specs, args, kwargs),
                                     strict=True)]
    sizes = sorted({size for size in batches if size is not None})
    if len(sizes) > 1:
        raise DataError(f"the inputs have different batch sizes: {sizes}; pass the same number of "
                        "samples in each")


def _flatten_inputs(module: GraphModule, specs: Sequence[InputSpec], args: tuple[Any, ...],
          kwargs: Mapping[str, Any]) -> list[Any]:
    """The inputs as a flat list, in the order of the graph's inputs."""
    codegen = module.graph._codegen
    if not kwargs and len(args) == len(specs) and _is_flat(codegen):
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
    if len(shape) != len(spec.shape) or any(
            want is not None and have != want for have, want in zip(shape, spec.shape,
                                                                    strict=True)):
        raise DataError(f"input {spec.name!r} has shape {shape}, expected {spec.shape_text}; for "
                        "other sizes, capture the model with an example of that size")
    if not given.numel():
        raise DataError(f"input {spec.name!r} is empty (shape {shape}); pass at least one sample")
    return shape[0] if spec.shape[:1] == _BATCH else None
