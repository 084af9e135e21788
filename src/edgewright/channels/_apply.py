"""Applying a program's weights and widths to the user's module that it was captured from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.utils import _pytree as pytree

from edgewright.capture import FORWARD_ERRORS, folded_tensors, format_failure
from edgewright.channels._standard_modules import collect_sizes, size_attributes
from edgewright.errors import ModelError, UsageError
from edgewright.graph import argument, compare_outputs, stored_tensors, tolerance_of, user_location
from edgewright.program import Program, probe_inputs

aten = torch.ops.aten
_COUNTER: Final = "num_batches_tracked"
_CONSTANT_SIZE: Final = "a size is a constant in its code: compute it from the tensors there"


@final
@dataclass(frozen=True)
class Applied:
    """What `apply_to` did to a module.

    Attributes:
        resized: Names of the parameters and buffers whose shape changed.
        left: Names of tensors that are not in the program and were not changed: the forward pass in
            evaluation does not read them, or capture folded what is computed from them.
    """

    resized: tuple[str, ...]
    left: tuple[str, ...]


def apply_to(program: Program, model: nn.Module) -> Applied:
    """Apply a program's weights and widths to the model it was captured from, in place.

    Parameters and buffers are resized and overwritten. They remain the same objects, so ties are
    kept, but optimizers must be created again. Size attributes of torch's own modules
    (``in_features`` and so on) are updated. Then the model is checked to compute what the program
    does, on `probe_inputs`, within a relative error of 1e-4 (in float32).

    Args:
        program: In floating point, without early exits.
        model: The module the program was captured from, of any class, on any device.

    Returns:
        Which tensors were resized, and which are not in the program.

    Raises:
        UsageError: The program is quantized or has early exits.
        ModelError: The model is not the one that was captured, has a constant size in its code, or
            still runs a part that the program lacks. The message names it, and the model is
            unchanged.

    Example:
        >>> from edgewright.channels import find_groups, remove_channels
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> program = Program.capture(model, torch.zeros(1, 4))
        >>> groups = find_groups(program)
        >>> half = remove_channels(program, groups, groups.groups[0].channels[:4])
        >>> apply_to(half, model)
        Applied(resized=('0.weight', '0.bias', '2.weight'), left=())
        >>> model[0]
        Linear(in_features=4, out_features=4, bias=True)
    """
    if program.is_quantized or program.exits:
        what = "is quantized" if program.is_quantized else f"has {program.exits} early exits"
        raise UsageError(f"the program {what}, which the model's own code cannot represent; apply "
                         "the program from before that step")
    model_tensors, program_tensors = _tensors_of(model), stored_tensors(program.graph_module)
    _check_computed(program, program_tensors, model_tensors, type(model).__name__)
    _check_shapes(program_tensors, model_tensors, type(model).__name__)
    new = {name: _source(name, model_tensors, program_tensors) for name in model_tensors}
    resized = tuple(name for name, value in new.items()
                    if value is not None and value.shape != model_tensors[name].shape)
    counters = _batch_counters(model)
    left = tuple(name for name, value in new.items()
                 if value is None and name not in counters)
    with contextlib.ExitStack() as undo:
        _overwrite(model_tensors, new, undo)
        _update_sizes(program, model, undo)
        _check_same_function(program, model, left)
        undo.pop_all()
    return Applied(resized, left)


def _tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer, under each of its names."""
    return {**dict(model.named_parameters(remove_duplicate=False)),
            **dict(model.named_buffers(remove_duplicate=False))}


def _batch_counters(model: nn.Module) -> set[str]:
    """Names of the buffers in which norms count their batches; programs do not have them."""
    return {f"{path}.{_COUNTER}".lstrip(".")
            for path, module in model.named_modules(remove_duplicate=False)
            if isinstance(module, nn.modules.batchnorm._NormBase)}


def _source(name: str, model_tensors: dict[str, Tensor],
            program_tensors: dict[str, Tensor]) -> Tensor | None:
    """The program's tensor for one of the model's tensors, by any of its tied names."""
    if name in program_tensors:
        return program_tensors[name]
    return next((program_tensors[other] for other, tensor in model_tensors.items()
                 if tensor is model_tensors[name] and other in program_tensors), None)


def _check_computed(program: Program, program_tensors: dict[str, Tensor],
                    model_tensors: dict[str, Tensor], model: str) -> None:
    """Refuse a model whose code computes a parameter that the program stores."""
    for name, sources in folded_tensors(program.graph_module).items():
        if isinstance(program_tensors[name], nn.Parameter) and name not in model_tensors:
            raise ModelError(f"{model} has no {name}: {_computed_message(name, sources)}")


def _computed_message(name: str, sources: tuple[str, ...]) -> str:
    return (f"its code computes {name} from {_abbreviate(sources)}, and the program stores the "
            "result; store it in the model too (parametrize.remove_parametrizations, "
            "remove_weight_norm, prune.remove, a merged adapter), then apply")


