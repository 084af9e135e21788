"""Checks of a model and its example inputs before capture."""

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


def unwrap_model(model: object) -> nn.Module:
    """Remove wrappers for data-parallel training and `torch.compile` from a model.

    Raises:
        ModelError: ``model`` is not a module, or its Python code is not available.
    """
    while isinstance(model, (*_WRAPPERS, OptimizedModule)):
        model = model._orig_mod if isinstance(model, OptimizedModule) else model.module
    if not isinstance(model, nn.Module):
        raise ModelError(f"{_describe(model)}; pass the torch.nn.Module itself")
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise ModelError(f"{_module_label(name)} is a TorchScript module, which only has "
                             "compiled code; pass the nn.Module that was scripted or traced")
        if isinstance(module, _StatefulGraphModule):
            raise ModelError(f"{_module_label(name)} is the module of an ExportedProgram, with "
                             "fixed mode and sizes; pass the nn.Module that was exported")
        if type(module).__module__.startswith(_QUANTIZED_MODULES):
            raise ModelError(f"{_module_label(name)} is a quantized {type(module).__name__}; pass "
                             "the model from before it was quantized")
    return model


def check_tensors(model: nn.Module) -> None:
    """Check that every parameter and buffer of a model is a dense float32, integer or bool tensor.

    Raises:
        ModelError: One is not; the message names the first and says what to do.
    """
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise ModelError(f"{name} has no shape yet; run the model once, so that its lazy "
                             "modules infer their shapes from an input")
        if tensor.is_meta or isinstance(tensor, FakeTensor):
            raise ModelError(f"{name} is on the meta device and has no values; build the model "
                             "on the CPU and load its weights")
        if tensor.is_quantized or is_traceable_wrapper_subclass(tensor):
            kind = dtype_name(tensor.dtype) if tensor.is_quantized else type(tensor).__name__
            raise ModelError(f"{name} is not a plain tensor but {kind}; pass the model from before "
                             "it was quantized or distributed")
        if tensor.layout is not torch.strided:
            raise ModelError(f"{name} is stored as {tensor.layout}; call .to_dense() on it first")
        if not is_supported_dtype(tensor.dtype):
            remedy = ("split it into a real and an imaginary part" if tensor.is_complex() else
                      "call model.float() first, and pass float32 inputs")
            raise ModelError(f"the weight {name} is {dtype_name(tensor.dtype)}; Edgewright "
                             f"computes in float32: {remedy}")


def check_example_inputs(example_inputs: tuple[Any, ...]) -> None:
    """Check that inputs are dense float32, integer or bool tensors.

    Raises:
        ModelError: One is not; the message names the input and its type.
    """
    for position, leaf in enumerate(pytree.tree_leaves(example_inputs)):
        if leaf.is_meta or isinstance(leaf, FakeTensor) or leaf.layout is not torch.strided:
            raise ModelError(f"example input {position} is a {dtype_name(leaf.layout)} tensor on "
                             f"{leaf.device}; pass a dense tensor with values")
        if not is_supported_dtype(leaf.dtype):
            remedy = ("pass its real and imaginary part as two channels" if leaf.is_complex() else
                      "call .float() on it")
            raise ModelError(f"example input {position} is {dtype_name(leaf.dtype)}; Edgewright "
                             f"computes in float32: {remedy}")


def check_signature(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Check that a model's forward pass accepts the example inputs.

    Raises:
        ModelError: It does not; the message has its signature.
    """
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):  # forward is not a Python function
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        keyword_only = [name for name, parameter in signature.parameters.items()
                        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name not in kwargs]
        remedy = (f"{', '.join(keyword_only)} can only be passed by name: kwargs="
                  f"{{{keyword_only[0]!r}: ...}}" if keyword_only
                  else "pass one example per input, as a tuple, or by name in kwargs")
        named = f" and {', '.join(kwargs)}" if kwargs else ""
        raise ModelError(f"{type(model).__name__} cannot be captured: its forward takes "
                         f"{signature}, and {len(args)} positional inputs{named} were given: "
                         f"{error}; {remedy}") from error


def is_supported_dtype(dtype: torch.dtype) -> bool:
    """Whether programs support a dtype: float32, integers and bool."""
    return dtype == torch.float32 or not (dtype.is_floating_point or dtype.is_complex)


def dtype_name(dtype: torch.dtype | torch.layout) -> str:
    """Name of a dtype or layout, without "torch."."""
    return str(dtype).removeprefix("torch.")


def _describe(model: object) -> str:
    """Describe what was passed instead of a module, and what to do with it."""
    if isinstance(model, type):
        name = model.__name__
        return f"the model is the class {name}, not an instance of it: {name}(...)"
    if isinstance(model, ExportedProgram):
        return "the model is an ExportedProgram, which has no Python code"
    if isinstance(model, Mapping):
        kind = "a state dict" if all(isinstance(v, Tensor) for v in model.values()) else "a dict"
        return (f"the model is {kind} of {len(model)} entries, without code; build the model and "
                "call its load_state_dict")
    if isinstance(model, str | bytes) or hasattr(model, "__fspath__"):
        return f"the model is the path {str(model)!r}; load it first (Program.load, torch.load)"
    if model is None:
        return "the model is None; the function that builds it may lack a return statement"
    return f"the model is a {type(model).__name__}"


def _module_label(name: str) -> str:
    return f"the submodule {name}" if name else "the model"
