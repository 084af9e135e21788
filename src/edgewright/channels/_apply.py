"""Back to the user's own code: a program's weights and widths, put into the module it came from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.utils import _pytree as pytree

from edgewright.capture import FORWARD_FAILURES, failing_line, folded_tensors
from edgewright.channels._standard_modules import facts_of, written_sizes
from edgewright.errors import ModelError, UsageError
from edgewright.graph import argument, compare_outputs, stored_tensors, tolerance_of, user_location
from edgewright.program import Program, probe_inputs

aten = torch.ops.aten
_COUNTER: Final = "num_batches_tracked"
_WRITTEN_SIZE: Final = "a size is written into its code: compute it from the tensors there"


@final
@dataclass(frozen=True)
class Applied:
    """What `apply_to` did to a module.

    Attributes:
        resized: Names of the parameters and buffers that have another shape now.
        left: Names of those the program does not hold, left as they were: nothing in the forward
            pass of evaluation reads them, or capture stored what is computed from them.
    """

    resized: tuple[str, ...]
    left: tuple[str, ...]


def apply_to(program: Program, model: nn.Module) -> Applied:
    """Put a program's weights and widths into the model it was captured from, in place.

    Parameters and buffers are resized and overwritten, keeping their identity (so ties last, but an
    optimizer has to be built anew), and the sizes that torch's own modules note down are brought up
    to date. Then the model has to compute what the program does, on `probe_inputs`, to a relative
    error of 1e-4 (in float32).

    Args:
        program: In floating point, without early exits.
        model: The module the program was captured from, of any class, on any device.

    Returns:
        Which tensors were resized, and which the program does not hold.

    Raises:
        UsageError: The program is quantized or has early exits.
        ModelError: The model is another one, has a size written into its code, or still runs what
            the program lacks; it is named, and the model is as it was before.

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
        what = "is quantised" if program.is_quantized else f"has {program.exits} early exits"
        raise UsageError(f"the program {what}, which the model's own code has no place for; apply "
                         "the program from before that")
    theirs, ours = _tensors_of(model), stored_tensors(program.graph_module)
    _check_computed(program, ours, theirs, type(model).__name__)
    _check_fits(ours, theirs, type(model).__name__)
    new = {name: _source(name, theirs, ours) for name in theirs}
    resized = tuple(name for name, value in new.items()
                    if value is not None and value.shape != theirs[name].shape)
    counters = _counters_of(model)
    left = tuple(name for name, value in new.items()
                 if value is None and name not in counters)
    with contextlib.ExitStack() as undo:
        _write(theirs, new, undo)
        _note_sizes(program, model, undo)
        _prove(program, model, left)
        undo.pop_all()
    return Applied(resized, left)