def _check_shapes(program_tensors: dict[str, Tensor], model_tensors: dict[str, Tensor],
                  model: str) -> None:
    """Refuse a model that the program cannot have been captured from."""
    missing = [name for name, value in program_tensors.items()
               if isinstance(value, nn.Parameter) and name not in model_tensors]
    if missing:
        raise ModelError(f"{model} has no {_abbreviate(missing)}, but the program does; apply to "
                         "the model it was captured from, and use the program from before its "
                         "batch norms are folded")
    for name, value in program_tensors.items():
        old = model_tensors.get(name)
        if old is None:
            continue
        if old.ndim != value.ndim or any(a < b for a, b in zip(old.shape, value.shape,
                                                               strict=True)):
            raise ModelError(f"{name} is {tuple(old.shape)} in {model} and {tuple(value.shape)} "
                             "in the program, whose tensors can only be smaller; apply to the "
                             "model it was captured from")
        if old.dtype != value.dtype:
            raise ModelError(f"{name} is {old.dtype} in {model} and {value.dtype} in the program; "
                             "convert the model first")


def _overwrite(tensors: dict[str, Tensor], new: dict[str, Tensor | None],
           undo: contextlib.ExitStack) -> None:
    """Replace the data of the tensors, not the tensors, so that ties and references are kept."""
    for name, tensor in tensors.items():
        value = new[name]
        if value is None:
            continue
        undo.callback(_restore, tensor, tensor.data, tensor.grad)
        if tensor.shape != value.shape:
            tensor.grad = None
        tensor.data = value.detach().to(tensor.device, copy=True)


def _restore(tensor: Tensor, data: Tensor, gradient: Tensor | None) -> None:
    tensor.data = data
    tensor.grad = gradient


def _update_sizes(program: Program, model: nn.Module, undo: contextlib.ExitStack) -> None:
    """Update the size attributes of torch's own modules."""
    facts = collect_sizes(program.graph)
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        own: dict[str, int] = {}
        for name in facts:
            if name.startswith(prefix):
                own = {**facts[name], **own}
        for name, value in size_attributes(module, own).items():
            undo.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, value)


def _check_same_function(program: Program, model: nn.Module, left: tuple[str, ...]) -> None:
    """Check that the model computes what the program does."""
    refusal = f"the program cannot be applied to {type(model).__name__}, which was not changed"
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    probes = probe_inputs(program)
    inputs = pytree.tree_map(lambda leaf: leaf.to(device), probes)
    try:
        with _evaluation_mode(model), torch.no_grad():
            actual = model(*inputs)
    except FORWARD_ERRORS as failure:
        raise ModelError(f"{refusal}: the forward pass of {_failing_module(model, failure)} fails"
                         f"{format_failure(failure)}; "
                         + (_find_cause(program)
                            or f"{_CONSTANT_SIZE}, or name the layer in ignore when pruning")
                         ) from failure
    error = compare_outputs(program.run(*probes), actual)
    limit = tolerance_of(program.graph_module)
    if not error <= limit:
        unread = (f"the program does not read {_abbreviate(left)}: delete removed blocks from the "
                  "model's code; or " if left else "")
        raise ModelError(f"{refusal}: it would compute something else (relative error "
                         f"{error:.2e}, at most {limit:g} is allowed); "
                         + (_find_cause(program) or f"{unread}{_CONSTANT_SIZE}"))


def _find_cause(program: Program) -> str:
    """Describe what the model's code cannot represent, if it is known; else empty."""
    for node in program.calls():
        if node.target is aten.split_with_sizes.default and _is_chunk(node):
            sizes = argument(node, "split_sizes")
            equal = [len(piece) for piece in torch.empty(sum(sizes)).chunk(len(sizes))]
            if sizes != equal:
                return (f"its chunk{user_location(node)} splits into equal parts "
                        f"({_abbreviate(equal)}), but the program splits into "
                        f"{_abbreviate(sizes)}: name the layer before it in ignore when pruning, "
                        "or call split there with these sizes")
    folded = folded_tensors(program.graph_module)
    return next((_computed_message(name, sources) for name, sources in folded.items()
                 if isinstance(stored_tensors(program.graph_module)[name], nn.Parameter)), "")


def _is_chunk(node: Node) -> bool:
    """Whether the user's code made this split by a number of equal parts."""
    _, function = node.meta.get("torch_fn") or ("", "")
    return str(function).rpartition(".")[2] in ("chunk", "tensor_split", "unsafe_chunk")


@contextlib.contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode in full float32; restores the mode of every module afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.backends.cudnn.flags(enabled=False):  # its TF32 would exceed the tolerance
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def _failing_module(model: nn.Module, error: BaseException) -> str:
    """Name of the innermost user-defined module whose code was running."""
    names = {id(module): name for name, module in model.named_modules()}
    found, trace = "", error.__traceback__
    while trace is not None:
        module = trace.tb_frame.f_locals.get("self")
        if isinstance(module, nn.Module) and not type(module).__module__.startswith("torch."):
            found = names.get(id(module), found)
        trace = trace.tb_next
    return found or type(model).__name__


def _abbreviate(names: Sequence[object]) -> str:
    shown = ", ".join(map(str, names[:4]))
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown
