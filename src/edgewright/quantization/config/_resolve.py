"""`resolve`: a quantization config to the scheme that every step reads."""

from __future__ import annotations

from typing import Any

from edgewright.errors import UsageError
from edgewright.quantization.config._config import Quantization
from edgewright.quantization.config._rules import rules_of
from edgewright.quantization.scheme import METHODS, Precision, Scheme


def resolve(config: Quantization) -> Scheme:
    """Check a config once, against its own rules and its target's, and resolve it.

    Raises:
        UsageError: A rule is broken; its name, the values, what is allowed and why are given.

    Example:
        >>> resolve(Quantization(activations=None)).mode
        'weight_only'
        >>> resolve(Quantization(target="litert", affine_weights=True))
        Traceback (most recent call last):
            ...
        edgewright.errors.UsageError: rule litert/affine-weights: affine_weights=True; litert \
takes False, because its 8-bit specification fixes the zero point of weights at 0; change it, or \
the target
    """
    scheme = _scheme(config)
    for rule in rules_of(scheme.target):
        if rule.broken(scheme):
            raise UsageError(f"rule {rule.name}: {_given(config, rule.fields)}; {rule.demand}")
    return scheme


def _scheme(config: Quantization) -> Scheme:
    ranges = config.activations
    return Scheme(
        target=config.target, mode="weight_only" if ranges is None else ranges.mode,
        precision=Precision(weights=config.weights,
                            activations=None if ranges is None else ranges.bits),
        layers=config.layers, first_last_bits=config.first_last_bits,
        mixed=config.mixed, granularity=config.granularity, affine_weights=config.affine_weights,
        symmetric_activations=ranges is not None and ranges.symmetric,
        power_of_two=config.power_of_two, operators=config.operators,
        range_estimator=config.range_estimator, calibration_samples=config.calibration_samples,
        method=config.method)


def _given(config: Quantization, fields: tuple[str, ...]) -> str:
    """Settings as they are written, but those that are not used."""
    written = {name: _written(config, name) for name in fields}
    return ", ".join(f"{name}={value!r}" for name, value in written.items()
                     if value != {} and (name, value) != ("mixed", None))


def _written(config: Quantization, name: str) -> Any:
    value = getattr(config, name)
    if name == "method":
        return METHODS.name_of(value)
    if name in ("activations", "granularity", "target"):
        return config.model_dump(include={name})[name]
    return value
