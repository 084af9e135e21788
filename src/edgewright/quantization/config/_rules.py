"""The rules of schemes and targets, which `resolve` checks.

`docs/targets.md` lists the rules with the source or the measurement behind each.
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

_MIN_GROUP_SIZE: Final = 16  # smallest group of the kernel for grouped weights
_MODE_NAMES: Final[dict[ActivationMode, str]] = {
    "static": "static ranges", "dynamic": "dynamic ranges", "weight_only": "None (weights only)"}


class Rule(NamedTuple):
    """A rule that a scheme must satisfy.

    Attributes:
        name: Stable name, ``scheme/...`` or ``<target>/...``.
        fields: The settings of `Quantization` that the rule concerns.
        is_broken: Returns whether a scheme breaks the rule.
        remedy: What is allowed, why, and what to do.
    """

    name: str
    fields: tuple[str, ...]
    is_broken: Callable[[Scheme], bool]
    remedy: str


def rules_of(target: TargetRules) -> tuple[Rule, ...]:
    """All rules for a target: those of the scheme itself, then those of the runtime."""
    limits = (
        _Limit("mode", ("activations",), lambda s: s.activation_mode in target.activation_modes,
               tuple(_MODE_NAMES[mode] for mode in target.activation_modes)),
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
               or _is_group_size(s.granularity.size), (f"powers of two from {_MIN_GROUP_SIZE}",)),
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
                f"{target.name} accepts {allowed}, because {target.reasons[limit.name]}; "
                "change the setting or the target")


def _weight_bits(scheme: Scheme) -> set[int]:
    """All bits that weights can have, including candidates of mixed precision."""
    own = {precision.weights for precision in scheme.layers.values() if precision is not None}
    chosen = () if scheme.mixed is None else scheme.mixed.weights
    return {bits for bits in (scheme.precision.weights, *own, *chosen) if bits is not None}


def _activation_bits(scheme: Scheme) -> set[int]:
    """All bits that activations can have, including candidates of mixed precision."""
    if scheme.activation_mode == "weight_only":
        return set()
    own = {precision.activations for precision in scheme.layers.values() if precision is not None}
    chosen = () if scheme.mixed is None else scheme.mixed.activations
    return {bits for bits in (scheme.precision.activations, *own, *chosen) if bits is not None}


def _is_group_size(size: int) -> bool:
    return size >= _MIN_GROUP_SIZE and size & (size - 1) == 0


def _has_group(scheme: Scheme) -> bool:
    return isinstance(scheme.granularity, PerGroup)


def _is_dynamic(scheme: Scheme) -> bool:
    return scheme.activation_mode == "dynamic"


def _trains(scheme: Scheme) -> bool:
    return isinstance(scheme.method, QAT)


def _limits_latency(scheme: Scheme) -> bool:
    return scheme.mixed is not None and scheme.mixed.latency is not None


_QUANTIZABLE: Final[dict[ActivationMode, set[str]]] = {
    "static": {"convolution", "linear", "elementwise", "other"},
    "dynamic": {"convolution", "linear", "other"},
    "weight_only": {"convolution", "linear", "other"},
}


_SCHEME: Final = (
    Rule("scheme/operators", ("operators", "activations"),
         lambda s: not _QUANTIZABLE[s.activation_mode] & set(s.operators),
         "this quantizes nothing, because additions and multiplications of two tensors need "
         "static ranges; add 'convolution', 'linear' or 'other', or use activations=8"),
    Rule("scheme/binary-training", ("weights", "activations", "layers", "mixed", "method"),
         lambda s: not _trains(s) and 1 in _weight_bits(s) | _activation_bits(s),
         "1-bit networks have only two levels and must be trained with them; use method='qat', or "
         "at least 2 bits"),
    Rule("scheme/dynamic-training", ("activations", "method"),
         lambda s: _is_dynamic(s) and _trains(s),
         "dynamic ranges are computed from each input, so qat has no ranges to learn; use "
         "activations=8, or method='ptq'"),
    Rule("scheme/dynamic-bits", ("activations", "layers", "mixed"),
         lambda s: _is_dynamic(s) and _activation_bits(s) != {8},
         "runtimes quantize dynamically to 8 bits only; use activations=8 in layers and mixed, or "
         "static ranges"),
    Rule("scheme/dynamic-power-of-two", ("activations", "power_of_two"),
         lambda s: _is_dynamic(s) and s.power_of_two,
         "runtimes do not round dynamic scales to powers of two; use power_of_two=False, or "
         "static ranges"),
    Rule("scheme/group-mode", ("granularity", "activations"),
         lambda s: _has_group(s) and s.activation_mode != "weight_only",
         "integer kernels sum the products of a whole output channel before they scale them; use "
         "activations=None, or granularity='per_channel'"),
    Rule("scheme/group-operators", ("granularity", "operators"),
         lambda s: _has_group(s) and "linear" not in s.operators,
         "only linear layers have groups, other layers have one scale per channel; add 'linear', "
         "or use granularity='per_channel'"),
    Rule("scheme/group-training", ("granularity", "method"),
         lambda s: _has_group(s) and _trains(s),
         "qat learns one scale per tensor or per channel; use method='ptq', or "
         "granularity='per_channel'"),
    Rule("scheme/group-power-of-two", ("granularity", "power_of_two"),
         lambda s: _has_group(s) and s.power_of_two,
         "hardware that only shifts cannot sum within groups; use power_of_two=False, or "
         "granularity='per_channel'"),
    Rule("scheme/mixed-latency", ("mixed", "activations", "target"),
         lambda s: _limits_latency(s) and not (s.activation_mode == "static" and s.target.timed),
         "latency is measured with static ranges on ONNX Runtime; limit size or bit_ops"),
)
