"""Capturing a user's `nn.Module` with `torch.export`, in evaluation mode, for any batch size."""

from __future__ import annotations

import contextlib
import keyword
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException
from torch.export import ExportedProgram, ShapesCollection
from torch.fx import GraphModule
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.utils import _pytree as pytree

from edgewright.capture._constant_folding import fold_constants, folded_tensors
from edgewright.capture._dynamic_sizes import (
    DynamicSizes,
    check_sizes,
    export_dims,
    join_equal,
    read_dynamic_sizes,
    recorded_sizes,
    suggest_step,
)
from edgewright.capture._example_call import ExampleCall, adapt_forward, name_inputs
from edgewright.capture._graph_checks import check_operators, check_outputs
from edgewright.capture._model_checks import (
    check_signature,
    check_tensors,
    unwrap_model,
)
from edgewright.capture._model_copy import copy_model
from edgewright.capture._model_state import set_model_state, state_after_folding
from edgewright.capture._mutations import copy_mutated_inputs
from edgewright.capture._prepared_models import check_not_prepared
from edgewright.capture._quiet_export import silence_export
from edgewright.capture._repeatability import check_repeatability
from edgewright.capture._training_differences import warn_training_differences
from edgewright.capture._value_reads import (
    LIBRARY_PATHS,
    InputDependentReadError,
    ReadReplayer,
    record_reads,
)
from edgewright.core import SizeRange
from edgewright.errors import ModelError
from edgewright.graph import keep_recurrent_layers_whole, record_ranges, simplify_graph

_MOMENTUM: Final = 0.1  # the default of torch.nn.BatchNorm2d
# torch.export's message about a batch size that the forward pass fixes or branches on.
_CONSTRAINT_VIOLATION: Final = re.compile(
    r"Constraints violated.*?\n\s*- (?:[^\n]*?(?:generated guard|your code) )?"
    r"([^\n]*?)\.?(?: If [^\n]*)?\n", re.S)
_VIOLATED: Final = re.compile(r"Constraints violated \(([^)]*)\)")
_OTHER_SIZE: Final = re.compile(r"L\['(\w+)'\]((?:\[[^\]]*\])*)\.size\(\)\[(\d+)\]")
_BATCH_SIZE: Final = re.compile(r"L\['\w+'\](?:\[[^\]]*\])*\.size\(\)\[0\]")
FORWARD_ERRORS: Final = (RuntimeError, ValueError, TypeError, AssertionError, LookupError,
                           AttributeError, NotImplementedError, ArithmeticError)


def capture_graph(model: nn.Module, call: ExampleCall,
                  dynamic: DynamicSizes | None = None) -> GraphModule:
    """Capture ``model`` as it runs in deployment; see `Program.capture`.

    Args:
        model: The module; it is not changed.
        call: The example call.
        dynamic: Ranges of sizes by input and dimension.

    Raises:
        ModelError: The model cannot be captured; the message names the line in the user's code.
        UsageError: ``dynamic`` does not fit the inputs.
    """
    model = unwrap_model(model)
    check_not_prepared(model)
    _refuse_keywords(model)
    check_tensors(model)
    check_signature(model, *call.arguments(call.inputs))
    model, example_inputs = copy_model(model), call.inputs
    adapt_forward(model, call)
    ranges = read_dynamic_sizes(dynamic, *name_inputs(model, example_inputs))
    _set_default_momentum(model)
    with torch.inference_mode(False), torch.enable_grad(), _disable_fast_paths():
        model = check_repeatability(model, example_inputs, FORWARD_ERRORS)
        exported = _export(model, example_inputs, ranges)
        module = extract_graph(exported)
        fold_constants(module, model)
        set_model_state(module, state_after_folding(exported, folded_tensors(module)))
        check_operators(module, type(model).__name__)
        check_outputs(module, model, example_inputs)
        check_sizes(module, model, example_inputs)
        warn_training_differences(model, module, example_inputs, FORWARD_ERRORS)
    return module


def _export(model: nn.Module, example_inputs: tuple[Any, ...],
            ranges: list[dict[int, SizeRange]]) -> ExportedProgram:
    """Export; dimensions that the model needs to be equal become one dimension."""
    while True:
        try:
            return _export_with_reads(model, example_inputs, ranges)
        except ModelError as error:
            joined = join_equal(ranges, error.__cause__ or error)
            if joined is None:
                raise
            ranges = joined


def _export_with_reads(model: nn.Module, example_inputs: tuple[Any, ...],
                       ranges: list[dict[int, SizeRange]]) -> ExportedProgram:
    """Export; if that fails at reads of constant values, export again with recorded values."""
    try:
        with silence_export():
            return _export_afresh(model, example_inputs, ranges)
    except FORWARD_ERRORS as error:
        try:
            reads = record_reads(model, example_inputs)
            if not reads.known:
                raise ModelError(_explain_failure(model, error, ranges)) from error
            with silence_export(), ReadReplayer(reads):
                return _export_afresh(model, example_inputs, ranges)
        except (*FORWARD_ERRORS, InputDependentReadError) as again:
            raise ModelError(_explain_failure(model, again, ranges)) from error


def _export_afresh(model: nn.Module, example_inputs: tuple[Any, ...],
                   ranges: list[dict[int, SizeRange]]) -> ExportedProgram:
    """Export; if torch cannot trace what it compiled before, without that.

    Calling torch.cond compiles it, and a later export fails at the compiled code.
    """
    try:
        return export_graph(model, example_inputs, ranges)
    except TorchDynamoException:
        torch._dynamo.reset()
        return export_graph(model, example_inputs, ranges)


