"""To ExecuTorch: one file whose operators XNNPACK runs; the numbers are the program's."""

from __future__ import annotations

import operator
import tempfile
import warnings
from collections import Counter
from typing import Any

import torch
from torch.fx import GraphModule

from edgewright.errors import MissingExtraError, StorageError
from edgewright.exporters._failures import Translation
from edgewright.exporters._fine_biases import on_the_grid_of_products
from edgewright.exporters.edge._convolutions_of_ones import (
    convolve_pools,
    convolve_slices,
    write_out_pools,
)
from edgewright.exporters.edge._edge_graph import (
    average_on_the_grid,
    float_biases,
    float_weights,
    one_sample,
    own_dequantizations,
)
from edgewright.exporters.edge._norms import without_norms
from edgewright.exporters.edge._plain_activations import write_out_prelu
from edgewright.exporters.edge._plain_convolutions import float_rows_as_images, write_out_padding
from edgewright.exporters.edge._plain_tensors import store_plainly
from edgewright.exporters.edge._taken_integers import check_integers
from edgewright.exporters.edge._xnnpack_linears import partitioner, split_biases
from edgewright.graph import finalize_graph
from edgewright.program import Program


def to_executorch(program: Program) -> bytes:
    """Translate a program into the bytes of a ``.pte`` file for a batch of one.

    XNNPACK computes a layer in integers if its input and its result are quantised. Of other layers
    the linear ones multiply floats by integer weights; the weights of convolutions are stored in
    floating point. Operators that XNNPACK does not take run in
    ExecuTorch's portable kernels, about 200 times slower; a warning counts them by name.

    Raises:
        MissingExtraError: ExecuTorch is not installed.
        ModelError: It was quantized for another target, or an operator has no translation.
        StorageError: ExecuTorch's temporary files cannot be written.
    """
    check_integers(program, "executorch")
    inputs = one_sample(program)
    try:
        from executorch.exir import to_edge_transform_and_lower  # noqa: PLC0415

        xnnpack = partitioner()
    except ImportError as error:
        raise MissingExtraError("exporting to ExecuTorch", "executorch") from error
    module = without_norms(on_the_grid_of_products(program)).graph_module
    for rewrite in (average_on_the_grid, float_biases, write_out_pools, write_out_padding,
                    write_out_prelu, convolve_slices, convolve_pools, float_weights,
                    float_rows_as_images, split_biases, store_plainly, finalize_graph):
        rewrite(module)
    try:
        with Translation("ExecuTorch"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exported = torch.export.export(module.requires_grad_(False), inputs)
            lowered = to_edge_transform_and_lower(exported, [own_dequantizations], [xnnpack])
            slow = _outside_the_delegate(lowered.exported_program().graph_module)
            content = bytes(lowered.to_executorch().buffer)
    except OSError as error:
        raise StorageError("ExecuTorch cannot write its temporary files to "
                           f"{tempfile.gettempdir()}: {error.strerror or error}; free some space "
                           "there, or set TMPDIR") from error
    if slow:
        counts = ", ".join(f"{count} {name}" for name, count in slow.items())
        warnings.warn(f"XNNPACK does not take {counts}; ExecuTorch runs them about 200 times "
                      "slower; replace them in the model", stacklevel=2)
    return content


def _outside_the_delegate(module: GraphModule) -> Counter[str]:
    def name(target: Any) -> str:
        return str(getattr(target, "_name", target)).removeprefix("aten::")

    names = (name(node.target) for node in module.graph.nodes
             if node.op == "call_function" and node.target is not operator.getitem)
    return Counter(found for found in names if "executorch_call_delegate" not in found)
