"""The example call that a model is captured with: positional and keyword inputs, and constants."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType, MethodType
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from edgewright.capture._model_checks import check_example_inputs
from edgewright.capture._plain_outputs import as_plain, name_key, name_output
from edgewright.errors import ModelError, UsageError

_CONSTANTS: Final = (bool, int, float, str, type(None))
_TRACED: Final = (Tensor, *_CONSTANTS, complex, torch.SymInt, torch.SymFloat, torch.SymBool)
_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@final
@dataclass(frozen=True)
class ExampleCall:
    """A call of a model with two samples.

    Attributes:
        inputs: The program's inputs: the positional ones, then those passed by keyword.
        keywords: Names of the last inputs, in order: those passed by keyword.
        constants: Keyword arguments that are not tensors, and are fixed in the program.
        batch_dims: Of every input tensor, the dimension in which the model has the batch.
        output_batch_dims: The same of outputs, by name, where it is not the first.
    """

    inputs: tuple[Any, ...]
    keywords: tuple[str, ...] = ()
    constants: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    batch_dims: tuple[int, ...] = ()
    output_batch_dims: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def positional(self) -> tuple[Any, ...]:
        """The positional inputs."""
        return self.inputs[:len(self.inputs) - len(self.keywords)]

    def results(self, outputs: Any) -> Any:
        """A model's outputs as plain dicts and tuples, with the batch first.

        Raises:
            ModelError: An output is of a class that holds no tensors that could be traced.
        """
        outputs = as_plain(outputs)
        paths, spec = pytree.tree_flatten_with_path(outputs)
        for path, leaf in paths:
            if not isinstance(leaf, _TRACED):
                raise ModelError(
                    f"the output {name_output(path)!r} of the model is a {type(leaf).__name__}, "
                    "which a graph cannot return; return tensors, or dicts and tuples of them, and "
                    "leave it out (a language model's cache of keys and values: "
                    "config.use_cache=False, or the constant input use_cache=False)")
        if not self.output_batch_dims:
            return outputs
        dims = [self.output_batch_dims.get(name_output(path), 0) for path, _ in paths]
        return pytree.tree_unflatten([leaf.movedim(dim, 0) if dim else leaf
                                      for (_, leaf), dim in zip(paths, dims, strict=True)], spec)

    def arguments(self, inputs: tuple[Any, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments and keyword arguments of a call of the model with these inputs.

        Example:
            >>> ExampleCall(("a", "b"), ("mask",), {"cache": False}).arguments((1, 2))
            ((1,), {'mask': 2, 'cache': False})
        """
        if any(self.batch_dims):
            leaves, spec = pytree.tree_flatten(inputs)
            inputs = pytree.tree_unflatten(
                [leaf.movedim(0, dim) if dim else leaf
                 for leaf, dim in zip(leaves, self.batch_dims, strict=True)], spec)
        count = len(self.inputs) - len(self.keywords)
        named = dict(zip(self.keywords, inputs[count:], strict=True))
        return inputs[:count], {**named, **self.constants}


def read_example_call(model: nn.Module, args: Tensor | tuple[Any, ...],
                      kwargs: Mapping[str, Any] | None = None,
                      batch_dims: Mapping[str, int] | None = None,
                      states: Mapping[str, str] | None = None) -> ExampleCall:
    """An example call with exactly two samples per tensor.

    Args:
        model: The model, for the names of its arguments.
        args: One input, or a tuple of positional inputs.
        kwargs: Inputs by name: tensors, nested tensors, or constants (a number, a text, None).
        batch_dims: The batch's dimension, by the name of an input; 0 for all others.
        states: The input that each state output is fed back to, by names.

    Raises:
        ModelError: An input is not made of tensors with the same batch size.
        UsageError: ``batch_dims`` does not fit the inputs.
    """
    positional = args if isinstance(args, tuple) else (args,)
    given = dict(kwargs or {})
    constants = {name: value for name, value in given.items() if isinstance(value, _CONSTANTS)}
    named = {name: value for name, value in given.items() if name not in constants}
    inputs = (*positional, *named.values())
    if not batch_dims:
        return ExampleCall(make_example_batch(inputs), tuple(named), constants)
    names, leaves = name_inputs(model, inputs, tuple(named))
    dims = read_batch_dims(batch_dims, names, leaves)
    moved = [leaf.movedim(dim, 0) if dim else leaf
             for leaf, dim in zip(leaves, dims, strict=True)]
    inputs = pytree.tree_unflatten(moved, pytree.tree_structure(inputs))
    by_name = dict(zip(names, dims, strict=True))
    outputs = {output: by_name[name] for output, name in (states or {}).items()
               if by_name.get(name)}
    return ExampleCall(make_example_batch(inputs), tuple(named), constants, tuple(dims), outputs)


