"""Numeric padding and conv1d as conv2d do not change the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgewright.exporters.edge._edge_graph import convert_biases_to_float, convert_weights_to_float
from edgewright.exporters.edge._plain_convolutions import (
    convert_conv1d_to_conv2d,
    resolve_padding,
    split_transposed_groups,
)
from edgewright.graph import finalize_graph
from edgewright.program import Program
from edgewright.quantization import Quantization, quantize
from edgewright.task import Task


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize(("layer", "shape", "pads"), [
    (nn.Conv1d(3, 4, 4, padding="same"), (3, 9), 1),
    (nn.Conv1d(3, 4, 2, padding="same", dilation=3), (3, 9), 1),
    (nn.Conv1d(3, 4, 3, padding="same", bias=False), (3, 9), 0),
    (nn.Conv2d(4, 4, (4, 3), padding="same", groups=2), (4, 6, 7), 1),
    (nn.Conv2d(3, 4, 3, padding="valid", stride=(2, 1)), (3, 6, 7), 0),
    (nn.Conv3d(2, 4, (2, 3, 4), padding="same"), (2, 4, 4, 5), 1),
], ids=str)
def test_paddings_become_numeric(layer: Any, shape: tuple[int, ...], pads: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, *shape)
    program = Program.capture(layer.eval(), x)
    written = program.copy()
    resolve_padding(written.graph_module)
    finalize_graph(written.graph_module)
    assert not any(str(node.target).endswith(".padding") for node in written.calls())
    assert sum("pad_nd" in node.name for node in written.calls()) == pads
    torch.testing.assert_close(written.run(x), program.run(x))


@pytest.fixture(scope="module")
def rows(as_task: Callable[[Tensor], Task]) -> tuple[Any, ...]:
    """Two convolutions of rows, the second of which gives floats."""
    torch.manual_seed(0)
    x = torch.randn(32, 4, 9)
    model = nn.Sequential(nn.Conv1d(4, 6, 4, padding="same"), nn.ReLU(),
                          nn.Conv1d(6, 4, 3, stride=2, padding=2, dilation=2, groups=2))
    return quantize(Program.capture(model.eval(), x), as_task(x),
                    Quantization(target="executorch")), x


@pytest.mark.parametrize("dilation", [1, 3])
def test_integer_weights_get_zeros_instead_of_a_pad(dilation: int,
                                                    as_task: Callable[[Tensor], Task]) -> None:
    torch.manual_seed(0)
    x = torch.randn(32, 4, 9, 7)
    model = nn.Sequential(nn.Conv2d(4, 6, (4, 3), padding="same", groups=2, dilation=dilation),
                          nn.ReLU(), nn.Conv2d(6, 2, 2, padding="same"))
    program = quantize(Program.capture(model.eval(), x), as_task(x), Quantization(target="litert"))
    written = program.copy()
    resolve_padding(written.graph_module)
    finalize_graph(written.graph_module)
    assert not any("pad_nd" in node.name for node in written.calls())
    weights = sorted(tuple(value.shape[2:]) for name, value in written.state_dict().items()
                     if name.endswith("_shifted"))
    assert weights == sorted([(3 * dilation + 2, 2 * dilation + 1), (3, 3)])
    torch.testing.assert_close(written.run(x), program.run(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("layer", "shape"), [
    (nn.ConvTranspose2d(6, 4, 3, (2, 1), 1, (1, 0), groups=2, dilation=2), (6, 5, 6)),
    (nn.ConvTranspose1d(6, 6, 2, groups=6, bias=False), (6, 5)),
    (nn.ConvTranspose3d(4, 4, 2, 2, groups=2), (4, 3, 3, 3)),
], ids=str)
def test_transposed_groups_are_split(layer: Any, shape: tuple[int, ...]) -> None:
    x = torch.randn(3, *shape)
    program = Program.capture(layer.eval(), x)
    written = program.copy()
    split_transposed_groups(written.graph_module)
    finalize_graph(written.graph_module)
    layers = [node for node in written.calls() if "conv_transpose" in node.name]
    assert len(layers) == layer.groups
    assert {node.args[6] for node in layers} == {1}
    torch.testing.assert_close(written.run(x), program.run(x))


def test_conv1d_from_integers_to_floats_becomes_conv2d(rows: Any) -> None:
    program, x = rows
    written = program.copy()
    for rewrite in (convert_biases_to_float, resolve_padding, convert_weights_to_float, convert_conv1d_to_conv2d, finalize_graph):
        rewrite(written.graph_module)
    kinds = [node.name.split("_")[0] for node in written.calls() if "conv" in node.name]
    assert kinds == ["conv1d", "conv2d"]
    torch.testing.assert_close(written.run(x), program.run(x), rtol=1e-5, atol=1e-5)
