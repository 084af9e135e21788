"""From a user's `nn.Module` to a graph: `torch.export` in evaluation form, any batch size."""

from __future__ import annotations

import contextlib
import keyword
import re
import traceback
from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, ShapesCollection
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from edgewright.capture._admission import check_inputs, check_signature, check_tensors, unwrapped
from edgewright.capture._capture_check import check_operators, check_outputs
from edgewright.capture._constant_folding import fold_constants, folded_tensors
from edgewright.capture._model_copy import copy_model
from edgewright.capture._model_state import note_model_state, state_after_folding
from edgewright.capture._mutations import settle_writes
from edgewright.capture._prepared_models import check_unprepared
from edgewright.capture._quiet_export import quiet_export
from edgewright.capture._repeats import repeatable
from edgewright.capture._training_intent import tell_lost_training
from edgewright.capture._value_reads import (
    NOT_THE_USERS,
    ReplayReads,
    ValueOfInputError,
    record_reads,
)
from edgewright.errors import ModelError
from edgewright.graph import simplify_graph

_MOMENTUM: Final = 0.1  # the default of torch.nn.BatchNorm2d
# What torch.export says of a batch size that a forward pass fixes or branches on, and its name.
_VIOLATION: Final = re.compile(
    r"Constraints violated.*?\n\s*- (?:[^\n]*?(?:generated guard|your code) )?"
    r"([^\n]*?)\.?(?: If [^\n]*)?\n", re.S)
_BATCH_SIZE: Final = re.compile(r"L\['\w+'\](?:\[[^\]]*\])*\.size\(\)\[0\]")
FORWARD_FAILURES: Final = (RuntimeError, ValueError, TypeError, AssertionError, LookupError,
                           AttributeError, NotImplementedError, ArithmeticError)


def example_batch(example_inputs: Tensor | tuple[Any, ...]) -> tuple[Any, ...]:
    """Example inputs as a tuple whose tensors hold exactly two samples.

    Two, because a batch of one would be taken for a constant by the export.
    """
    inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    leaves = pytree.tree_leaves(inputs)
    if not leaves or not all(isinstance(leaf, Tensor) and leaf.ndim for leaf in leaves):
        kinds = ", ".join(sorted({_kind(leaf) for leaf in leaves})) or "nothing"
        raise ModelError(f"example inputs must be tensors with a batch dimension, got {kinds}")
    check_inputs(inputs)
    if len({leaf.shape[0] for leaf in leaves}) > 1:
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in leaves)
        raise ModelError(f"example inputs disagree on the batch size: {shapes}; the batch comes "
                         "first in every input (transpose within the model what has it elsewhere, "
                         "such as a state of (layers, N, width))")
    if leaves[0].shape[0] == 0:
        raise ModelError("example inputs hold no sample; one is enough, its values do not matter")

    def two(leaf: Tensor) -> Tensor:
        return torch.cat([leaf[:1], leaf[-1:]]).detach().cpu().contiguous()

    with torch.inference_mode(False):
        batch: tuple[Any, ...] = pytree.tree_map(two, inputs)
    return batch


def _kind(leaf: object) -> str:
    if isinstance(leaf, Tensor):
        return "a number as Tensor" if not leaf.ndim else "Tensor"
    return f"{type(leaf).__name__}{' (torch.from_numpy)' if hasattr(leaf, '__array__') else ''}"


def capture_graph(model: nn.Module, example_inputs: tuple[Any, ...]) -> GraphModule:
    """Capture ``model`` as it runs in deployment; see `Program.capture`.

    Raises:
        ModelError: The model cannot be captured; the message names the user's line.
    """
    model = unwrapped(model)
    check_unprepared(model)
    _refuse_keywords(model)
    check_tensors(model)
    check_signature(model, example_inputs)
    model = copy_model(model)
    _give_momentum(model)
    with torch.inference_mode(False), torch.enable_grad(), _plain_operators():
        model = repeatable(model, example_inputs, FORWARD_FAILURES)
        exported = _exported(model, example_inputs)
        module = graph_of(exported)
        fold_constants(module, model)
        note_model_state(module, state_after_folding(exported, folded_tensors(module)))
        check_operators(module, type(model).__name__)
        check_outputs(module, model, example_inputs)
        tell_lost_training(model, module, example_inputs, FORWARD_FAILURES)
    return module


