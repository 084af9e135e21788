"""torchao's PT2E with two of its quantizers, and its way to ONNX.

Both as their tutorials call them; XNNPACK's with a scale for each output channel of a weight, as
ExecuTorch's guide sets it, and as every other method here has it.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from typing import Any, Final

import torch
from torch import Tensor, nn

from edgewright.task import Split

QUANTIZERS: Final = ("xnnpack", "x86")
_BATCH: Final = 64
_PT2E: Final = "torchao.quantization.pt2e"


def quantize_pt2e(name: str, module: nn.Module, calibration: Split) -> nn.Module:
    """The module after prepare, calibration and convert, with one of `QUANTIZERS`."""
    pt2e = importlib.import_module(f"{_PT2E}.quantize_pt2e")
    exported = torch.export.export(module, _example(calibration), dynamic_shapes=_shapes(),
                                   strict=True).module(check_guards=False)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        prepared = pt2e.prepare_pt2e(exported, _quantizer(name))
        for batch in calibration.batches(_BATCH):
            prepared(*batch.inputs)
        converted: nn.Module = pt2e.convert_pt2e(prepared)
    moving = importlib.import_module(_PT2E)
    moving.allow_exported_model_train_eval(converted)
    return converted


def export_onnx(converted: nn.Module, calibration: Split) -> bytes:
    """The converted module as `torch.onnx.export` writes it, batch left open."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.export.export(converted, _example(calibration), dynamic_shapes=_shapes())
        translated: Any = torch.onnx.export(exported, (), dynamo=True, external_data=False,
                                            verbose=False)
    content: bytes = translated.model_proto.SerializeToString()
    return content


def _quantizer(name: str) -> Any:
    if name == "xnnpack":
        home = importlib.import_module("torchao.testing.pt2e._xnnpack_quantizer")
        return home.XNNPACKQuantizer().set_global(
            home.get_symmetric_quantization_config(is_per_channel=True))
    home = importlib.import_module(f"{_PT2E}.quantizer.x86_inductor_quantizer")
    return home.X86InductorQuantizer().set_global(
        home.get_default_x86_inductor_quantization_config())


def _example(split: Split) -> tuple[Tensor, ...]:
    return split.example(2)


def _shapes() -> tuple[dict[int, Any]]:
    return ({0: torch.export.Dim("batch", min=1)},)