def read_batch_dims(given: Mapping[str, int], names: Sequence[str],
                    leaves: Sequence[Any]) -> list[int]:
    """The batch's dimension of every input tensor.

    Raises:
        UsageError: An unknown input, or one without that dimension.
    """
    dims = [0] * len(names)
    for name, dim in given.items():
        own = [at for at, found in enumerate(names) if f"{found}_".startswith(f"{name}_")]
        if not own:
            raise UsageError(f"batch_dims names the input {name!r}; the model's inputs are "
                             f"{', '.join(names)}")
        for at in own:
            rank = leaves[at].ndim if isinstance(leaves[at], Tensor) else 0
            if type(dim) is not int or not 0 <= dim < rank:
                raise UsageError(f"batch_dims[{name!r}] is {dim!r}; the input {names[at]} has "
                                 f"{rank} dimensions, counted from 0")
            dims[at] = dim
    return dims


def make_example_batch(example_inputs: Tensor | tuple[Any, ...]) -> tuple[Any, ...]:
    """Example inputs as a tuple of tensors with exactly two samples.

    With a batch of one, the export would treat the batch size as a constant.
    """
    inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    leaves = pytree.tree_leaves(inputs)
    if not leaves or not all(isinstance(leaf, Tensor) and leaf.ndim for leaf in leaves):
        kinds = ", ".join(sorted({_describe_leaf(leaf) for leaf in leaves})) or "nothing"
        raise ModelError(f"example inputs must be tensors with a batch dimension, got {kinds}")
    check_example_inputs(inputs)
    if len({leaf.shape[0] for leaf in leaves}) > 1:
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in leaves)
        raise ModelError(f"example inputs disagree on the batch size: {shapes}; the batch must be "
                         "the first dimension of every input; transpose others within the model, "
                         "or name them, such as a state of (layers, N, width): "
                         "batch_dims={'state': 1}")
    if leaves[0].shape[0] == 0:
        raise ModelError("example inputs have no sample; one is enough, its values do not matter")

    def two(leaf: Tensor) -> Tensor:
        return torch.cat([leaf[:1], leaf[-1:]]).detach().cpu().contiguous()

    with torch.inference_mode(False):
        batch: tuple[Any, ...] = pytree.tree_map(two, inputs)
    return batch


def adapt_forward(model: nn.Module, call: ExampleCall) -> None:
    """Let a model take the call's inputs by position, and return plain dicts, in place.

    The names of the arguments stay, and so they name the program's inputs.
    """
    inner = vars(model).get("forward", type(model).forward)
    is_bound = isinstance(inner, MethodType) or "forward" in vars(model)

    def forward(self: nn.Module, *inputs: Any) -> Any:
        args, kwargs = call.arguments(inputs)
        if isinstance(inner, MethodType):
            return call.results(inner.__func__(self, *args, **kwargs))
        return call.results(inner(*args, **kwargs) if is_bound else inner(self, *args, **kwargs))

    signature = _signature(model, call)
    if signature is not None:
        forward.__signature__ = signature  # type: ignore[attr-defined]
    model.forward = MethodType(forward, model)


def name_inputs(model: nn.Module, inputs: tuple[Any, ...],
                keywords: tuple[str, ...] = ()) -> tuple[list[str], list[Tensor]]:
    """The input tensors of a model, with the names that an export gives them.

    Args:
        model: The model; one that is adapted takes all inputs by position.
        inputs: Positional inputs, then those by keyword.
        keywords: Names of the last inputs.
    """
    count = len(inputs) - len(keywords)
    try:
        names = [*_positional_names(inspect.signature(model.forward), count), *keywords]
    except (TypeError, ValueError):  # forward is not a Python function
        names = [*(f"args_{number}" for number in range(count)), *keywords]
    paths = [(name, *found) for name, value in zip(names, inputs, strict=True)
             for found in pytree.tree_flatten_with_path(value)[0]]
    return ([re.sub(r"\W", "_", "_".join([name, *map(name_key, path)])) for name, path, _ in paths],
            [leaf for _, _, leaf in paths])


def _signature(model: nn.Module, call: ExampleCall) -> inspect.Signature | None:
    """The signature of the adapted forward; None if the model's cannot be read."""
    try:
        own = inspect.signature(model.forward)
    except (TypeError, ValueError):  # forward is not a Python function
        return None
    this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    if not call.keywords and not call.constants:
        return own.replace(parameters=[this, *own.parameters.values()])
    names = (*_positional_names(own, len(call.positional)), *call.keywords)
    return inspect.Signature([this.replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD), *(
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names)])


def _positional_names(signature: inspect.Signature, count: int) -> Iterable[str]:
    """Names of the first ``count`` positional arguments; those of ``*args`` are numbered."""
    names = [name for name, parameter in signature.parameters.items()
             if parameter.kind in _POSITIONAL]
    rest = next((name for name, parameter in signature.parameters.items()
                 if parameter.kind is inspect.Parameter.VAR_POSITIONAL), "args")
    numbered = (f"{rest}_{number}" for number in range(count - len(names)))
    return [*names[:count], *numbered]


def _describe_leaf(leaf: object) -> str:
    if isinstance(leaf, Tensor):
        return "a scalar Tensor" if not leaf.ndim else "Tensor"
    return f"{type(leaf).__name__}{' (torch.from_numpy)' if hasattr(leaf, '__array__') else ''}"
