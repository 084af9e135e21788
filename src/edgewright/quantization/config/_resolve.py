"""`resolve`: turn a quantization config into the scheme that every step reads."""

from __future__ import annotations

from typing import Any

from edgewright.errors import UsageError
from edgewright.quantization.config._config import Quantization
from edgewright.quantization.config._rules import rules_of
from edgewright.quantization.scheme import METHODS, Precision, Scheme


def resolve(config: Quantization) -> Scheme:
    """Check a config against its own rules and those of its target, and resolve it.

    Raises:
        UsageError: A rule is broken; the message gives the rule's name, the values, what is
            allowed and why.

    Example:
        >>> resolve(Quantization(activations=None)).activation_mode
        'weight_only'
        >>> resolve(Quantization(target="litert", affine_weights=True))
        Traceback (most recent call last):
            ...
        edgewright.errors.UsageError: rule litert/affine-weights: affine_weights=True; litert \
accepts False, because its 8-bit specification fixes the zero point of weights at 0; change the \
setting or the target
    """
    scheme = _scheme(config)
    for rule in rules_of(scheme.target):
        if rule.is_broken(scheme):
            given = _format_settings(config, rule.fields)
            raise UsageError(f"rule {rule.name}: {given}; {rule.remedy}")
    return scheme


def _scheme(config: Quantization) -> Scheme:
    ranges = config.activations
    return Scheme(
        target=config.target, activation_mode="weight_only" if ranges is None else ranges.mode,
        precision=Precision(weights=config.weights,
                            activations=None if ranges is None else ranges.bits),
        layers=config.layers, first_last_bits=config.first_last_bits,
        mixed=config.mixed, granularity=config.granularity, affine_weights=config.affine_weights,
        symmetric_activations=ranges is not None and ranges.symmetric,
        power_of_two=config.power_of_two, operators=config.operators,
        range_estimator=config.range_estimator, calibration_samples=config.calibration_samples,
        method=config.method)


def _format_settings(config: Quantization, fields: tuple[str, ...]) -> str:
    """Format settings as the user writes them, without unused ones."""
    written = {name: _serialize(config, name) for name in fields}
    return ", ".join(f"{name}={value!r}" for name, value in written.items()
                     if value != {} and (name, value) != ("mixed", None))


def _serialize(config: Quantization, name: str) -> Any:
    value = getattr(config, name)
    if name == "method":
        return METHODS.name_of(value)
    if name in ("activations", "granularity", "target"):
        return config.model_dump(include={name})[name]
    return value
