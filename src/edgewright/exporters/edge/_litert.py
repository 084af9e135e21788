"""To LiteRT: one file with channels last, whose numbers are the program's."""

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
from edgewright.exporters._failures import Translation
from edgewright.exporters._fine_biases import on_the_grid_of_products
from edgewright.exporters.edge._edge_graph import (
    average_on_the_grid,
    float_biases,
    one_sample,
    requantize_weights,
)
from edgewright.exporters.edge._litert_weights import store_integers, stored_weights
from edgewright.exporters.edge._plain_convolutions import split_transposed_groups, write_out_padding
from edgewright.exporters.edge._taken_integers import check_integers
from edgewright.graph import finalize_graph
from edgewright.program import Program


def to_litert(program: Program) -> bytes:
    """Translate a program into the bytes of a ``.tflite`` file for a batch of one.

    Images (tensors of rank 4) go in and out with channels last, as the runtime's kernels read
    them. An input that is quantised first thing is taken as integers. Layers whose input and result
    are quantised compute in integers; the weights of others are integers in the file alone.

    Raises:
        MissingExtraError: The converter is not installed.
        ModelError: It was quantized for another target, or an operator has no translation.
    """
    check_integers(program, "litert")
    inputs = pytree.tree_map(_channels_last, one_sample(program))
    os.environ.setdefault("LITERT_TORCH_SHOW_PROGRESS", "n")
    try:
        import litert_torch  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("exporting to LiteRT", "litert") from error
    copy = on_the_grid_of_products(program).copy()
    weights = stored_weights(copy.graph_module)
    for rewrite in (average_on_the_grid, float_biases, write_out_padding, split_transposed_groups,
                    requantize_weights, finalize_graph):
        rewrite(copy.graph_module)
    config = _quantised() if program.is_quantized else None
    with Translation("LiteRT"), _quiet():
        model = litert_torch.convert(_ChannelsLast(copy.module()).eval(), inputs,
                                     quant_config=config)
        return store_integers(bytes(model.model_content()), weights)


@final
class _ChannelsLast(nn.Module):
    """A model whose images have their channels last."""

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


def _quantised() -> Any:
    """Tells the converter to fuse what quantises and dequantises into kernels of integers."""
    from litert_torch.quantize import pt2e_quantizer, quant_config  # noqa: PLC0415

    scheme = pt2e_quantizer.get_symmetric_quantization_config(is_per_channel=True)
    quantizer = pt2e_quantizer.PT2EQuantizer().set_global(scheme)
    return quant_config.QuantConfig(pt2e_quantizer=quantizer)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
