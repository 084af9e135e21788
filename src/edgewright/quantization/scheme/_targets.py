"""What each target runtime can store and run.

`docs/targets.md` lists the rules with the source or the measurement behind each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, TypeAlias, final

from pydantic import BeforeValidator, PlainSerializer, TypeAdapter
from pydantic_core import PydanticCustomError

from edgewright.quantization.scheme._activations import ActivationMode
from edgewright.quantization.scheme._granularity import GranularityName
from edgewright.quantization.scheme._precision import BITS

PoolRounding = Literal["away", "even"]


@final
@dataclass(frozen=True)
class TargetRules:
    """What a target runtime can store and run.

    Precisions below 8 bits reduce storage only: every target computes in 8 bits. All targets
    support affine activations with one scale per tensor, symmetric int8 weights of any number of
    bits, and int32 biases, and none requires scales that are powers of two. For operators that
    only move values or select the maximum, all require input and result to share a grid.

    For your own runtime, pass ``Quantization(target=TargetRules("mine", ...))``.

    Attributes:
        name: The name of the target.
        signed_activations: Whether activations are stored as int8, otherwise as uint8.
        activation_modes: Supported activation modes.
        activation_bits: Supported bits of activations. Below 8, values must be clamped to fewer
            integers than the integer type has.
        affine_weights: Whether weights may have zero points.
        granularities: Supported granularities of weights.
        one_grid: Whether averages and concatenations require result and inputs to share a grid;
            otherwise the result has its own grid and is rounded only once.
        fuses_sums: Whether an addition is fused with a convolution that feeds it and computed in
            floating point, so that the convolution's result is never quantized, whatever the
            file says.
        integers_only: Whether the target computes with integers alone, so that every value that an
            operator reads is quantized.
        pads_with_infinity: Whether quantized values may be padded with infinity; otherwise such
            values stay in floating point.
        pool_rounding: How averages over windows are rounded when they share a grid with their
            input; see `lower_averages_to_integers`.
        timed: Whether layers can be timed one by one for a latency limit. True for ONNX Runtime,
            which `measure_precisions` runs.
        stores_weights: Whether weights without an integer kernel may be stored as integers;
            otherwise they stay in floating point.
        reasons: The reason for each rule, by name; a rule without a reason does not apply.
    """

    name: str
    signed_activations: bool
    activation_modes: tuple[ActivationMode, ...] = ("static", "dynamic", "weight_only")
    activation_bits: tuple[int, ...] = BITS
    affine_weights: bool = True
    granularities: tuple[GranularityName, ...] = ("per_tensor", "per_channel", "per_group")
    one_grid: bool = False
    fuses_sums: bool = False
    integers_only: bool = False
    pads_with_infinity: bool = True
    pool_rounding: PoolRounding | None = None
    timed: bool = False
    stores_weights: bool = True
    reasons: Mapping[str, str] = field(default_factory=dict)


_NO_CLAMP: Final = "its quantized operators clamp to the full int8 range"
_GROUP_KERNEL: Final = "MatMulNBits, the kernel for grouped weights, supports no other sizes"

TARGETS: Final[Mapping[str, TargetRules]] = MappingProxyType({rules.name: rules for rules in (
    TargetRules(
        "onnxruntime", signed_activations=False, timed=True,
        reasons={"group-size": _GROUP_KERNEL}),
    TargetRules(
        "onnxruntime-arm", signed_activations=False, timed=True,
        reasons={"group-size": _GROUP_KERNEL}),
    TargetRules(
        "openvino", signed_activations=False, activation_modes=("static", "weight_only"),
        fuses_sums=True, pads_with_infinity=False,
        reasons={
            "mode": "its integer kernels need ranges that are constants in the file",
            "group-size": _GROUP_KERNEL}),
    TargetRules(
        "executorch", signed_activations=True, activation_modes=("static", "dynamic"),
        activation_bits=(8,), affine_weights=False,
        granularities=("per_tensor", "per_channel"), one_grid=True,
        pool_rounding="even", stores_weights=False,
        reasons={
            "stores-weights": "XNNPACK reads integer weights only in integer kernels and linear "
                              "layers",
            "mode": "XNNPACK does not run integer weights with floating-point activations",
            "activation-bits": _NO_CLAMP,
            "affine-weights": "XNNPACK's quantized kernels require symmetric weights",
            "granularity": "XNNPACK supports groups only with dynamic activations, but "
                           "Edgewright's groups require activations=None"}),
    TargetRules(
        "litert", signed_activations=True, activation_modes=("static", "weight_only"),
        activation_bits=(8,), affine_weights=False,
        granularities=("per_tensor", "per_channel"), one_grid=True,
        pool_rounding="away", stores_weights=False,
        reasons={
            "stores-weights": "its converter dequantizes weights without an integer kernel and "
                              "writes floating point",
            "mode": "its dynamic kernels choose a separate grid for each row, so the file would "
                    "not match the program",
            "activation-bits": _NO_CLAMP,
            "affine-weights": "its 8-bit specification fixes the zero point of weights at 0",
            "granularity": "its 8-bit specification has scales per tensor or per axis only"}),
    TargetRules(
        "c", signed_activations=False, activation_modes=("static",),
        granularities=("per_tensor", "per_channel"), integers_only=True, pads_with_infinity=False,
        stores_weights=False,
        reasons={
            "stores-weights": "its kernels read integer weights only in integer layers",
            "mode": "it computes with integers alone, whose ranges are known in advance",
            "granularity": "its kernels sum the products of a whole output channel before they "
                           "scale them"}),
)})


def _by_name(value: Any) -> Any:
    if isinstance(value, str):
        if value not in TARGETS:
            *names, last = map(repr, TARGETS)
            raise PydanticCustomError("target", "Input should be {expected}", {
                "expected": f"{', '.join(names)} or {last}, or TargetRules"})
        return TARGETS[value]
    return value


def _serialize(rules: TargetRules) -> Any:
    return rules.name if TARGETS.get(rules.name) == rules else _ADAPTER.dump_python(rules)


DeploymentTarget: TypeAlias = Annotated[
    TargetRules, BeforeValidator(_by_name), PlainSerializer(_serialize)]
_ADAPTER: Final = TypeAdapter(TargetRules)