def _tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer, under each of its names."""
    return {**dict(model.named_parameters(remove_duplicate=False)),
            **dict(model.named_buffers(remove_duplicate=False))}


def _counters_of(model: nn.Module) -> set[str]:
    """Names of the buffers in which norms count their batches; no program has them."""
    return {f"{path}.{_COUNTER}".lstrip(".")
            for path, module in model.named_modules(remove_duplicate=False)
            if isinstance(module, nn.modules.batchnorm._NormBase)}


def _source(name: str, theirs: dict[str, Tensor], ours: dict[str, Tensor]) -> Tensor | None:
    """The program's tensor for one of the model's, by any name it is tied to."""
    if name in ours:
        return ours[name]
    return next((ours[other] for other, tensor in theirs.items()
                 if tensor is theirs[name] and other in ours), None)


def _check_computed(program: Program, ours: dict[str, Tensor], theirs: dict[str, Tensor],
                    model: str) -> None:
    """Refuse a model whose code computes what the program stores, where it has no such tensor."""
    for name, sources in folded_tensors(program.graph_module).items():
        if isinstance(ours[name], nn.Parameter) and name not in theirs:
            raise ModelError(f"{model} has no {name}: {_computed(name, sources)}")


def _computed(name: str, sources: tuple[str, ...]) -> str:
    return (f"its code computes {name} from {_listed(sources)}, and the program holds the result; "
            "let the model hold it too (parametrize.remove_parametrizations, remove_weight_norm, "
            "prune.remove, a merged adapter), then apply")


def _check_fits(ours: dict[str, Tensor], theirs: dict[str, Tensor], model: str) -> None:
    """Refuse a model the program cannot have come from."""
    missing = [name for name, value in ours.items()
               if isinstance(value, nn.Parameter) and name not in theirs]
    if missing:
        raise ModelError(f"{model} has no {_listed(missing)}, which the program holds; apply to "
                         "the model it was captured from, and the program from before its batch "
                         "norms are folded")
    for name, value in ours.items():
        old = theirs.get(name)
        if old is None:
            continue
        if old.ndim != value.ndim or any(a < b for a, b in zip(old.shape, value.shape,
                                                               strict=True)):
            raise ModelError(f"{name} is {tuple(old.shape)} in {model} and {tuple(value.shape)} "
                             "in the program, which can only be smaller; apply to the model it "
                             "was captured from")
        if old.dtype != value.dtype:
            raise ModelError(f"{name} is {old.dtype} in {model} and {value.dtype} in the program; "
                             "convert the model first")


def _write(tensors: dict[str, Tensor], new: dict[str, Tensor | None],
           undo: contextlib.ExitStack) -> None:
    """Replace what the tensors hold, and not the tensors, so that ties and references last."""
    for name, tensor in tensors.items():
        value = new[name]
        if value is None:
            continue
        undo.callback(_put_back, tensor, tensor.data, tensor.grad)
        if tensor.shape != value.shape:
            tensor.grad = None
        tensor.data = value.detach().to(tensor.device, copy=True)


def _put_back(tensor: Tensor, data: Tensor, gradient: Tensor | None) -> None:
    tensor.data = data
    tensor.grad = gradient


def _note_sizes(program: Program, model: nn.Module, undo: contextlib.ExitStack) -> None:
    """Bring the sizes that standard modules note down up to date."""
    facts = facts_of(program.graph)
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        own: dict[str, int] = {}
        for name in facts:
            if name.startswith(prefix):
                own = {**facts[name], **own}
        for name, value in written_sizes(module, own).items():
            undo.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, value)


def _prove(program: Program, model: nn.Module, left: tuple[str, ...]) -> None:
    """See that the model computes what the program does."""
    refusal = f"the program cannot be applied to {type(model).__name__}, which was left as it was"
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    probes = probe_inputs(program)
    inputs = pytree.tree_map(lambda leaf: leaf.to(device), probes)
    try:
        with _evaluation(model), torch.no_grad():
            have = model(*inputs)
    except FORWARD_FAILURES as failure:
        raise ModelError(f"{refusal}: the forward pass of {_failing_module(model, failure)} fails"
                         f"{failing_line(failure)}; "
                         + (_cause(program) or f"{_WRITTEN_SIZE}, or name the layer in ignore "
                                               "when pruning")) from failure
    error, limit = compare_outputs(program.run(*probes), have), tolerance_of(program.graph_module)
    if not error <= limit:
        unread = (f"the program does not read {_listed(left)}: take removed blocks out of its "
                  "code; or " if left else "")
        raise ModelError(f"{refusal}: it would compute something else (relative error "
                         f"{error:.2e}, at most {limit:g} is allowed); "
                         + (_cause(program) or f"{unread}{_WRITTEN_SIZE}"))


def _cause(program: Program) -> str:
    """What the program has that the model's code has no place for, where that is known."""
    for node in program.calls():
        if node.target is aten.split_with_sizes.default and _is_chunk(node):
            sizes = argument(node, "split_sizes")
            equal = [len(piece) for piece in torch.empty(sum(sizes)).chunk(len(sizes))]
            if sizes != equal:
                return (f"its chunk{user_location(node)} cuts into equal pieces "
                        f"({_listed(equal)}) what the program cuts into {_listed(sizes)}: name "
                        "the layer before it in ignore when pruning, or call split there with "
                        "these sizes")
    folded = folded_tensors(program.graph_module)
    return next((_computed(name, sources) for name, sources in folded.items()
                 if isinstance(stored_tensors(program.graph_module)[name], nn.Parameter)), "")


def _is_chunk(node: Node) -> bool:
    """Whether the user's code called this cut by a number of equal pieces."""
    _, function = node.meta.get("torch_fn") or ("", "")
    return str(function).rpartition(".")[2] in ("chunk", "tensor_split", "unsafe_chunk")


@contextlib.contextmanager
def _evaluation(model: nn.Module) -> Iterator[None]:
    """Evaluation mode in full float32, and afterwards for every module the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.backends.cudnn.flags(enabled=False):  # its TF32 would exceed the tolerance
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def _failing_module(model: nn.Module, error: BaseException) -> str:
    """The innermost module of the user's whose code was running."""
    names = {id(module): name for name, module in model.named_modules()}
    found, trace = "", error.__traceback__
    while trace is not None:
        module = trace.tb_frame.f_locals.get("self")
        if isinstance(module, nn.Module) and not type(module).__module__.startswith("torch."):
            found = names.get(id(module), found)
        trace = trace.tb_next
    return found or type(model).__name__


def _listed(names: Sequence[object]) -> str:
    shown = ", ".join(map(str, names[:4]))
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown
