"""Targets' rules: each refuses what it should, by name; what is left can be put on a grid."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import get_args

import pytest

from edgewright.errors import UsageError
from edgewright.quantization.scheme._config import Precision, Quantization, Target
from edgewright.quantization.scheme._grid import Grid
from edgewright.quantization.scheme._precision import BITS
from edgewright.quantization.scheme._targets import (
    RULES,
    activation_grid,
    check_scheme,
    rules_of,
    weight_grid,
)

GROUPED = {"mode": "weight_only", "granularity": "group", "operators": ("linear",)}
CLAMP = "because its quantised operators clamp to the whole of int8; change it, or the target"
KERNEL = ("takes powers of two from 16, because MatMulNBits, which reads grouped weights, has no "
          "others; change it, or the target")
BROKEN = [
    ("scheme/operators", {"operators": ()},
     "operators=(), mode='static'; that quantizes nothing: only static ranges have integers for "
     "sums and products of two values; name 'convolution', 'linear' or 'other', or use "
     "mode='static'"),
    ("scheme/operators", {"operators": ("elementwise",), "mode": "weight_only"},
     "operators=('elementwise',), mode='weight_only'; that quantizes nothing"),
    ("scheme/operators", {"operators": ("elementwise",), "mode": "dynamic"},
     "operators=('elementwise',), mode='dynamic'; that quantizes nothing"),
    ("scheme/binary-training", {"weights": 1},
     "weights=1, activations=8, method='ptq'; one bit leaves two levels, which only a network "
     "that was trained with them gets on with; use method='qat', or at least 2 bits"),
    ("scheme/binary-training", {"activations": 1}, "weights=8, activations=1, method='ptq'; one"),
    ("scheme/binary-training", {"layers": {"stem": Precision(weights=1)}},
     "weights=8, activations=8, layers={'stem': Precision(weights=1, activations=8)}, "
     "method='ptq'; one bit"),
    ("scheme/rounding-training", {"rounding": "brecq", "method": "qat"},
     "rounding='brecq', method='qat'; adaround and brecq choose how fixed weights are rounded"),
    ("scheme/bias-training", {"correct_bias": True, "method": "qat"},
     "correct_bias=True, method='qat'; qat learns the biases"),
    ("scheme/equalize-training", {"equalize": True, "method": "qat"},
     "equalize=True, method='qat'; equalisation needs batch norms folded into the layers"),
    ("scheme/dynamic-training", {"mode": "dynamic", "method": "qat"},
     "mode='dynamic', method='qat'; dynamic ranges are taken from each input, so qat would have "
     "none to learn"),
    ("scheme/dynamic-bits", {"mode": "dynamic", "activations": 4},
     "mode='dynamic', activations=4; runtimes quantise to 8 bits while running; use "
     "activations=8, or mode='static'"),
    ("scheme/dynamic-bits", {"mode": "dynamic", "layers": {"a": Precision(activations=2)}},
     "mode='dynamic', activations=8, layers={'a': Precision(weights=8, activations=2)}; runtimes"),
    ("scheme/dynamic-symmetric", {"mode": "dynamic", "symmetric": True},
     "mode='dynamic', symmetric=True; runtimes choose a zero point"),
    ("scheme/dynamic-power-of-two", {"mode": "dynamic", "power_of_two": True},
     "mode='dynamic', power_of_two=True; runtimes do not round the scales"),
    ("scheme/group-mode", GROUPED | {"mode": "static"},
     "granularity='group', mode='static'; products of integers are summed over a whole output "
     "channel before they are scaled"),
    ("scheme/group-operators", GROUPED | {"operators": ("convolution",)},
     "granularity='group', operators=('convolution',); groups divide the inputs of linear layers, "
     "the others have a scale a channel; add 'linear'"),
    ("scheme/group-training", GROUPED | {"method": "qat"},
     "granularity='group', method='qat'; qat learns a scale for a tensor or a channel"),
    ("scheme/group-power-of-two", GROUPED | {"power_of_two": True},
     "granularity='group', power_of_two=True; hardware that only shifts"),
    ("onnxruntime/group-size", GROUPED | {"group_size": 48},
     f"group_size=48; onnxruntime {KERNEL}"),
    ("onnxruntime-arm/group-size", GROUPED | {"group_size": 8, "target": "onnxruntime-arm"},
     f"group_size=8; onnxruntime-arm {KERNEL}"),
    ("openvino/group-size", GROUPED | {"group_size": 24, "target": "openvino"},
     f"group_size=24; openvino {KERNEL}"),
    ("openvino/mode", {"mode": "dynamic", "target": "openvino"},
     "mode='dynamic'; openvino takes static or weight_only, because its integer kernels take "
     "ranges that are constants of the file; change it, or the target"),
    ("executorch/mode", {"mode": "weight_only", "target": "executorch"},
     "mode='weight_only'; executorch takes static or dynamic, because XNNPACK does not run "
     "integer weights with floating-point activations"),
    ("executorch/activation-bits", {"activations": 4, "target": "executorch"},
     f"activations=4; executorch takes 8, {CLAMP}"),
    ("executorch/affine-weights", {"affine_weights": True, "target": "executorch"},
     "affine_weights=True; executorch takes False, because XNNPACK's quantised kernels take "
     "symmetric weights"),
    ("litert/mode", {"mode": "dynamic", "target": "litert"},
     "mode='dynamic'; litert takes static or weight_only, because its dynamic kernels choose a "
     "grid of their own for each row"),
    ("litert/activation-bits", {"layers": {"*": Precision(activations=3)}, "target": "litert"},
     "activations=8, layers={'*': Precision(weights=8, activations=3)}; litert takes 8, " + CLAMP),
    ("litert/affine-weights", {"affine_weights": True, "target": "litert"},
     "affine_weights=True; litert takes False, because its 8-bit specification fixes the zero "
     "point of weights at 0"),
    ("litert/granularity", GROUPED | {"target": "litert"},
     "granularity='group'; litert takes tensor or channel, because its 8-bit specification has "
     "scales for a tensor or an axis"),
]


@pytest.mark.parametrize(("name", "settings", "message"), BROKEN)
def test_a_broken_rule_is_named_with_its_value_and_a_way_out(name, settings, message):
    with pytest.raises(UsageError) as caught:
        check_scheme(Quantization(**settings))
    assert str(caught.value).startswith(f"rule {name}: {message}")
    assert caught.value.exit_code == 2


def rule_names():
    return {rule.name for target in get_args(Target) for rule in rules_of(target)}


def test_every_rule_is_broken_above_but_the_one_that_another_precedes():
    """Groups are for weight_only, which ExecuTorch refuses before it comes to the groups."""
    assert rule_names() - {name for name, _, _ in BROKEN} == {"executorch/granularity"}
    rule = next(rule for rule in rules_of("executorch") if rule.name == "executorch/granularity")
    assert rule.broken(Quantization(**GROUPED, target="executorch"))
    assert rule.demand.startswith("executorch takes tensor or channel, because XNNPACK runs groups "
                                  "only with dynamic activations")


def test_every_rule_is_documented():
    text = (Path(__file__).parents[3] / "docs" / "targets.md").read_text(encoding="utf-8")
    assert [name for name in sorted(rule_names()) if f"`{name}`" not in text] == []


def test_every_limit_of_a_target_has_a_reason_and_every_reason_a_limit():
    free = RULES["onnxruntime"]
    for rules in RULES.values():
        limited = {name for name, field in {
            "mode": "modes", "activation-bits": "activation_bits",
            "affine-weights": "affine_weights", "granularity": "granularities",
            "stores-weights": "stores_weights"}.items()
            if getattr(rules, field) != getattr(free, field)}
        assert set(rules.reasons) - {"group-size"} == limited
        assert ("group-size" in rules.reasons) == ("group" in rules.granularities)
        assert all(rules.reasons.values())


def test_there_are_rules_for_every_target():
    assert set(RULES) == set(get_args(Target))
    assert all(rules.name == target for target, rules in RULES.items())
    assert {target for target, rules in RULES.items() if rules.signed_activations} == {
        "executorch", "litert"}
    assert {target for target, rules in RULES.items() if rules.one_grid} == {
        "executorch", "litert"}
    assert {target for target, rules in RULES.items() if rules.fuses_sums} == {"openvino"}
    assert {target for target, rules in RULES.items() if not rules.pads_with_infinity} == {
        "openvino"}


@pytest.mark.parametrize("settings", [
    {}, {"method": "qat"}, {"weights": 2, "activations": 4}, {"weights": 3},
    {"weights": 1, "activations": 1, "method": "qat"}, {"affine_weights": True},
    {"symmetric": True, "power_of_two": True}, {"granularity": "tensor"}, {"mode": "dynamic"},
    {"mode": "weight_only", "weights": 4}, GROUPED, GROUPED | {"affine_weights": True},
    GROUPED | {"rounding": "adaround", "correct_bias": True, "equalize": True},
    {"layers": {"head": None, "stem": Precision(weights=None, activations=None)}},
    {"quantizer": "pact"}, {"operators": ("elementwise",)},
    {"mode": "weight_only", "activations": 1}, {"mode": "weight_only", "symmetric": True},
    {"granularity": "channel", "group_size": 7}, GROUPED | {"operators": ("convolution", "linear")},
])
def test_what_onnx_runtime_takes(settings):
    assert check_scheme(Quantization(**settings)) is None
    assert check_scheme(Quantization(**settings, target="onnxruntime-arm")) is None


@pytest.mark.parametrize("target", get_args(Target))
@pytest.mark.parametrize("weights", [8, 4, 3, 2])
def test_every_target_stores_weights_of_few_bits(target, weights):
    assert check_scheme(Quantization(weights=weights, target=target)) is None


def test_activations_with_weight_only_are_not_looked_at():
    config = Quantization(mode="weight_only", activations=4, target="litert")
    assert check_scheme(config) is None


@pytest.mark.parametrize(("settings", "bits", "want"), [
    ({}, 8, Grid(8, signed=False, symmetric=False, role="activation")),
    ({}, 1, Grid(1, signed=False, symmetric=True, role="activation")),
    ({"symmetric": True}, 4, Grid(4, signed=False, symmetric=True, role="activation")),
    ({"power_of_two": True}, 2,
     Grid(2, signed=False, symmetric=False, power_of_two=True, role="activation")),
    ({"target": "litert"}, 8, Grid(8, signed=True, symmetric=False, role="activation")),
    ({"target": "executorch", "symmetric": True}, 8,
     Grid(8, signed=True, symmetric=True, role="activation")),
])
def test_activation_grids(settings, bits, want):
    assert activation_grid(Quantization(**settings), bits) == want


@pytest.mark.parametrize(("settings", "bits", "want"), [
    ({}, 8, Grid(8, signed=True, symmetric=True, axis=0, narrow=True, role="weight")),
    ({}, 4, Grid(4, signed=True, symmetric=True, axis=0, role="weight")),
    ({"granularity": "tensor"}, 8,
     Grid(8, signed=True, symmetric=True, narrow=True, role="weight")),
    ({"affine_weights": True}, 8, Grid(8, signed=True, symmetric=False, axis=0, role="weight")),
    ({"affine_weights": True}, 1, Grid(1, signed=True, symmetric=True, axis=0, role="weight")),
    (GROUPED, 4, Grid(4, signed=True, symmetric=True, axis=0, group=32, role="weight")),
    (GROUPED | {"affine_weights": True, "group_size": 64}, 2,
     Grid(2, signed=True, symmetric=False, axis=0, group=64, role="weight")),
    ({"power_of_two": True}, 8,
     Grid(8, signed=True, symmetric=True, axis=0, narrow=True, power_of_two=True, role="weight")),
])
def test_weight_grids(settings, bits, want):
    assert weight_grid(Quantization(**settings), bits) == want


def test_whatever_passes_fits_its_targets_types():
    """Every combination of the settings that rules are about: refused by name, or storable."""
    passed = 0
    for target, mode, granularity, affine, symmetric, bits in itertools.product(
            get_args(Target), ("static", "dynamic", "weight_only"), ("tensor", "channel", "group"),
            (False, True), (False, True), BITS):
        config = Quantization(target=target, mode=mode, granularity=granularity, weights=bits,
                              affine_weights=affine, symmetric=symmetric, activations=bits,
                              operators=("linear",))
        if any(rule.broken(config) for rule in rules_of(target)):
            with pytest.raises(UsageError, match=f"^rule (scheme|{target})/"):
                check_scheme(config)
            continue
        passed += 1
        signed = RULES[target].signed_activations
        low, high = activation_grid(config, bits).limits
        assert (-128 if signed else 0) <= low < high <= (127 if signed else 255)
        low, high = weight_grid(config, bits).limits
        assert -128 <= low < high <= 127
    assert passed > 50
