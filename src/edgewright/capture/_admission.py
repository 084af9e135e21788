"""What can be captured: everything else is refused by name before any work is done."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch._dynamo import OptimizedModule
from torch._subclasses import FakeTensor
from torch.export import ExportedProgram
from torch.export._unlift import _StatefulGraphModule
from torch.nn.parameter import is_lazy
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from edgewright.errors import ModelError

_QUANTIZED_MODULES: Final = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized")
_WRAPPERS: Final = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def unwrapped(model: object) -> nn.Module:
    """The module that a user means: without what trains it in parallel or compiles it.

    Raises:
        ModelError: Something that is no module, or one whose Python code is gone.
    """
    while isinstance(model, (*_WRAPPERS, OptimizedModule)):
        model = model._orig_mod if isinstance(model, OptimizedModule) else model.module
    if not isinstance(model, nn.Module):
        raise ModelError(f"{_described(model)}; give the torch.nn.Module itself")
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise ModelError(f"{_place(name)} is a TorchScript module, of which only compiled code "
                             "is left; give the nn.Module that was scripted or traced")
        if isinstance(module, _StatefulGraphModule):
            raise ModelError(f"{_place(name)} is the module of an ExportedProgram, fixed in mode "
                             "and sizes; give the nn.Module that was exported")
        if type(module).__module__.startswith(_QUANTIZED_MODULES):
            raise ModelError(f"{_place(name)} is a quantized {type(module).__name__}; give the "
                             "model from before it was quantized")
    return model


def check_tensors(model: nn.Module) -> None:
    """See that every parameter and buffer of a model holds plain float32 values, or integers.

    Raises:
        ModelError: Names the first that does not, and what to do.
    """
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise ModelError(f"{name} has no shape yet; run the model once, so that its lazy "
                             "modules take their shapes from an input")
        if tensor.is_meta or isinstance(tensor, FakeTensor):
            raise ModelError(f"{name} is on the meta device and holds no values; build the model "
                             "on the CPU and load its weights")
        if tensor.is_quantized or is_traceable_wrapper_subclass(tensor):
            kind = plain(tensor.dtype) if tensor.is_quantized else type(tensor).__name__
            raise ModelError(f"{name} is no plain tensor but {kind}; give the model from before it "
                             "was quantized or distributed")
        if tensor.layout is not torch.strided:
            raise ModelError(f"{name} is stored as {tensor.layout}; call .to_dense() on it first")
        if not is_computable(tensor.dtype):
            remedy = ("split it into a real and an imaginary part" if tensor.is_complex() else
                      "call model.float() first, and give float32 inputs")
            raise ModelError(f"the weight {name} is {plain(tensor.dtype)}; Edgewright computes in "
                             f"float32: {remedy}")


def check_inputs(example_inputs: tuple[Any, ...]) -> None:
    """See that inputs are float32, integers or truth values.

    Raises:
        ModelError: Names the input and its type.
    """
    for position, leaf in enumerate(pytree.tree_leaves(example_inputs)):
        if leaf.is_meta or isinstance(leaf, FakeTensor) or leaf.layout is not torch.strided:
            raise ModelError(f"example input {position} is a {plain(leaf.layout)} tensor on "
                             f"{leaf.device}; give a dense one that holds values")
        if not is_computable(leaf.dtype):
            remedy = ("give its real and imaginary part as two channels" if leaf.is_complex() else
                      "call .float() on it")
            raise ModelError(f"example input {position} is {plain(leaf.dtype)}; Edgewright "
                             f"computes in float32: {remedy}")


def check_signature(model: nn.Module, example_inputs: tuple[Any, ...]) -> None:
    """See that a model's forward pass takes as many positional inputs as there are.

    Raises:
        ModelError: Says what it takes.
    """
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):  # a forward pass that is no Python function
        return
    try:
        signature.bind(*example_inputs)
    except TypeError as error:
        keyword_only = [name for name, parameter in signature.parameters.items()
                        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_KEYWORD)]
        remedy = (f"inputs are positional, and {', '.join(keyword_only)} can only be given by "
                  "name: wrap the model in one whose forward takes them in order"
                  if keyword_only else "give one example for each input, as a tuple")
        raise ModelError(f"{type(model).__name__} cannot be captured: its forward takes "
                         f"{signature}, and {len(example_inputs)} positional inputs were given: "
                         f"{error}; {remedy}") from error


def is_computable(dtype: torch.dtype) -> bool:
    """Whether programs compute in a type: float32, and the integers and truth values beside it."""
    return dtype == torch.float32 or not (dtype.is_floating_point or dtype.is_complex)


def plain(dtype: torch.dtype | torch.layout) -> str:
    """A type's name without the module it is in."""
    return str(dtype).removeprefix("torch.")


def _described(model: object) -> str:
    """What was given in the place of a module, and what to do with it."""
    if isinstance(model, type):
        name = model.__name__
        return f"the model is the class {name}, not an instance of it: {name}(...)"
    if isinstance(model, ExportedProgram):
        return "the model is an ExportedProgram, whose Python code is gone"
    if isinstance(model, Mapping):
        holds = "a state dict" if all(isinstance(v, Tensor) for v in model.values()) else "a dict"
        return (f"the model is {holds} of {len(model)} entries, which does not say what to "
                "compute; build the model and call its load_state_dict")
    if isinstance(model, str | bytes) or hasattr(model, "__fspath__"):
        return f"the model is the path {str(model)!r}; load it first (Program.load, torch.load)"
    if model is None:
        return "the model is None; a function that builds it may lack its return"
    return f"the model is a {type(model).__name__}"


def _place(name: str) -> str:
    return f"the submodule {name}" if name else "the model"