def _exported(model: nn.Module, example_inputs: tuple[Any, ...]) -> ExportedProgram:
    """Export; where a value is read that depends on no input, once more with that value."""
    try:
        with quiet_export():
            return export_graph(model, example_inputs)
    except FORWARD_FAILURES as error:
        try:
            reads = record_reads(model, example_inputs)
            if not reads.known:
                raise ModelError(_explain(model, error)) from error
            with quiet_export(), ReplayReads(reads):
                return export_graph(model, example_inputs)
        except (*FORWARD_FAILURES, ValueOfInputError) as again:
            raise ModelError(_explain(model, again)) from error


def export_graph(module: nn.Module, example_inputs: tuple[Any, ...]) -> ExportedProgram:
    """Export with one dynamic batch dimension, the first of every input tensor."""
    batch = Dim("batch", min=1)
    shapes = ShapesCollection()  # type: ignore[no-untyped-call]
    for leaf in pytree.tree_leaves(example_inputs):
        shapes[leaf] = {0: batch}  # finds its place by itself, in *args too
    dynamic_shapes = shapes.dynamic_shapes(  # type: ignore[no-untyped-call]
        module, example_inputs)
    return torch.export.export(module, example_inputs, dynamic_shapes=dynamic_shapes)


def graph_of(exported: ExportedProgram) -> GraphModule:
    """The exported program as a graph module, without dead nodes and counters."""
    module = exported.module(check_guards=False)
    assert isinstance(module, GraphModule)  # noqa: S101  (what torch.export documents)
    _register_tensors(module)
    settle_writes(module)
    simplify_graph(module)
    return module


def _register_tensors(module: GraphModule) -> None:
    """Make every tensor that is no parameter a persistent buffer, in place.

    A model may keep one out of its state dict, or as a plain attribute. A program is a value that
    is copied and stored, with all of its tensors under the same names.
    """
    for owner in module.modules():
        plain = {name: value for name, value in vars(owner).items() if isinstance(value, Tensor)}
        for name in plain:
            delattr(owner, name)
        for name, value in (*owner.named_buffers(recurse=False, remove_duplicate=False),
                            *plain.items()):
            owner.register_buffer(name, value)


def _refuse_keywords(model: nn.Module) -> None:
    """A graph is run as Python code, which reads every tensor by its name."""
    tensors = [name for name, _ in (*model.named_parameters(), *model.named_buffers())]
    for name in tensors:
        for part in filter(keyword.iskeyword, name.split(".")):
            raise ModelError(f"{name} cannot be captured: {part!r} is a keyword of Python, and "
                             "torch.export writes the name into code; call it otherwise")


def _give_momentum(model: nn.Module) -> None:
    """Let batch norms that average over all batches use the usual moving average.

    A cumulative average depends on a counter in Python; captured, it would never move.
    """
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.momentum is None:
            module.momentum = _MOMENTUM


@contextlib.contextmanager
def _plain_operators() -> Iterator[None]:
    """Keep attention out of its fused, untrainable fast path, and products out of planned orders.

    A plan for `einsum` (where opt_einsum is installed) compares sizes, and so fixes the batch.
    """
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.backends.opt_einsum.flags(enabled=False):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def failing_line(error: BaseException) -> str:
    """Where in the user's code a forward pass failed, as " at file:line (code)", and why."""
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()),
                  type(error).__name__)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if not frame.filename.startswith(NOT_THE_USERS)]
    where = f" at {frames[-1].filename}:{frames[-1].lineno} ({frames[-1].line})" if frames else ""
    return f"{where}: {reason}"


def _explain(model: nn.Module, error: BaseException) -> str:
    refusal = f"{type(model).__name__} cannot be captured"
    if isinstance(error, ValueOfInputError):
        return (f"{refusal}{failing_line(error)} a value that depends on the input, which a graph "
                "cannot; compute both ways and choose with torch.where, or do it outside of the "
                "model")
    found = _VIOLATION.search(str(error))
    if found is not None:
        condition = _BATCH_SIZE.sub("batch", found[1])
        return (f"{refusal}: its forward pass does not take every batch size ({condition}); read "
                "sizes from the tensors (x.shape[0]) in place of numbers, and branch on none of "
                "them")
    return (f"{refusal}{failing_line(error)}; "
            "torch.export must be able to trace the forward pass for any batch size")