def export_graph(module: nn.Module, example_inputs: tuple[Any, ...],
                 ranges: list[dict[int, SizeRange]] | None = None) -> ExportedProgram:
    """Export with dynamic dimensions: the batch, the first of every input tensor, and others.

    Args:
        module: A model, or a captured graph.
        example_inputs: Inputs of two samples.
        ranges: Of every input tensor, the ranges of its other dynamic dimensions; None for those
            that a captured graph has.
    """
    leaves = pytree.tree_leaves(example_inputs)
    found = recorded_sizes(module) if ranges is None else ranges
    shapes = ShapesCollection()  # type: ignore[no-untyped-call]
    for leaf, dims in zip(leaves, export_dims(found or [{}] * len(leaves)), strict=True):
        shapes[leaf] = dims  # ShapesCollection finds the argument by itself, in *args too
    dynamic_shapes = shapes.dynamic_shapes(  # type: ignore[no-untyped-call]
        module, example_inputs)
    with keep_recurrent_layers_whole():
        return torch.export.export(module, example_inputs, dynamic_shapes=dynamic_shapes)


def extract_graph(exported: ExportedProgram) -> GraphModule:
    """Turn an exported program into a graph module, without dead nodes and counters."""
    module = exported.module(check_guards=False)
    assert isinstance(module, GraphModule)  # noqa: S101  (what torch.export documents)
    record_ranges(module, exported.range_constraints)
    _register_tensors(module)
    copy_mutated_inputs(module)
    simplify_graph(module)
    return module


def _register_tensors(module: GraphModule) -> None:
    """Make every tensor that is not a parameter a persistent buffer, in place.

    A model may have non-persistent buffers, or tensors as plain attributes. A program is copied and
    stored as a value, with all of its tensors under the same names.
    """
    for owner in module.modules():
        plain = {name: value for name, value in vars(owner).items() if isinstance(value, Tensor)}
        for name in plain:
            delattr(owner, name)
        for name, value in (*owner.named_buffers(recurse=False, remove_duplicate=False),
                            *plain.items()):
            owner.register_buffer(name, value)


def _refuse_keywords(model: nn.Module) -> None:
    """Refuse tensor names that are Python keywords: graphs are run as generated Python code."""
    tensors = [name for name, _ in (*model.named_parameters(), *model.named_buffers())]
    for name in tensors:
        for part in filter(keyword.iskeyword, name.split(".")):
            raise ModelError(f"{name} cannot be captured: {part!r} is a Python keyword, and "
                             "torch.export writes the name into code; rename it")


def _set_default_momentum(model: nn.Module) -> None:
    """Let batch norms with a cumulative average use the usual moving average, in place.

    A cumulative average depends on a Python counter, which would be constant in a captured graph.
    """
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.momentum is None:
            module.momentum = _MOMENTUM


@contextlib.contextmanager
def _disable_fast_paths() -> Iterator[None]:
    """Disable the fast path of attention and the contraction planning of einsum.

    The fast path cannot be trained. Planning (if opt_einsum is installed) compares sizes, which
    would fix the batch size.
    """
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.backends.opt_einsum.flags(enabled=False):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def format_failure(error: BaseException) -> str:
    """Describe where and why a forward pass failed, as " at file:line (code): reason"."""
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()),
                  type(error).__name__)
    return f"{_format_place(error)}: {reason}"


def _format_place(error: BaseException) -> str:
    """The last line outside of torch, as " at file:line (code)"; empty if there is none."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if not frame.filename.startswith(LIBRARY_PATHS)]
    return f" at {frames[-1].filename}:{frames[-1].lineno} ({frames[-1].line})" if frames else ""


def _dimension_name(size: re.Match[str]) -> str:
    """The name of a dimension: "x_2" for "L['x'].size()[2]"."""
    return "_".join([size[1], *re.findall(r"\w+", size[2]), size[3]])


def _explain_failure(model: nn.Module, error: BaseException,
                     ranges: Sequence[Mapping[int, SizeRange]]) -> str:
    refusal = f"{type(model).__name__} cannot be captured"
    advice = suggest_step(ranges, error)
    if advice is not None:
        return f"{refusal}: {advice}"
    if isinstance(error, InputDependentReadError):
        return (f"{refusal}{format_failure(error)} a value that depends on the input, which a "
                "graph cannot do; compute both branches and select with torch.where, run one "
                "with torch.cond, or do it outside of the model")
    if isinstance(error, GuardOnDataDependentSymNode):
        return (f"{refusal}{_format_place(error)}: the size of a tensor depends on the values of "
                "the input, which a graph cannot hold; keep sizes fixed (mask with torch.where "
                "instead of selecting), and let a detector return all boxes and scores: "
                "goal='detection' applies thresholds and non-maximum suppression")
    found = _CONSTRAINT_VIOLATION.search(str(error))
    if found is not None:
        condition = _OTHER_SIZE.sub(_dimension_name, _BATCH_SIZE.sub("batch", found[1]))
        names = [name for name in _VIOLATED.findall(str(error))[0].split(", ") if name != "batch"]
        if names:
            return (f"{refusal}: its forward pass does not accept every size that dynamic allows "
                    f"for {', '.join(names)} ({condition}); narrow the range, or read sizes from "
                    "the tensors (x.shape) and do not branch on them")
        return (f"{refusal}: its forward pass does not accept every batch size ({condition}); read "
                "sizes from the tensors (x.shape[0]) instead of using constants, and do not branch "
                "on them")
    return (f"{refusal}{format_failure(error)}; "
            "torch.export must be able to trace the forward pass for any batch size")
