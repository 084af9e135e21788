"""Which values and weights are quantized, on which grids, and which share a grid."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgewright.errors import UsageError
from edgewright.program import Program
from edgewright.quantization import PerGroup, Precision, Quantization, place, resolve


class Residual(nn.Module):
    """Stem, a block with a shortcut, pooling, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.one = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.two = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = (x + self.two(self.norm(self.one(x)).relu())).relu()
        return self.head(F.max_pool2d(x, 2).mean((2, 3)))


@pytest.fixture(scope="module")
def residual() -> Any:
    torch.manual_seed(0)
    return Program.capture(Residual(), torch.zeros(2, 3, 8, 8))


def bits_of(placement: Any) -> Any:
    return {point.name: (point.grid.bits, [(p.value, p.readers) for p in point.uses])
            for point in placement.activations}


def test_results_are_quantized_once_after_norm_and_relu(residual: Any) -> None:
    placement = place(residual, resolve(Quantization()))
    assert bits_of(placement) == {
        "relu": (8, [("relu", None)]), "relu_1": (8, [("relu_1", None)]),
        "conv2d_2": (8, [("conv2d_2", None)]),
        "relu_2": (8, [("relu_2", None), ("max_pool2d", None)]),
        "x": (8, [("x", ("conv2d",))]), "mean": (8, [("mean", ("linear",))])}
    assert [point.tensor for point in placement.weights] == [
        "stem.weight", "one.weight", "two.weight", "head.weight"]
    assert [point.shape for point in placement.weights] == [(4,), (4,), (4,), (3,)]
    assert placement.skip_reasons == {}


def test_layers_read_fewer_bits_while_additions_keep_eight(residual: Any) -> None:
    placement = place(residual, resolve(Quantization(weights=4, activations=4)))
    found = bits_of(placement)
    assert found["relu"] == (8, [("relu", None)])  # the shortcut's
    assert found["relu_4bit"] == (4, [("relu", ("conv2d_1",))])
    assert found["relu_1"] == (4, [("relu_1", None)])
    assert [point.grid.bits for point in placement.weights] == [8, 4, 4, 8]
    every = place(residual, resolve(Quantization(weights=4, activations=4, first_last_bits=None)))
    assert [point.grid.bits for point in every.weights] == [4, 4, 4, 4]
    assert bits_of(every)["x"][0] == 4


def test_a_pattern_sets_the_bits_of_its_layers_and_none_keeps_floats(residual: Any) -> None:
    config = Quantization(layers={"two": Precision(weights=3, activations=2), "head": None})
    placement = place(residual, resolve(config))
    assert {p.tensor: p.grid.bits for p in placement.weights} == {
        "stem.weight": 8, "one.weight": 8, "two.weight": 3}
    assert bits_of(placement)["relu_1"][0] == 2
    assert placement.skip_reasons == {"head.weight": "excluded by the `layers` pattern 'head'"}
    with pytest.raises(UsageError, match="layers='tow' matches no layer; similar names: two"):
        place(residual, resolve(Quantization(layers={"tow": None})))


def test_excluded_operators_stay_float(residual: Any) -> None:
    placement = place(residual, resolve(Quantization(operators=("linear",))))
    assert [point.tensor for point in placement.weights] == ["head.weight"]
    assert list(bits_of(placement)) == ["mean"]
    assert placement.skip_reasons["stem.weight"] == "`operators` does not include convolution"


def test_weight_only_and_dynamic_modes(residual: Any) -> None:
    only = place(residual, replace(resolve(Quantization(activations=None)),
                                   granularity=PerGroup(2)))  # of a size that no kernel has
    assert only.activations == ()
    assert {p.tensor: p.shape for p in only.weights} == {
        "stem.weight": (4,), "one.weight": (4,), "two.weight": (4,), "head.weight": (3, 2)}
    dynamic = place(residual, resolve(Quantization(activations="dynamic")))
    assert bits_of(dynamic) == {"mean": (8, [("mean", ("linear",))])}
    assert dynamic.skip_reasons == {}
    assert {p.tensor: (p.layers, p.readers) for p in dynamic.weights} == {
        "stem.weight": ((), ("conv2d",)), "one.weight": ((), ("conv2d_1",)),
        "two.weight": ((), ("conv2d_2",)), "head.weight": (("linear",), ())}


