"""Export to an ExecuTorch file whose operators run on XNNPACK."""

from __future__ import annotations

import operator
import tempfile
import warnings
from collections import Counter
from typing import Any

import torch
from torch.fx import GraphModule

from edgewright.errors import MissingExtraError, StorageError
from edgewright.exporters._bias_alignment import align_weight_scales_to_bias
from edgewright.exporters._converter_errors import ConverterErrors
from edgewright.exporters.edge._edge_graph import (
    convert_biases_to_float,
    convert_weights_to_float,
    duplicate_dequantizations,
    make_single_sample_inputs,
    restore_average_grids,
)
from edgewright.exporters.edge._norms import remove_batch_norms
from edgewright.exporters.edge._plain_activations import decompose_prelu
from edgewright.exporters.edge._plain_convolutions import convert_conv1d_to_conv2d, resolve_padding
from edgewright.exporters.edge._plain_max_pools import write_max_pools
from edgewright.exporters.edge._plain_tensors import normalize_stored_tensors
from edgewright.exporters.edge._pooling_convolutions import (
    convolve_pools,
    convolve_slices,
    normalize_pools,
)
from edgewright.exporters.edge._supported_integers import check_supported_integers
from edgewright.exporters.edge._xnnpack_linears import create_partitioner, split_biases
from edgewright.graph import finalize_graph
from edgewright.program import Program, check_fixed_sizes


def to_executorch(program: Program) -> bytes:
    """Translate a program into the bytes of a ``.pte`` file for a batch of one.

    XNNPACK computes a layer in integers if its input and its result are quantized. Other linear
    layers multiply floating-point inputs by integer weights; the weights of other convolutions are
    stored in floating point. Operators that XNNPACK does not support run in ExecuTorch's portable
    kernels, which are about 200 times slower; a warning counts them by name.

    Raises:
        MissingExtraError: ExecuTorch is not installed.
        ModelError: The program was quantized for another target, or an operator cannot be
            translated.
        StorageError: ExecuTorch's temporary files cannot be written.
    """
    check_fixed_sizes(program, "ExecuTorch files")
    check_supported_integers(program, "executorch")
    inputs = make_single_sample_inputs(program)
    try:
        from executorch.exir import to_edge_transform_and_lower  # noqa: PLC0415

        xnnpack = create_partitioner()
    except ImportError as error:
        raise MissingExtraError("exporting to ExecuTorch", "executorch") from error
    module = remove_batch_norms(align_weight_scales_to_bias(program)).graph_module
    for rewrite in (restore_average_grids, convert_biases_to_float, write_max_pools,
                    normalize_pools, resolve_padding, decompose_prelu, convolve_slices,
                    convolve_pools, convert_weights_to_float, convert_conv1d_to_conv2d,
                    split_biases, normalize_stored_tensors, finalize_graph):
        rewrite(module)
    try:
        with ConverterErrors("ExecuTorch"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exported = torch.export.export(module.requires_grad_(False), inputs)
            lowered = to_edge_transform_and_lower(exported, [duplicate_dequantizations], [xnnpack])
            slow = _count_undelegated(lowered.exported_program().graph_module)
            content = bytes(lowered.to_executorch().buffer)
    except OSError as error:
        raise StorageError("ExecuTorch cannot write its temporary files to "
                           f"{tempfile.gettempdir()}: {error.strerror or error}; free some space "
                           "there, or set TMPDIR") from error
    if slow:
        counts = ", ".join(f"{count} {name}" for name, count in slow.items())
        warnings.warn(f"XNNPACK does not support {counts}; ExecuTorch runs them about 200 times "
                      "slower; replace them in the model", stacklevel=2)
    return content


def _count_undelegated(module: GraphModule) -> Counter[str]:
    def name(target: Any) -> str:
        return str(getattr(target, "_name", target)).removeprefix("aten::")

    names = (name(node.target) for node in module.graph.nodes
             if node.op == "call_function" and node.target is not operator.getitem)
    return Counter(found for found in names if "executorch_call_delegate" not in found)
