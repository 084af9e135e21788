"""The example call that a model is captured with: positional and keyword inputs, and constants."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, MethodType
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from edgewright.capture._model_checks import check_example_inputs
from edgewright.capture._plain_outputs import as_plain
from edgewright.errors import ModelError

_CONSTANTS: Final = (bool, int, float, str, type(None))
_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@final
@dataclass(frozen=True)
class ExampleCall:
    """A call of a model with two samples.

    Attributes:
        inputs: The program's inputs: the positional ones, then those passed by keyword.
        keywords: Names of the last inputs, in order: those passed by keyword.
        constants: Keyword arguments that are not tensors, and are fixed in the program.
    """

    inputs: tuple[Any, ...]
    keywords: tuple[str, ...] = ()
    constants: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def positional(self) -> tuple[Any, ...]:
        """The positional inputs."""
        return self.inputs[:len(self.inputs) - len(self.keywords)]

    def arguments(self, inputs: tuple[Any, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments and keyword arguments of a call of the model with these inputs.

        Example:
            >>> ExampleCall(("a", "b"), ("mask",), {"cache": False}).arguments((1, 2))
            ((1,), {'mask': 2, 'cache': False})
        """
        count = len(self.inputs) - len(self.keywords)
        named = dict(zip(self.keywords, inputs[count:], strict=True))
        return inputs[:count], {**named, **self.constants}


def read_example_call(args: Tensor | tuple[Any, ...],
                      kwargs: Mapping[str, Any] | None = None) -> ExampleCall:
    """An example call with exactly two samples per tensor.

    Args:
        args: One input, or a tuple of positional inputs.
        kwargs: Inputs by name: tensors, nested tensors, or constants (a number, a text, None).

    Raises:
        ModelError: An input is not made of tensors with the same batch size.
    """
    positional = args if isinstance(args, tuple) else (args,)
    given = dict(kwargs or {})
    constants = {name: value for name, value in given.items() if isinstance(value, _CONSTANTS)}
    named = {name: value for name, value in given.items() if name not in constants}
    inputs = make_example_batch((*positional, *named.values()))
    return ExampleCall(inputs, tuple(named), constants)


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
                         "the first dimension of every input (transpose others within the model, "
                         "for example a state of (layers, N, width))")
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
            return as_plain(inner.__func__(self, *args, **kwargs))
        return as_plain(inner(*args, **kwargs) if is_bound else inner(self, *args, **kwargs))

    signature = _signature(model, call)
    if signature is not None:
        forward.__signature__ = signature  # type: ignore[attr-defined]
    model.forward = MethodType(forward, model)


def name_inputs(model: nn.Module, inputs: tuple[Any, ...]) -> tuple[list[str], list[Tensor]]:
    """The input tensors of an adapted model, with the names that an export gives them."""
    try:
        names = list(_positional_names(inspect.signature(model.forward), len(inputs)))
    except (TypeError, ValueError):  # forward is not a Python function
        names = [f"args_{number}" for number in range(len(inputs))]
    paths = [(name, *found) for name, value in zip(names, inputs, strict=True)
             for found in pytree.tree_flatten_with_path(value)[0]]
    return ([re.sub(r"\W", "_", "_".join([name, *map(_key, path)])) for name, path, _ in paths],
            [leaf for _, _, leaf in paths])


def _key(entry: Any) -> str:
    return str(getattr(entry, "key", getattr(entry, "idx", getattr(entry, "name", entry))))


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
