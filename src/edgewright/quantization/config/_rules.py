"""The rules of a scheme, its own and its target's, which `resolve` checks.

`docs/targets.md` lists them with where each was read or how it was measured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from edgewright.quantization.scheme import (
    GRANULARITIES,
    QAT,
    ActivationMode,
    PerGroup,
    Scheme,
    TargetRules,
)

_LEAST_GROUP: Final = 16  # of the kernel that reads grouped weights
_WORDS: Final[dict[ActivationMode, str]] = {
    "static": "static ranges", "dynamic": "dynamic ranges", "weight_only": "None (weights only)"}


class Rule(NamedTuple):
    """What a scheme has to keep.

    Attributes:
        name: Stable: ``scheme/...`` or the target's.
        fields: Settings of `Quantization` it is about.
        broken: Whether a scheme breaks it.
        demand: What is allowed, why, and what to do.
    """

    name: str
    fields: tuple[str, ...]
    broken: Callable[[Scheme], bool]
    demand: str


def rules_of(target: TargetRules) -> tuple[Rule, ...]:
    """Every rule for a target: of the scheme itself, then of the runtime."""
    limits = (
        _Limit("mode", ("activations",), lambda s: s.mode in target.modes,
               tuple(_WORDS[mode] for mode in target.modes)),
        _Limit("activation-bits", ("activations", "layers", "mixed"),
               lambda s: _activation_bits(s) <= set(target.activation_bits),
               target.activation_bits),
        _Limit("affine-weights", ("affine_weights",),
               lambda s: target.affine_weights or not s.affine_weights, (False,)),
        _Limit("granularity", ("granularity",),
               lambda s: GRANULARITIES.name_of(s.granularity) in target.granularities,
               target.granularities),
        _Limit("group-size", ("granularity",),
               lambda s: not isinstance(s.granularity, PerGroup)
               or _is_group_size(s.granularity.size), (f"powers of two from {_LEAST_GROUP}",)),
    )
    return (*_SCHEME, *(_target_rule(target, limit) for limit in limits
                        if limit.name in target.reasons))


class _Limit(NamedTuple):
    name: str
    fields: tuple[str, ...]
    holds: Callable[[Scheme], bool]
    allowed: tuple[object, ...]


def _target_rule(target: TargetRules, limit: _Limit) -> Rule:
    allowed = " or ".join(str(value) for value in limit.allowed)
    return Rule(f"{target.name}/{limit.name}", limit.fields, lambda s: not limit.holds(s),
                f"{target.name} takes {allowed}, because {target.reasons[limit.name]}; "
                "change it, or the target")


def _weight_bits(scheme: Scheme) -> set[int]:
    """Bits that weights are quantized to, or may be by mixed precision."""
    own = {precision.weights for precision in scheme.layers.values() if precision is not None}
    chosen = () if scheme.mixed is None else scheme.mixed.weights
    return {bits for bits in (scheme.precision.weights, *own, *chosen) if bits is not None}


def _activation_bits(scheme: Scheme) -> set[int]:
    """Bits that activations are quantized to, or may be by mixed precision."""
    if scheme.mode == "weight_only":
        return set()
    own = {precision.activations for precision in scheme.layers.values() if precision is not None}
    chosen = () if scheme.mixed is None else scheme.mixed.activations
    return {bits for bits in (scheme.precision.activations, *own, *chosen) if bits is not None}


def _is_group_size(size: int) -> bool:
    return size >= _LEAST_GROUP and size & (size - 1) == 0


def _has_group(scheme: Scheme) -> bool:
    return isinstance(scheme.granularity, PerGroup)


def _is_dynamic(scheme: Scheme) -> bool:
    return scheme.mode == "dynamic"


def _trains(scheme: Scheme) -> bool:
    return isinstance(scheme.method, QAT)


def _limits_latency(scheme: Scheme) -> bool:
    return scheme.mixed is not None and scheme.mixed.latency is not None


_RUNNING: Final[dict[ActivationMode, set[str]]] = {
    "static": {"convolution", "linear", "elementwise", "other"},
    "dynamic": {"convolution", "linear", "other"},
    "weight_only": {"convolution", "linear", "other"},
}


_SCHEME: Final = (
    Rule("scheme/operators", ("operators", "activations"),
         lambda s: not _RUNNING[s.mode] & set(s.operators),
         "that quantizes nothing: only static ranges have integers for sums and products of two "
         "values; name 'convolution', 'linear' or 'other', or use activations=8"),
    Rule("scheme/binary-training", ("weights", "activations", "layers", "mixed", "method"),
         lambda s: not _trains(s) and 1 in _weight_bits(s) | _activation_bits(s),
         "one bit leaves two levels, which only a network that was trained with them gets on "
         "with; use method='qat', or at least 2 bits"),
    Rule("scheme/dynamic-training", ("activations", "method"),
         lambda s: _is_dynamic(s) and _trains(s),
         "dynamic ranges are taken from each input, so qat would have none to learn; use "
         "activations=8, or method='ptq'"),
    Rule("scheme/dynamic-bits", ("activations", "layers", "mixed"),
         lambda s: _is_dynamic(s) and _activation_bits(s) != {8},
         "runtimes quantize to 8 bits while running; use activations=8 in layers and mixed, or "
         "static ranges"),
    Rule("scheme/dynamic-power-of-two", ("activations", "power_of_two"),
         lambda s: _is_dynamic(s) and s.power_of_two,
         "runtimes do not round the scales they choose while running; use power_of_two=False, or "
         "static ranges"),
    Rule("scheme/group-mode", ("granularity", "activations"),
         lambda s: _has_group(s) and s.mode != "weight_only",
         "products of integers are summed over a whole output channel before they are scaled; "
         "use activations=None, or granularity='per_channel'"),
    Rule("scheme/group-operators", ("granularity", "operators"),
         lambda s: _has_group(s) and "linear" not in s.operators,
         "groups divide the inputs of linear layers, the others have a scale per channel; add "
         "'linear', or use granularity='per_channel'"),
    Rule("scheme/group-training", ("granularity", "method"),
         lambda s: _has_group(s) and _trains(s),
         "qat learns a scale for a tensor or a channel; use method='ptq', or "
         "granularity='per_channel'"),
    Rule("scheme/group-power-of-two", ("granularity", "power_of_two"),
         lambda s: _has_group(s) and s.power_of_two,
         "hardware that only shifts has no sums within groups; use power_of_two=False, or "
         "granularity='per_channel'"),
    Rule("scheme/mixed-latency", ("mixed", "activations", "target"),
         lambda s: _limits_latency(s) and not (s.mode == "static" and s.target.timed),
         "latency is measured with static ranges on ONNX Runtime; limit size or bit_ops"),
)
