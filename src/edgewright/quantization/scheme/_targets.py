"""What each runtime can store and run, and which schemes it therefore refuses.

`docs/targets.md` lists the rules with where each was read or how it was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, final

from edgewright.errors import UsageError
from edgewright.quantization.scheme._config import Quantization, Target
from edgewright.quantization.scheme._grid import Grid
from edgewright.quantization.scheme._precision import BITS

Mode = Literal["static", "dynamic", "weight_only"]
Granularity = Literal["tensor", "channel", "group"]

_LEAST_GROUP: Final = 16  # of the kernel that reads grouped weights


@final
@dataclass(frozen=True)
class TargetRules:
    """What one runtime can store and run.

    Fewer than 8 bits are stored, not computed: every target computes in 8. All of them take
    affine activations with one scale a tensor, symmetric int8 weights of any bits, int32 biases,
    and no runtime needs scales that are powers of two; where values are only moved, or the
    greatest is chosen, all want result and input on one grid.

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

    name: Target
    signed_activations: bool
    modes: tuple[Mode, ...] = ("static", "dynamic", "weight_only")
    activation_bits: tuple[int, ...] = BITS
    affine_weights: bool = True
    granularities: tuple[Granularity, ...] = ("tensor", "channel", "group")
    one_grid: bool = False
    fuses_sums: bool = False
    pads_with_infinity: bool = True
    pool_rounding: PoolRounding | None = None
    timed: bool = False
    stores_weights: bool = True
    reasons: Mapping[str, str] = field(default_factory=dict)


_NO_CLAMP: Final = "its quantised operators clamp to the whole of int8"
_GROUP_KERNEL: Final = "MatMulNBits, which reads grouped weights, has no others"

