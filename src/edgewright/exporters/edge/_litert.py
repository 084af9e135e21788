"""Export to a LiteRT file with channels-last images."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from edgewright.errors import MissingExtraError
from edgewright.exporters._bias_alignment import align_weight_scales_to_bias
from edgewright.exporters._converter_errors import ConverterErrors
from edgewright.exporters.edge._edge_graph import (
    convert_biases_to_float,
    make_single_sample_inputs,
    requantize_weights,
    restore_average_grids,
)
from edgewright.exporters.edge._litert_weights import find_stored_weights, store_integers
from edgewright.exporters.edge._plain_convolutions import resolve_padding, split_transposed_groups
from edgewright.exporters.edge._plain_max_pools import write_max_pools
from edgewright.exporters.edge._supported_integers import check_supported_integers
from edgewright.graph import finalize_graph
from edgewright.program import Program, check_fixed_sizes


def to_litert(program: Program) -> bytes:
    """Translate a program into the bytes of a ``.tflite`` file for a batch of one.

    Images (tensors of rank 4) have channels last in inputs and outputs, as the runtime's kernels
    expect. An input that is quantized first is passed as integers. Layers with quantized input and
    result compute in integers; the weights of other layers are stored as integers and dequantized.

    Raises:
        MissingExtraError: The converter is not installed.
        ModelError: The program was quantized for another target, or an operator cannot be
            translated.
    """
    check_fixed_sizes(program, "LiteRT files")
    check_supported_integers(program, "litert")
    inputs = pytree.tree_map(_channels_last, make_single_sample_inputs(program))
    os.environ.setdefault("LITERT_TORCH_SHOW_PROGRESS", "n")
    try:
        import litert_torch  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("exporting to LiteRT", "litert") from error
    copy = align_weight_scales_to_bias(program).copy()
    weights = find_stored_weights(copy.graph_module)
    for rewrite in (restore_average_grids, convert_biases_to_float, write_max_pools,
                    resolve_padding, split_transposed_groups, requantize_weights, finalize_graph):
        rewrite(copy.graph_module)
    config = _quant_config() if program.is_quantized else None
    with ConverterErrors("LiteRT"), _suppress_warnings():
        model = litert_torch.convert(_ChannelsLast(copy.module()).eval(), inputs,
                                     quant_config=config)
        return store_integers(bytes(model.model_content()), weights)


@final
class _ChannelsLast(nn.Module):
    """Wraps a model so that its images have channels last."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Any) -> Any:
        outputs = self.model(*pytree.tree_map(_channels_first, inputs))
        return pytree.tree_map(_channels_last, outputs)


def _channels_first(value: Tensor) -> Tensor:
    return value.permute(0, 3, 1, 2) if value.ndim == 4 else value


def _channels_last(value: Tensor) -> Tensor:
    return value.permute(0, 2, 3, 1) if value.ndim == 4 else value


def _quant_config() -> Any:
    """The setting that makes the converter fuse quantize and dequantize into integer kernels."""
    from litert_torch.quantize import pt2e_quantizer, quant_config  # noqa: PLC0415

    scheme = pt2e_quantizer.get_symmetric_quantization_config(is_per_channel=True)
    quantizer = pt2e_quantizer.PT2EQuantizer().set_global(scheme)
    return quant_config.QuantConfig(pt2e_quantizer=quantizer)


@contextlib.contextmanager
def _suppress_warnings() -> Iterator[None]:
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
