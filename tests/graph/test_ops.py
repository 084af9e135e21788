"""The vocabulary of operators, and arguments by their names."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.fx import Graph

from edgewright.graph import (
    argument,
    base_name,
    channel_grid,
    op_name,
    ops,
    set_argument,
    takes,
    tensor_grid,
)

aten = torch.ops.aten


def call(target: Any, *args: Any, **kwargs: Any) -> Any:
    graph = Graph()
    return graph.call_function(target, tuple(
        graph.placeholder(arg) if isinstance(arg, str) else arg for arg in args), kwargs)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_every_convolution_of_a_rank_is_one(rank: int) -> None:
    direct = getattr(aten, f"conv{rank}d")
    assert {direct.default, direct.padding} <= ops.DIRECT_CONVOLUTIONS
    mine = [target for target in ops.CONVOLUTIONS if ops.spatial_rank(target) == rank]
    assert ops.names(mine) == {f"conv{rank}d", f"conv_transpose{rank}d"}


def test_kinds_of_layers_are_apart() -> None:
    kinds = [ops.DIRECT_CONVOLUTIONS, ops.TRANSPOSED_CONVOLUTIONS, ops.MATRIX_PRODUCTS,
             ops.ADDED_PRODUCTS, ops.RECURRENT_LAYERS, ops.RECURRENT_CELLS, ops.NORMS, ops.POOLS]
    assert sum(map(len, kinds)) == len(frozenset().union(*kinds))
    assert not ops.CHANNELS_FIRST & ops.CHANNELS_LAST


def test_every_layer_and_product_says_where_its_weight_is() -> None:
    for target in ops.LAYERS | ops.MATRIX_PRODUCTS | ops.ADDED_PRODUCTS | {ops.EMBEDDING}:
        node = call(target)
        place = ops.weight_argument(node)
        assert place is not None
        assert takes(node, place)
    assert ops.weight_argument(call(aten.relu.default, "x")) is None


@pytest.mark.parametrize(("target", "args", "factors"), [
    (aten.matmul.default, "ab", "ab"), (aten.mm.default, "ab", "ab"), (aten.bmm.default, "ab", "ab"),
    (aten.addmm.default, "cab", "ab"), (aten.baddbmm.default, "cab", "ab")])
def test_the_factors_of_a_product(target: Any, args: str, factors: str) -> None:
    assert "".join(str(node) for node in ops.factors(call(target, *args))) == factors


@pytest.mark.parametrize(("target", "output_dim"), [
    (aten.linear.default, 0), (aten.conv2d.padding, 0), (aten.conv_transpose2d.input, 1)])
def test_where_a_weight_has_its_outputs(target: Any, output_dim: int) -> None:
    assert ops.output_dim(call(target, "x", "w")) == output_dim


def test_an_argument_is_the_call_s_or_the_schema_s() -> None:
    node = call(aten.conv2d.default, "x", "w", None, [2, 2], dilation=[3, 3])
    found = [argument(node, name) for name in ("bias", "stride", "padding", "dilation", "groups")]
    assert found == [None, [2, 2], [0, 0], [3, 3], 1]
    assert argument(node, "none of its", "else") == "else"


def test_a_default_that_is_a_list_can_be_written_to() -> None:
    node = call(aten.conv2d.default, "x", "w")
    argument(node, "stride").append(5)
    assert argument(node, "stride") == [1, 1]


def test_an_argument_is_written_where_it_is_or_next_or_by_keyword() -> None:
    node = call(aten.linear.default, "x", "w")
    set_argument(node, "bias", 1)
    assert node.args[2] == 1
    node = call(aten.conv2d.default, "x", "w")
    set_argument(node, "groups", 4)
    assert (len(node.args), node.kwargs) == (2, {"groups": 4})
    set_argument(node, "groups", 2)
    assert argument(node, "groups") == 2


@pytest.mark.parametrize(("target", "name"), [
    (aten.relu_.default, "relu"), (aten.add.Tensor, "add"), (aten._softmax.default, "_softmax"),
    (aten.__and__.Tensor, "__and__"), (ops.ITEM, "getitem"),
    (ops.QUANTIZE, "quantized_decomposed::quantize_per_tensor")])
def test_names_of_operators(target: Any, name: str) -> None:
    assert base_name(target) == op_name(call(target)) == name


def test_grids_are_read_by_name() -> None:
    node = call(ops.QUANTIZE, "x", 0.5, 3, -128, 127, torch.int8)
    assert tensor_grid(node) == node.args[1:]
    node = call(ops.DEQUANTIZE_CHANNELS, "x", "s", "z", 0, -127, 127, torch.int8)
    assert channel_grid(node) == node.args[1:]
