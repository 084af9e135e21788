"""Linear layers with integer weights and a floating-point input or result, for XNNPACK.

XNNPACK has a kernel for them, which multiplies floats by integers and scales each sum, but
ExecuTorch's own partitioner accepts integer weights only with quantized inputs and results.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule

from edgewright.exporters.edge._edge_graph import computes_integers, is_constant
from edgewright.graph import argument, ops

aten = torch.ops.aten


def split_biases(module: GraphModule) -> None:
    """Add the bias after such a layer; ExecuTorch would otherwise store it as integers."""
    for layer in list(module.graph.nodes):
        if layer.target is not ops.LINEAR:
            continue
        source, weight, bias = (argument(layer, name) for name in ("input", "weight", "bias"))
        if bias is None or not is_constant(weight) or computes_integers(layer):
            continue
        with module.graph.inserting_before(layer):
            product = module.graph.call_function(layer.target, (source, weight))
            layer.replace_all_uses_with(
                module.graph.call_function(aten.add.Tensor, (product, bias)))
        module.graph.erase_node(layer)


def create_partitioner() -> Any:
    """Create an XNNPACK partitioner that also accepts such layers.

    Raises:
        ImportError: ExecuTorch is not installed.
    """
    from executorch.backends.xnnpack.partition.config import (  # noqa: PLC0415
        ALL_PARTITIONER_CONFIGS,
    )
    from executorch.backends.xnnpack.partition.config.gemm_configs import (  # noqa: PLC0415
        LinearConfig,
    )
    from executorch.backends.xnnpack.partition.config.xnnpack_config import (  # noqa: PLC0415
        ConfigPrecisionType,
    )
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import (  # noqa: PLC0415
        XnnpackPartitioner,
    )
    from executorch.backends.xnnpack.utils.quant_utils import is_dequant  # noqa: PLC0415

    class IntegerWeights(LinearConfig):  # type: ignore[misc]  # untyped
        """Accepts integer weights even if input and result are not quantized."""

        def _detect_precision(self, node: Any) -> Any:
            found = super()._detect_precision(node)
            static = ConfigPrecisionType.STATIC_QUANT
            if found is static and not (self._get_act_deps(node, None, static)[0]
                                        and self._get_output_deps(node, None, static)[0]):
                return ConfigPrecisionType.FP32
            return found

        def _get_weight_deps(self, node: Any, ep: Any, precision: Any) -> Any:
            if precision is ConfigPrecisionType.FP32 and is_dequant(node.args[1]):
                precision = ConfigPrecisionType.DYNAMIC_QUANT  # its weights are stored the same way
            return super()._get_weight_deps(node, ep, precision)

    return XnnpackPartitioner(configs=[
        IntegerWeights if config is LinearConfig else config for config in ALL_PARTITIONER_CONFIGS])
