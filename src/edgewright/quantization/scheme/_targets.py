"""What each runtime can store and run.

`docs/targets.md` lists the rules with where each was read or how it was measured.
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
    """What one runtime can store and run.

    Fewer than 8 bits are stored, not computed: every target computes in 8. All of them take
    affine activations with one scale per tensor, symmetric int8 weights of any bits, int32 biases,
    and no runtime needs scales that are powers of two; where values are only moved, or the
    greatest is chosen, all want result and input on one grid.

    A runtime of your own is a `TargetRules` too: ``Quantization(target=TargetRules("mine", ...))``.

    Attributes:
        name: The target.
        signed_activations: Activations are stored as int8, else as uint8.
        modes: How activations may be quantised.
        activation_bits: Bits an activation can have. Below 8 a value has to be clamped to fewer
            integers than its type has.
        affine_weights: Weights may have zero points.
        granularities: What may share a scale in the weights.
        one_grid: What averages or joins values has its result and its inputs on one grid; else
            the result has its own, and no more is rounded away than there.
        fuses_sums: A sum is computed with a convolution that it adds, in floating point: the
            convolution's result is on no grid in between, whatever the file says.
        pads_with_infinity: What was quantised may be padded with infinity; else it stays in
            floating point there.
        pool_rounding: How averages over windows round on one grid, as `average_integers` says.
        timed: Layers can be timed one by one for a limit on latency: it is ONNX Runtime, which
            `measure_precisions` runs.
        stores_weights: Weights that no kernel of integers reads may be integers in the file; else
            they stay in floating point.
        reasons: Why, by rule; what has none is not limited.
    """

    name: str
    signed_activations: bool
    modes: tuple[ActivationMode, ...] = ("static", "dynamic", "weight_only")
    activation_bits: tuple[int, ...] = BITS
    affine_weights: bool = True
    granularities: tuple[GranularityName, ...] = ("per_tensor", "per_channel", "per_group")
    one_grid: bool = False
    fuses_sums: bool = False
    pads_with_infinity: bool = True
    pool_rounding: PoolRounding | None = None
    timed: bool = False
    stores_weights: bool = True
    reasons: Mapping[str, str] = field(default_factory=dict)


_NO_CLAMP: Final = "its quantised operators clamp to the whole of int8"
_GROUP_KERNEL: Final = "MatMulNBits, which reads grouped weights, has no others"

TARGETS: Final[Mapping[str, TargetRules]] = MappingProxyType({rules.name: rules for rules in (
    TargetRules(
        "onnxruntime", signed_activations=False, timed=True,
        reasons={"group-size": _GROUP_KERNEL}),
    TargetRules(
        "onnxruntime-arm", signed_activations=False, timed=True,
        reasons={"group-size": _GROUP_KERNEL}),
    TargetRules(
        "openvino", signed_activations=False, modes=("static", "weight_only"),
        fuses_sums=True, pads_with_infinity=False,
        reasons={
            "mode": "its integer kernels take ranges that are constants of the file",
            "group-size": _GROUP_KERNEL}),
    TargetRules(
        "executorch", signed_activations=True, modes=("static", "dynamic"), activation_bits=(8,),
        affine_weights=False, granularities=("per_tensor", "per_channel"), one_grid=True,
        pool_rounding="even", stores_weights=False,
        reasons={
            "stores-weights": "XNNPACK reads integer weights in kernels of integers and in linear "
                              "layers alone",
            "mode": "XNNPACK does not run integer weights with floating-point activations",
            "activation-bits": _NO_CLAMP,
            "affine-weights": "XNNPACK's quantised kernels take symmetric weights",
            "granularity": "XNNPACK runs groups only with dynamic activations, and ours are for "
                           "activations=None"}),
    TargetRules(
        "litert", signed_activations=True, modes=("static", "weight_only"), activation_bits=(8,),
        affine_weights=False, granularities=("per_tensor", "per_channel"), one_grid=True,
        pool_rounding="away", stores_weights=False,
        reasons={
            "stores-weights": "its converter computes what is not a kernel's weight and writes "
                              "floating point",
            "mode": "its dynamic kernels choose a grid of their own for each row, so the file "
                    "would not compute what the program does",
            "activation-bits": _NO_CLAMP,
            "affine-weights": "its 8-bit specification fixes the zero point of weights at 0",
            "granularity": "its 8-bit specification has scales for a tensor or an axis"}),
)})


def _by_name(value: Any) -> Any:
    if isinstance(value, str):
        if value not in TARGETS:
            *names, last = map(repr, TARGETS)
            raise PydanticCustomError("target", "Input should be {expected}", {
                "expected": f"{', '.join(names)} or {last}, or TargetRules"})
        return TARGETS[value]
    return value


def _written(rules: TargetRules) -> Any:
    return rules.name if TARGETS.get(rules.name) == rules else _ADAPTER.dump_python(rules)


Target: TypeAlias = Annotated[TargetRules, BeforeValidator(_by_name), PlainSerializer(_written)]
_ADAPTER: Final = TypeAdapter(TargetRules)
