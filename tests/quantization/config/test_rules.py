"""Rules of schemes and targets: each rejects what it should, and accepted schemes have grids."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgewright.errors import UsageError
from edgewright.quantization import (
    PTQ,
    QAT,
    Grid,
    MixedPrecision,
    PerGroup,
    Precision,
    Quantization,
    StaticRange,
    TargetRules,
    resolve,
)
from edgewright.quantization.config._rules import rules_of
from edgewright.quantization.scheme import TARGETS
from edgewright.quantization.scheme._precision import BITS

GROUPED = {"activations": None, "granularity": "per_group", "operators": ("linear",)}
CLAMP = ("because its quantized operators clamp to the full int8 range; change the setting or the "
         "target")
KERNEL = ("accepts powers of two from 16, because MatMulNBits, the kernel for grouped weights, "
          "supports no other sizes; change the setting or the target")
BROKEN = [
    ("scheme/operators", {"operators": ()},
     "operators=(), activations=8; this quantizes nothing, because additions and multiplications "
     "of two tensors need static ranges; add 'convolution', 'linear' or 'other', or use "
     "activations=8"),
    ("scheme/operators", {"operators": ("elementwise",), "activations": None},
     "operators=('elementwise',), activations=None; this quantizes nothing"),
    ("scheme/operators", {"operators": ("elementwise",), "activations": "dynamic"},
     "operators=('elementwise',), activations='dynamic'; this quantizes nothing"),
    ("scheme/binary-training", {"weights": 1},
     "weights=1, activations=8, method='ptq'; 1-bit networks have only two levels and must be "
     "trained with them; use method='qat', or at least 2 bits"),
    ("scheme/binary-training", {"activations": 1}, "weights=8, activations=1, method='ptq'; 1-bit"),
    ("scheme/binary-training", {"layers": {"stem": Precision(weights=1)}},
     "weights=8, activations=8, layers={'stem': Precision(weights=1, activations=8)}, "
     "method='ptq'; 1-bit"),
    ("scheme/binary-training", {"mixed": MixedPrecision(size=9, weights=(8, 1))},
     "weights=8, activations=8, mixed=MixedPrecision(size=9.0"),
    ("scheme/dynamic-training", {"activations": "dynamic", "method": "qat"},
     "activations='dynamic', method='qat'; dynamic ranges are computed from each input, so qat "
     "has no ranges to learn"),
    ("scheme/dynamic-bits", {"activations": "dynamic", "layers": {"a": Precision(activations=2)}},
     "activations='dynamic', layers={'a': Precision(weights=8, activations=2)}; runtimes quantize "
     "dynamically to 8 bits only; use activations=8 in layers and mixed, or static ranges"),
    ("scheme/dynamic-power-of-two", {"activations": "dynamic", "power_of_two": True},
     "activations='dynamic', power_of_two=True; runtimes do not round dynamic scales"),
    ("scheme/group-mode", GROUPED | {"activations": 8},
     "granularity='per_group', activations=8; integer kernels sum the products of a whole "
     "output channel before they scale them"),
    ("scheme/group-operators", GROUPED | {"operators": ("convolution",)},
     "granularity='per_group', operators=('convolution',); only linear layers have "
     "groups, other layers have one scale per channel; add 'linear'"),
    ("scheme/group-training", GROUPED | {"method": "qat"},
     "granularity='per_group', method='qat'; qat learns one scale per tensor or per channel"),
    ("scheme/group-power-of-two", GROUPED | {"power_of_two": True},
     "granularity='per_group', power_of_two=True; hardware that only shifts"),
    ("scheme/mixed-latency", {"mixed": MixedPrecision(latency=0.5), "activations": None},
     "mixed=MixedPrecision("),
    ("onnxruntime/group-size", GROUPED | {"granularity": PerGroup(48)},
     f"granularity={{'per_group': 48}}; onnxruntime {KERNEL}"),
    ("onnxruntime-arm/group-size", GROUPED | {"granularity": PerGroup(8),
                                              "target": "onnxruntime-arm"},
     f"granularity={{'per_group': 8}}; onnxruntime-arm {KERNEL}"),
    ("openvino/group-size", GROUPED | {"granularity": {"per_group": 24}, "target": "openvino"},
     f"granularity={{'per_group': 24}}; openvino {KERNEL}"),
    ("c/mode", {"activations": "dynamic", "target": "c"},
     "activations='dynamic'; c accepts static ranges, because it computes with integers alone"),
    ("openvino/mode", {"activations": "dynamic", "target": "openvino"},
     "activations='dynamic'; openvino accepts static ranges or None (weights only), because its "
     "integer kernels need ranges that are constants in the file; change the setting or the target"),
    ("executorch/mode", {"activations": None, "target": "executorch"},
     "activations=None; executorch accepts static ranges or dynamic ranges, because XNNPACK does "
     "not run integer weights with floating-point activations"),
    ("executorch/activation-bits", {"activations": 4, "target": "executorch"},
     f"activations=4; executorch accepts 8, {CLAMP}"),
    ("executorch/affine-weights", {"affine_weights": True, "target": "executorch"},
     "affine_weights=True; executorch accepts False, because XNNPACK's quantized kernels "
     "require symmetric weights"),
    ("litert/mode", {"activations": "dynamic", "target": "litert"},
     "activations='dynamic'; litert accepts static ranges or None (weights only), because its "
     "dynamic kernels choose a separate grid for each row"),
    ("litert/activation-bits", {"layers": {"*": Precision(activations=3)}, "target": "litert"},
     "activations=8, layers={'*': Precision(weights=8, activations=3)}; litert accepts 8, " + CLAMP),
    ("litert/affine-weights", {"affine_weights": True, "target": "litert"},
     "affine_weights=True; litert accepts False, because its 8-bit specification fixes the zero "
     "point of weights at 0"),
    ("litert/granularity", GROUPED | {"target": "litert"},
     "granularity='per_group'; litert accepts per_tensor or per_channel, because its 8-bit "
     "specification has scales per tensor or per axis only"),
]

UNREPRESENTABLE = [
    ({"method": {"qat": {"rounding": "brecq"}}}, "method.qat.rounding: unknown setting"),
    ({"method": {"qat": {"correct_bias": True}}}, "method.qat.correct_bias: unknown setting"),
    ({"method": {"qat": {"equalize": True}}}, "method.qat.equalize: unknown setting"),
    ({"method": {"ptq": {"quantizer": "pact"}}}, "method.ptq.quantizer: unknown setting"),
    ({"method": {"ptq": {"rounding": {"nearest": 9}}}},
     "method.ptq.rounding: Input should be 'nearest', 'adaround' or 'brecq'"),
    ({"activations": {"dynamic": {"symmetric": True}}}, "activations.dynamic.symmetric: unknown setting"),
    ({"activations": {"dynamic": {"bits": 4}}}, "activations.dynamic.bits: unknown setting"),
    ({"granularity": {"per_channel": {"size": 7}}}, "granularity.per_channel.size: unknown setting"),
    ({"range_estimator": {"mse": {"percent": 99}}}, "range_estimator.mse.percent: unknown setting"),
]


@pytest.mark.parametrize(("settings", "message"), UNREPRESENTABLE)
def test_settings_of_another_class_are_rejected(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^Quantization: {message}"):
        Quantization(**settings)


@pytest.mark.parametrize(("name", "settings", "message"), BROKEN)
def test_broken_rules_report_their_name_value_and_remedy(name: str, settings: Any,
                                                         message: Any) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(Quantization(**settings))
    assert str(caught.value).startswith(f"rule {name}: {message}")
    assert caught.value.exit_code == 2


def rule_names() -> Any:
    return {rule.name for target in TARGETS.values() for rule in rules_of(target)}


def test_every_reachable_rule_is_tested() -> None:
    """Groups are for weights alone, which these refuse before they come to the groups."""
    assert rule_names() - {name for name, _, _ in BROKEN} == {"executorch/granularity",
                                                              "c/granularity"}
    target = TARGETS["executorch"]
    rule = next(rule for rule in rules_of(target) if rule.name == "executorch/granularity")
    assert rule.is_broken(dataclasses.replace(resolve(Quantization(**GROUPED)), target=target))
    assert rule.remedy.startswith("executorch accepts per_tensor or per_channel, because XNNPACK "
                                  "supports groups only with dynamic activations")


def test_every_rule_is_documented() -> None:
    text = (Path(__file__).parents[3] / "docs" / "targets.md").read_text(encoding="utf-8")
    assert [name for name in sorted(rule_names()) if f"`{name}`" not in text] == []


def test_every_limit_of_a_target_has_a_reason_and_every_reason_a_limit() -> None:
    free = TARGETS["onnxruntime"]
    for rules in TARGETS.values():
        limited = {name for name, field in {
            "mode": "activation_modes", "activation-bits": "activation_bits",
            "affine-weights": "affine_weights", "granularity": "granularities",
            "stores-weights": "stores_weights"}.items()
            if getattr(rules, field) != getattr(free, field)}
        assert set(rules.reasons) - {"group-size"} == limited
        assert ("group-size" in rules.reasons) == ("per_group" in rules.granularities)
        assert all(rules.reasons.values())


def test_there_are_rules_for_every_target() -> None:
    assert list(TARGETS) == [
        "onnxruntime", "onnxruntime-arm", "openvino", "executorch", "litert", "c"]
    assert all(rules.name == target for target, rules in TARGETS.items())
    assert {target for target, rules in TARGETS.items() if rules.signed_activations} == {
        "executorch", "litert"}
    assert {target for target, rules in TARGETS.items() if rules.one_grid} == {
        "executorch", "litert"}
    assert {target for target, rules in TARGETS.items() if rules.fuses_sums} == {"openvino"}
    assert {target for target, rules in TARGETS.items() if not rules.pads_with_infinity} == {
        "openvino", "c"}
    assert {target for target, rules in TARGETS.items() if rules.integers_only} == {"c"}


@pytest.mark.parametrize("settings", [
    {}, {"method": "qat"}, {"weights": 2, "activations": 4}, {"weights": 3},
    {"weights": 1, "activations": 1, "method": "qat"}, {"affine_weights": True},
    {"activations": StaticRange(symmetric=True), "power_of_two": True},
    {"granularity": "per_tensor"}, {"activations": "dynamic"},
    {"activations": None, "weights": 4}, GROUPED, GROUPED | {"affine_weights": True},
    GROUPED | {"method": PTQ(rounding="adaround", correct_bias=True, equalize=True)},
    {"layers": {"head": None, "stem": Precision(weights=None, activations=None)}},
    {"method": QAT(quantizer="pact")}, {"operators": ("elementwise",)},
    {"granularity": "per_channel"}, GROUPED | {"operators": ("convolution", "linear")},
])
def test_grids_match_onnx_runtime(settings: Any) -> None:
    assert resolve(Quantization(**settings)).target.name == "onnxruntime"
    assert resolve(Quantization(**settings, target="onnxruntime-arm")).target.timed


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("weights", [8, 4, 3, 2])
def test_every_target_stores_weights_of_few_bits(target: Any, weights: int) -> None:
    assert resolve(Quantization(weights=weights, target=target)).precision.weights == weights


def test_weight_only_mode_ignores_activation_bits() -> None:
    config = Quantization(activations=None, layers={"a": Precision(activations=4)}, target="litert")
    assert resolve(config).activation_mode == "weight_only"


def test_user_defined_targets_have_their_own_rules() -> None:
    target = TargetRules("mine", signed_activations=True, affine_weights=False,
                         reasons={"affine-weights": "its kernels have no zero points"})
    config = Quantization(target=target)
    assert resolve(config).activation_grid(8).signed
    assert Quantization.model_validate(config.model_dump(mode="json")) == config
    with pytest.raises(UsageError, match=r"^rule mine/affine-weights: affine_weights=True; mine "
                                         "accepts False, because its kernels have no zero points"):
        resolve(config.replace(affine_weights=True))


@pytest.mark.parametrize(("settings", "bits", "want"), [
    ({}, 8, Grid(8, signed=False, symmetric=False, role="activation")),
    ({}, 1, Grid(1, signed=False, symmetric=True, role="activation")),
    ({"activations": StaticRange(symmetric=True)}, 4,
     Grid(4, signed=False, symmetric=True, role="activation")),
    ({"power_of_two": True}, 2,
     Grid(2, signed=False, symmetric=False, power_of_two=True, role="activation")),
    ({"target": "litert"}, 8, Grid(8, signed=True, symmetric=False, role="activation")),
    ({"target": "executorch", "activations": StaticRange(symmetric=True)}, 8,
     Grid(8, signed=True, symmetric=True, role="activation")),
])
def test_activation_grids(settings: dict[str, Any], bits: int, want: Any) -> None:
    assert resolve(Quantization(**settings)).activation_grid(bits) == want


@pytest.mark.parametrize(("settings", "bits", "want"), [
    ({}, 8, Grid(8, signed=True, symmetric=True, axis=0, narrow=True, role="weight")),
    ({}, 4, Grid(4, signed=True, symmetric=True, axis=0, role="weight")),
    ({"granularity": "per_tensor"}, 8,
     Grid(8, signed=True, symmetric=True, narrow=True, role="weight")),
    ({"affine_weights": True}, 8, Grid(8, signed=True, symmetric=False, axis=0, role="weight")),
    ({"affine_weights": True}, 1, Grid(1, signed=True, symmetric=True, axis=0, role="weight")),
    (GROUPED, 4, Grid(4, signed=True, symmetric=True, axis=0, group=32, role="weight")),
    (GROUPED | {"affine_weights": True, "granularity": PerGroup(64)}, 2,
     Grid(2, signed=True, symmetric=False, axis=0, group=64, role="weight")),
    ({"power_of_two": True}, 8,
     Grid(8, signed=True, symmetric=True, axis=0, narrow=True, power_of_two=True, role="weight")),
])
def test_weight_grids(settings: Any, bits: int, want: Any) -> None:
    assert resolve(Quantization(**settings)).weight_grid(bits, inputs=128) == want


def test_accepted_schemes_fit_the_types_of_their_target() -> None:
    """Every combination of the settings that rules are about: refused by name, or storable."""
    passed = 0
    combinations: Iterator[Any] = itertools.product(
        TARGETS, ("static", "symmetric", "dynamic", None),
        ("per_tensor", "per_channel", "per_group"), (False, True), BITS)
    for target, ranges, granularity, affine, bits in combinations:
        activations = StaticRange(bits, symmetric=ranges == "symmetric") \
            if ranges in ("static", "symmetric") else ranges
        config = Quantization(target=target, activations=activations, granularity=granularity,
                              weights=bits, affine_weights=affine, operators=("linear",))
        try:
            scheme = resolve(config)
        except UsageError:
            with pytest.raises(UsageError, match=f"^rule (scheme|{target})/"):
                resolve(config)
            continue
        passed += 1
        signed = TARGETS[target].signed_activations
        low, high = scheme.activation_grid(bits).limits
        assert (-128 if signed else 0) <= low < high <= (127 if signed else 255)
        low, high = scheme.weight_grid(bits, inputs=64).limits
        assert -128 <= low < high <= 127
    assert passed > 50