RULES: Final[Mapping[Target, TargetRules]] = MappingProxyType({rules.name: rules for rules in (
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
        affine_weights=False, granularities=("tensor", "channel"), one_grid=True,
        pool_rounding="even", stores_weights=False,
        reasons={
            "stores-weights": "XNNPACK reads integer weights in kernels of integers and in linear "
                              "layers alone",
            "mode": "XNNPACK does not run integer weights with floating-point activations",
            "activation-bits": _NO_CLAMP,
            "affine-weights": "XNNPACK's quantised kernels take symmetric weights",
            "granularity": "XNNPACK runs groups only with dynamic activations, and ours are for "
                           "weight_only"}),
    TargetRules(
        "litert", signed_activations=True, modes=("static", "weight_only"), activation_bits=(8,),
        affine_weights=False, granularities=("tensor", "channel"), one_grid=True,
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


def activation_grid(config: Quantization, bits: int) -> Grid:
    """The grid of activations of ``bits`` bits. One bit is symmetric in every scheme.

    Example:
        >>> activation_grid(Quantization(), 4).limits
        (0, 15)
        >>> activation_grid(Quantization(target="litert"), 8).limits
        (-128, 127)
    """
    return Grid(bits, signed=RULES[config.target].signed_activations,
                symmetric=config.symmetric or bits == 1, power_of_two=config.power_of_two,
                role="activation")


def weight_grid(config: Quantization, bits: int, axis: int | None = 0) -> Grid:
    """The grid of weights of ``bits`` bits whose output channels lie along dimension ``axis``;
    None for one scale in all.

    Symmetric 8-bit weights leave out -128, which LiteRT's specification demands and the others
    do too; with fewer bits every integer counts, and none comes near the type's end. One bit is
    symmetric in every scheme.

    Example:
        >>> weight_grid(Quantization(), 8).limits, weight_grid(Quantization(), 4).limits
        ((-127, 127), (-8, 7))
    """
    symmetric = bits == 1 or not config.affine_weights
    return Grid(bits, signed=True, symmetric=symmetric,
                axis=None if config.granularity == "tensor" else axis,
                group=config.group_size if config.granularity == "group" else None,
                power_of_two=config.power_of_two, narrow=symmetric and bits == 8, role="weight")


def check_scheme(config: Quantization) -> None:
    """Refuse a scheme that contradicts itself or that its target cannot run.

    What a scheme does not use is not looked at: activations' bits with ``weight_only``, what
    calibration finds ranges by with ``dynamic``, or what ``qat`` learns with ``ptq``.

    Raises:
        UsageError: A rule is broken; its name, the values, what is allowed and why are given.

    Example:
        >>> check_scheme(Quantization(target="litert", affine_weights=True))
        Traceback (most recent call last):
            ...
        edgewright.errors.UsageError: rule litert/affine-weights: affine_weights=True; litert \
takes False, because its 8-bit specification fixes the zero point of weights at 0; change it, or \
the target
    """
    for rule in rules_of(config.target):
        if rule.broken(config):
            raise UsageError(f"rule {rule.name}: {_given(config, rule.fields)}; {rule.demand}")


class Rule(NamedTuple):
    """What a scheme has to keep.

    Attributes:
        name: Stable: ``scheme/...`` or the target's.
        fields: Settings it is about.
        broken: Whether a scheme breaks it.
        demand: What is allowed, why, and what to do.
    """

    name: str
    fields: tuple[str, ...]
    broken: Callable[[Quantization], bool]
    demand: str


def rules_of(target: Target) -> tuple[Rule, ...]:
    """Every rule for a target: of the scheme itself, then of the runtime."""
    rules = RULES[target]
    limits = (
        _Limit("mode", ("mode",), lambda c: c.mode in rules.modes, rules.modes),
        _Limit("activation-bits", ("activations", "layers"),
               lambda c: _activation_bits(c) <= set(rules.activation_bits), rules.activation_bits),
        _Limit("affine-weights", ("affine_weights",),
               lambda c: rules.affine_weights or not c.affine_weights, (False,)),
        _Limit("granularity", ("granularity",),
               lambda c: c.granularity in rules.granularities, rules.granularities),
        _Limit("group-size", ("group_size",),
               lambda c: not _has_group(c) or _is_group_size(c.group_size),
               (f"powers of two from {_LEAST_GROUP}",)),
    )
    return (*_SCHEME, *(_target_rule(rules, limit) for limit in limits
                        if limit.name in rules.reasons))


class _Limit(NamedTuple):
    name: str
    fields: tuple[str, ...]
    holds: Callable[[Quantization], bool]
    allowed: tuple[object, ...]


def _target_rule(rules: TargetRules, limit: _Limit) -> Rule:
    allowed = " or ".join(str(value) for value in limit.allowed)
    return Rule(f"{rules.name}/{limit.name}", limit.fields, lambda c: not limit.holds(c),
                f"{rules.name} takes {allowed}, because {rules.reasons[limit.name]}; "
                "change it, or the target")


def _given(config: Quantization, fields: tuple[str, ...]) -> str:
    values = {name: getattr(config, name) for name in fields}
    return ", ".join(f"{name}={value!r}" for name, value in values.items() if value != {})


def _weight_bits(config: Quantization) -> set[int]:
    own = {precision.weights for precision in config.layers.values() if precision is not None}
    return {config.weights} | {bits for bits in own if bits is not None}


def _activation_bits(config: Quantization) -> set[int]:
    """Bits that activations are quantised to."""
    if config.mode == "weight_only":
        return set()
    own = {precision.activations for precision in config.layers.values() if precision is not None}
    return {config.activations} | {bits for bits in own if bits is not None}


def _is_group_size(size: int) -> bool:
    return size >= _LEAST_GROUP and size & (size - 1) == 0


def _has_group(config: Quantization) -> bool:
    return config.granularity == "group"


def _is_dynamic(config: Quantization) -> bool:
    return config.mode == "dynamic"


def _trains(config: Quantization) -> bool:
    return config.method == "qat"


_RUNNING: Final = {
    "static": {"convolution", "linear", "elementwise", "other"},
    "dynamic": {"convolution", "linear", "other"},
    "weight_only": {"convolution", "linear", "other"},
}


_SCHEME: Final = (
    Rule("scheme/operators", ("operators", "mode"),
         lambda c: not _RUNNING[c.mode] & set(c.operators),
         "that quantizes nothing: only static ranges have integers for sums and products of two "
         "values; name 'convolution', 'linear' or 'other', or use mode='static'"),
    Rule("scheme/binary-training", ("weights", "activations", "layers", "method"),
         lambda c: not _trains(c) and 1 in _weight_bits(c) | _activation_bits(c),
         "one bit leaves two levels, which only a network that was trained with them gets on "
         "with; use method='qat', or at least 2 bits"),
    Rule("scheme/rounding-training", ("rounding", "method"),
         lambda c: _trains(c) and c.rounding != "nearest",
         "adaround and brecq choose how fixed weights are rounded, qat moves the weights "
         "themselves; leave rounding='nearest', or use method='ptq'"),
    Rule("scheme/bias-training", ("correct_bias", "method"),
         lambda c: _trains(c) and c.correct_bias,
         "qat learns the biases of the quantised network; leave correct_bias=False, or use "
         "method='ptq'"),
    Rule("scheme/equalize-training", ("equalize", "method"),
         lambda c: _trains(c) and c.equalize,
         "equalisation needs batch norms folded into the layers, qat keeps them to train; leave "
         "equalize=False, or use method='ptq'"),
    Rule("scheme/dynamic-training", ("mode", "method"),
         lambda c: _is_dynamic(c) and _trains(c),
         "dynamic ranges are taken from each input, so qat would have none to learn; use "
         "mode='static', or method='ptq'"),
    Rule("scheme/dynamic-bits", ("mode", "activations", "layers"),
         lambda c: _is_dynamic(c) and _activation_bits(c) != {8},
         "runtimes quantise to 8 bits while running; use activations=8, or mode='static'"),
    Rule("scheme/dynamic-symmetric", ("mode", "symmetric"),
         lambda c: _is_dynamic(c) and c.symmetric,
         "runtimes choose a zero point with the range while running; use symmetric=False, or "
         "mode='static'"),
    Rule("scheme/dynamic-power-of-two", ("mode", "power_of_two"),
         lambda c: _is_dynamic(c) and c.power_of_two,
         "runtimes do not round the scales they choose while running; use power_of_two=False, or "
         "mode='static'"),
    Rule("scheme/group-mode", ("granularity", "mode"),
         lambda c: _has_group(c) and c.mode != "weight_only",
         "products of integers are summed over a whole output channel before they are scaled; "
         "use mode='weight_only', or granularity='channel'"),
    Rule("scheme/group-operators", ("granularity", "operators"),
         lambda c: _has_group(c) and "linear" not in c.operators,
         "groups divide the inputs of linear layers, the others have a scale a channel; add "
         "'linear', or use granularity='channel'"),
    Rule("scheme/group-training", ("granularity", "method"),
         lambda c: _has_group(c) and _trains(c),
         "qat learns a scale for a tensor or a channel; use method='ptq', or "
         "granularity='channel'"),
    Rule("scheme/group-power-of-two", ("granularity", "power_of_two"),
         lambda c: _has_group(c) and c.power_of_two,
         "hardware that only shifts has no sums within groups; use power_of_two=False, or "
         "granularity='channel'"),
)


PoolRounding = Literal["away", "even"]