class Joined(nn.Module):
    """Two branches, joined and read again."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
        self.c = nn.Conv2d(8, 3, 1)
        self.up = nn.ConvTranspose2d(3, 32, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat([self.a(x).relu(), self.b(x)], 1)
        return self.up(F.avg_pool2d(self.c(joined), 2)).mean((2, 3))


def test_concat_and_average_share_a_grid_only_if_the_target_requires_it() -> None:
    program = Program.capture(Joined(), torch.zeros(2, 3, 8, 8))
    assert bits_of(place(program, resolve(Quantization()))) == {
        "relu": (8, [("relu", None)]), "conv2d_1": (8, [("conv2d_1", None)]),
        "cat": (8, [("cat", None)]), "conv2d_2": (8, [("conv2d_2", None)]),
        "x": (8, [("x", ("conv2d", "conv2d_1"))])}
    shared = place(program, resolve(Quantization(target="litert")))
    assert bits_of(shared)["relu"][1] == [("relu", None), ("conv2d_1", None), ("cat", None)]
    assert bits_of(shared)["conv2d_2"][1] == [("conv2d_2", None), ("avg_pool2d", None)]
    assert {point.grid.limits for point in shared.activations} == {(-128, 127)}
    assert shared.skip_reasons == {"up.weight": "its converter dequantizes weights without an integer "
                                        "kernel and writes floating point"}


def two_readers(m: Any, x: Any) -> Any:
    y = m.a(x).relu()
    return m.b(y) + F.gelu(y)


def test_float_readers_get_all_bits_where_layers_read_fewer(net: Any) -> None:
    program = Program.capture(net(two_readers, a=nn.Linear(6, 6), b=nn.Linear(6, 6)),
                              torch.zeros(2, 6))
    config = Quantization(activations=2, first_last_bits=None)
    found = bits_of(place(program, resolve(config)))
    assert found["relu"] == (8, [("relu", None)])  # GELU's
    assert found["relu_2bit"] == (2, [("relu", ("linear_1",))])


def heads(m: Any, x: Any) -> tuple[Any, ...]:
    y = m.a(x).relu()
    return torch.cat([m.b(y).flatten(2), m.c(y).permute(0, 1, 3, 2).flatten(2)], 2), m.d(y)


def test_moved_and_concatenated_outputs_stay_float(net: Any) -> None:
    layers = {"a": nn.Conv2d(3, 4, 1), "b": nn.Conv2d(4, 4, 1), "c": nn.Conv2d(4, 4, 1),
              "d": nn.Conv2d(4, 4, 1)}
    program = Program.capture(net(heads, **layers), torch.zeros(2, 3, 8, 8))
    for target in ("onnxruntime", "litert"):
        found = bits_of(place(program, resolve(Quantization(target=target))))
        assert set(found) == {"inputs_0", "relu"}
    four = place(program, resolve(Quantization(weights=4)))
    assert [point.grid.bits for point in four.weights] == [8, 8, 8, 8]  # all next to an end


def parts(m: Any, x: Any) -> Any:
    one, two = m.a(x).relu().chunk(2, dim=1)
    return m.c(torch.cat([one, m.b(two).relu()], 1)).mean((2, 3))


@pytest.mark.parametrize(("target", "joined"), [("onnxruntime", "cat"), ("litert", "relu")])
def test_slices_of_a_value_share_its_grid(net: Any, target: str, joined: str) -> None:
    program = Program.capture(net(parts, a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(2, 4, 1),
                                  c=nn.Conv2d(6, 4, 1)), torch.zeros(2, 3, 8, 8))
    found = bits_of(place(program, resolve(Quantization(target=target))))
    on_grid = dict.fromkeys(("relu", "getitem", "getitem_1"), "relu") | {"cat": joined}
    assert {value: name for name, (_, places) in found.items() for value, _ in places
            if value in on_grid} == on_grid


def test_copies_modified_in_place_and_their_views_stay_float(net: Any) -> Any:
    def patched(m: Any, x: Any) -> Any:
        y = m.a(x).relu().clone()
        y[:, 0] = x[:, 0].sigmoid()
        return m.b(y).mean((2, 3))

    program = Program.capture(net(patched, a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(4, 4, 1)),
                              torch.zeros(2, 3, 8, 8))
    found = bits_of(place(program, resolve(Quantization())))
    assert {value for _, places in found.values() for value, _ in places} == {
        "relu", "conv2d_1", "inputs_0"}


def same_padding(m: Any, x: Any) -> Any:
    y = F.pad(m.a(x), (0, 1, 0, 1), value=-float("inf"))
    return m.b(F.max_pool2d(y, 2)).mean((2, 3))


def test_padding_with_infinity_is_not_quantized(net: Any) -> None:
    program = Program.capture(net(same_padding, a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(4, 4, 1)),
                              torch.zeros(2, 3, 8, 8))
    assert {name: places for name, (_, places) in bits_of(place(program, resolve(Quantization()))).items()
            } == {"conv2d": [("conv2d", None)], "conv2d_1": [("conv2d_1", None)],
                  "inputs_0": [("inputs_0", ("conv2d",))],
                  "max_pool2d": [("max_pool2d", ("conv2d_1",))]}


def test_weights_without_integer_kernel_are_stored_as_integers(net: Any) -> None:
    program = Program.capture(net(lambda m, x: m.l(x)[0] + F.linear(x, m.h.weight.flip(0)),
                                  l=nn.LSTM(16, 8, batch_first=True), h=nn.Linear(16, 8)),
                              torch.zeros(2, 5, 16))
    placement = place(program, resolve(Quantization()))
    assert {p.tensor: (p.readers, p.shape) for p in placement.weights if not p.layers} == {
        "l.weight_ih_l0": (("lstm",), (32,)), "l.weight_hh_l0": (("lstm",), (32,)),
        "h.weight": (("flip",), (8,))}
    assert placement.skip_reasons == {}
    excepted = place(program, resolve(Quantization(layers={"l": None}, target="executorch")))
    assert excepted.skip_reasons["l.weight_hh_l0"] == "excluded by the `layers` pattern 'l'"
    assert excepted.skip_reasons["h.weight"].startswith("XNNPACK reads integer weights only in")
    none = place(program, resolve(Quantization(operators=("elementwise",))))
    assert none.weights == ()
    assert set(none.skip_reasons.values()) == {"`operators` does not include other"}


def test_convolutions_fused_with_an_addition_are_not_quantized_in_between(residual: Any) -> None:
    apart = bits_of(place(residual, resolve(Quantization())))
    fused = bits_of(place(residual, resolve(Quantization(target="openvino"))))
    assert set(apart) - set(fused) == {"conv2d_2"}
    assert {name: apart[name] for name in fused} == fused


def branches(m: Any, x: Any) -> Any:
    y = m.stem(x).relu()
    return m.last((m.a(y).relu() + m.b(y)).relu())


@pytest.mark.parametrize(("layers", "floats"), [
    ({}, "relu_1"), ({"b": None}, "relu_1"), ({"a": None}, "conv2d_2"),
    ({"a": None, "b": None}, "relu_1")])
def test_of_two_convolutions_the_first_quantized_one_is_fused(net: Any, layers: dict[str, Any],
                                                              floats: str) -> None:
    program = Program.capture(net(branches, stem=nn.Conv2d(3, 4, 1), a=nn.Conv2d(4, 4, 1),
                                  b=nn.Conv2d(4, 4, 1), last=nn.Conv2d(4, 3, 1)),
                              torch.zeros(2, 3, 8, 8))
    apart = bits_of(place(program, resolve(Quantization(layers=layers))))
    fused = bits_of(place(program, resolve(Quantization(layers=layers, target="openvino"))))
    assert set(apart) - set(fused) == {floats}


def read_twice(m: Any, x: Any) -> Any:
    y = m.a(x)
    return m.last(y + m.l(y.mean((2, 3)))[..., None, None] + y * 2)


def test_layers_with_other_readers_and_linear_layers_are_quantized_before_an_addition(net: Any) -> None:
    program = Program.capture(net(read_twice, a=nn.Conv2d(3, 4, 1), l=nn.Linear(4, 4),
                                  last=nn.Conv2d(4, 3, 1)), torch.zeros(2, 3, 8, 8))
    found = bits_of(place(program, resolve(Quantization(target="openvino"))))
    assert found == bits_of(place(program, resolve(Quantization())))
    assert found["conv2d"] == (8, [("conv2d", None)])


@pytest.mark.parametrize(("value", "places"), [
    (0.0, [("relu", None), ("pad", None)]), (0.5, [("relu", None), ("pad", None)]),
    (-float("inf"), [("relu", ("conv2d_1",))])])
def test_values_padded_with_infinity_are_quantized_only_for_their_layers(net: Any, value: Any,
                                                                         places: list[tuple[Any, ...]]) -> Any:
    def padded(m: Any, x: Any) -> Any:
        y = m.a(x).relu()
        return m.b(y) + m.c(F.max_pool2d(F.pad(y, (1, 0, 1, 0), value=value), 2, 1))

    program = Program.capture(net(padded, a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(4, 4, 1),
                                  c=nn.Conv2d(4, 4, 1)), torch.zeros(2, 3, 8, 8))
    found = bits_of(place(program, resolve(Quantization(target="openvino"))))["relu"]
    assert found[1][:2] == places
    assert bits_of(place(program, resolve(Quantization())))["relu"][1][0] == ("relu", None)
