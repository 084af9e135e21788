"""From a user's `nn.Module` to a graph: `torch.export` in evaluation form, any batch size."""

from __future__ import annotations

import contextlib
import copy
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, ShapesCollection
from torch.fx import GraphModule
from torch.nn.modules import transformer
from torch.utils import _pytree as pytree

from edgewright.errors import ModelError
from edgewright.program._tidy import tidy

_MOMENTUM: Final = 0.1  # the default of torch.nn.BatchNorm2d
_NOT_THE_USERS: Final = (str(Path(torch.__file__).parent), str(Path(__file__).parent), "<")
FORWARD_FAILURES: Final = (RuntimeError, ValueError, TypeError, AssertionError, LookupError,
                           AttributeError, NotImplementedError, ArithmeticError)


def example_batch(example_inputs: Tensor | tuple[Any, ...]) -> tuple[Any, ...]:
    """Example inputs as a tuple whose tensors hold exactly two samples.

    Two, because a batch of one would be taken for a constant by the export.
    """
    inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    leaves = pytree.tree_leaves(inputs)
    if not leaves or not all(isinstance(leaf, Tensor) and leaf.ndim for leaf in leaves):
        kinds = ", ".join(sorted({type(leaf).__name__ for leaf in leaves})) or "nothing"
        raise ModelError(f"example inputs must be tensors with a batch dimension, got {kinds}")
    if len({leaf.shape[0] for leaf in leaves}) > 1:
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in leaves)
        raise ModelError(f"example inputs disagree on the batch size: {shapes}")
    if leaves[0].shape[0] == 0:
        raise ModelError("example inputs hold no sample; one is enough, its values do not matter")

    def two(leaf: Tensor) -> Tensor:
        return torch.cat([leaf[:1], leaf[-1:]]).detach().cpu().contiguous()

    batch: tuple[Any, ...] = pytree.tree_map(two, inputs)
    return batch


def capture_graph(model: nn.Module, example_inputs: tuple[Any, ...]) -> GraphModule:
    """Capture ``model`` as it runs in deployment; see `Program.capture`.

    Raises:
        ModelError: The model cannot be captured; the message names the user's line.
    """
    model = copy.deepcopy(model).cpu().eval()
    _give_momentum(model)
    try:
        with _plain_attention():
            exported = export_graph(model, example_inputs)
    except FORWARD_FAILURES as error:
        raise ModelError(_explain(model, error)) from error
    return graph_of(exported)


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
    _register_constants(module)
    tidy(module)
    return module


def _register_constants(module: GraphModule) -> None:
    """Make buffers of tensors that are plain attributes, as every copy of the graph would."""
    for owner in module.modules():
        constants = {name: value for name, value in vars(owner).items()
                     if isinstance(value, Tensor)}
        for name, value in constants.items():
            delattr(owner, name)
            owner.register_buffer(name, value)


def _give_momentum(model: nn.Module) -> None:
    """Let batch norms that average over all batches use the usual moving average.

    A cumulative average depends on a counter in Python; captured, it would never move.
    """
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.momentum is None:
            module.momentum = _MOMENTUM


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    """Keep evaluation-mode attention out of its fused, untrainable fast path.

    Transformers look at a mask's numbers for whether it is causal, as a hint for that path; no
    graph can be captured through the question, and the mask is applied whatever the answer.
    """
    enabled, looks = torch.backends.mha.get_fastpath_enabled(), transformer._detect_is_causal_mask
    torch.backends.mha.set_fastpath_enabled(False)
    transformer._detect_is_causal_mask = _told_to_be_causal
    try:
        yield
    finally:
        transformer._detect_is_causal_mask = looks
        torch.backends.mha.set_fastpath_enabled(enabled)


def _told_to_be_causal(mask: Tensor | None, is_causal: bool | None = None,
                       size: int | None = None) -> bool:
    del mask, size
    return bool(is_causal)


def failing_line(error: BaseException) -> str:
    """Where in the user's code a forward pass failed, as " at file:line (code)", and why."""
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()),
                  type(error).__name__)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if not frame.filename.startswith(_NOT_THE_USERS)]
    where = f" at {frames[-1].filename}:{frames[-1].lineno} ({frames[-1].line})" if frames else ""
    return f"{where}: {reason}"


def _explain(model: nn.Module, error: BaseException) -> str:
    return (f"{type(model).__name__} cannot be captured{failing_line(error)}; "
            "torch.export must be able to trace the forward pass for any batch size")
