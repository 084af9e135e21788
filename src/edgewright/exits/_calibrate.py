"""Calibrate operating points from a file's outputs: temperatures, gates, thresholds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edgewright.core import (
    ExitPolicy,
    ExitProfile,
    ExitRule,
    Guarantee,
    OperatingPoint,
    format_count,
)
from edgewright.errors import DataError, UsageError
from edgewright.exits._config import ExitCalibration
from edgewright.exits._gate import fit_gate
from edgewright.exits._predictions import (
    ClassIndices,
    ExitPredictions,
    Floats,
    Logits,
    predict_exits,
)
from edgewright.exits._risk import Certificate, certify
from edgewright.exits._temperature import expected_calibration_error, fit_temperature
from edgewright.exits._thresholds import (
    find_cheapest_within,
    find_threshold_path,
    to_rule_thresholds,
)
from edgewright.runtime import confidence, gate_inputs

_MIN_SAMPLES: Final = 50
_FIT_SHARE: Final = 0.25
_STEPS: Final = 24
_LOSSES_TOO_LARGE: Final = "even the most confident samples lose too much accuracy"

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class CalibratedPoint:
    """An operating point, and its metrics on the split that it was calibrated on.

    Attributes:
        point: The point with its rules, profile and guarantee; without figures.
        accuracy: Accuracy with early exits, on all samples of the split.
        full_accuracy: Accuracy of the last exit.
        mean_macs: Mean multiply-accumulates per sample.
        samples_needed: If a guarantee was requested but no early exit could be certified, about how
            many samples would suffice; None otherwise, and if the observed losses are too large.
        steps: Threshold vectors from no early exits taken to all of them, evenly spread in cost on
            the split; the point's thresholds lie on this path.
        words: A summary in one line.
    """

    point: OperatingPoint
    accuracy: float
    full_accuracy: float
    mean_macs: float
    samples_needed: int | None
    steps: tuple[tuple[float | None, ...], ...]
    words: str


def calibrate_exits(logits: Logits, targets: ClassIndices, segment_macs: Sequence[int],
                    config: ExitCalibration, *, split: str = "val",
                    seed: int = 0) -> tuple[CalibratedPoint, ...]:
    """Choose exit thresholds from the outputs of every exit of the exported file on a split.

    First the temperature (and the gate) of each early exit is fitted, then thresholds are lowered
    along one path (`find_threshold_path`). Without ``config.confidence_level`` the cheapest point
    within the allowed drop on this split is chosen. With it, a random quarter of the samples is
    used for fitting, and the rest for testing the path (`certify`) and for measuring calibration
    errors: with that probability the loss on data from the same distribution is at most the drop.
    The guarantee holds for each point separately.

    Args:
        logits: One array (N, classes) per exit, the last included.
        targets: Class indices (N,).
        segment_macs: Multiply-accumulates of each segment.
        config: Policy, confidence level, drops.
        split: Name of the split, for the record.
        seed: Seed of the division of the samples if a guarantee is requested.

    Returns:
        The default point, then ``config.points`` in their order.

    Raises:
        UsageError: The numbers of exits and segments differ, or patience with one early exit.
        DataError: Fewer than 50 samples; targets that differ in number or are outside the classes;
            logits that are not finite.

    Example:
        >>> targets = np.arange(100) % 2
        >>> sure = np.eye(2)[targets]
        >>> found, = calibrate_exits([sure, sure], targets, [10, 90], ExitCalibration())
        >>> found.point.calibrated.shares, found.mean_macs
        ((1.0, 0.0), 10.0)
    """
    targets = np.asarray(targets)
    _check(logits, targets, segment_macs, split)
    if config.policy == "patience" and len(logits) == 2:
        raise UsageError("patience waits for two exits in a row that agree, and this file has one "
                         "early exit; take more exits or another policy")
    shared = _fit_shared(logits, targets, segment_macs, config, seed)
    return tuple(_calibrate_point(shared, name, drop, config, split) for name, drop
                 in config.drops.items())


@dataclass(frozen=True)
class _SharedFit:
    """What all operating points share; the rules' thresholds are chosen per point."""

    rules: tuple[ExitRule, ...]
    predictions: ExitPredictions
    path: Floats
    test_rows: Rows
    reached_macs: Floats
    errors: tuple[tuple[float, ...], tuple[float, ...]]
    deciles: tuple[float, ...]
    steps: tuple[tuple[float | None, ...], ...]


def _fit_shared(logits: Logits, targets: ClassIndices, segment_macs: Sequence[int],
                config: ExitCalibration, seed: int) -> _SharedFit:
    rows, test_rows = _split_rows(len(targets), config, seed)
    rules = _fit_rules([values[rows] for values in logits], targets[rows], config.policy)
    predictions = predict_exits(logits, targets, rules, config.policy)
    path = find_threshold_path(predictions.of(rows), segment_macs,
                               streaks=config.policy == "patience")

    def errors(temperatures: Sequence[float]) -> tuple[float, ...]:
        return tuple(expected_calibration_error(values[test_rows], targets[test_rows], temperature)
                     for values, temperature in zip(logits[:-1], temperatures, strict=True))

    reached_macs = np.cumsum(segment_macs, dtype=np.float64)
    return _SharedFit(rules, predictions, path, test_rows, reached_macs,
                      (errors([1.0] * len(rules)), errors([rule.temperature for rule in rules])),
                      _confidence_deciles(logits, rules),
                      _select_curve_steps(predictions, path, reached_macs))


def _split_rows(count: int, config: ExitCalibration, seed: int) -> tuple[Rows, Rows]:
    """The rows to fit on and the rows to test on; all rows for both without a guarantee."""
    if config.confidence_level is None:
        return np.arange(count), np.arange(count)
    drawn = np.random.default_rng(seed).permutation(count)
    fitted = round(_FIT_SHARE * count)
    return drawn[:fitted], drawn[fitted:]


def _fit_rules(logits: Logits, targets: ClassIndices, policy: ExitPolicy) -> tuple[ExitRule, ...]:
    """Fit the temperature and gate of every early exit."""
    last_right = logits[-1].argmax(axis=1) == targets
    rules = []
    for values in logits[:-1]:
        temperature = fit_temperature(values, targets)
        gate: tuple[float, ...] = ()
        if policy == "gate":
            right = values.argmax(axis=1) == targets
            gate = fit_gate(gate_inputs(values, temperature), right | ~last_right)
        rules.append(ExitRule(threshold=None, temperature=temperature, gate=gate))
    return tuple(rules)


def _confidence_deciles(logits: Logits, rules: Sequence[ExitRule]) -> tuple[float, ...]:
    if not rules:
        return ()
    sure = confidence(logits[0], rules[0].temperature)
    return tuple(np.quantile(sure, np.arange(1, 10) / 10).tolist())


def _select_curve_steps(predictions: ExitPredictions, path: Floats,
                        reached_macs: Floats) -> tuple[tuple[float | None, ...], ...]:
    """Select steps of a path that are evenly spread in mean cost."""
    costs = np.array([reached_macs[predictions.left_at(thresholds)].mean() for thresholds in path])
    wanted = np.linspace(costs[0], costs[-1], _STEPS)
    chosen = np.unique(np.abs(costs[:, None] - wanted).argmin(axis=0))
    return tuple(map(to_rule_thresholds, path[chosen]))


def _calibrate_point(shared: _SharedFit, name: str, drop: float, config: ExitCalibration,
                     split: str) -> CalibratedPoint:
    predictions = shared.predictions
    thresholds, certificate = _choose_thresholds(shared, drop, config)
    left_at = predictions.left_at(thresholds)
    shares = np.bincount(left_at, minlength=len(predictions.correct)) / len(left_at)
    point = OperatingPoint(
        name=name, path=tuple(range(len(predictions.correct))), policy=config.policy,
        rules=tuple(rule.replace(threshold=threshold) for rule, threshold
                    in zip(shared.rules, to_rule_thresholds(thresholds), strict=True)),
        calibrated=ExitProfile(split=split, samples=len(left_at), shares=tuple(shares.tolist()),
                               deciles=shared.deciles, errors_before=shared.errors[0],
                               errors_after=shared.errors[1]),
        guarantee=None if certificate is None else Guarantee(
            epsilon=drop, delta=_delta(config), samples=certificate.samples, split=split,
            p_value=certificate.p_value))
    accuracy, full_accuracy = (float(hits.mean()) for hits
                               in (predictions.hits(thresholds), predictions.correct[-1]))
    mean_macs = float(shared.reached_macs[left_at].mean())
    words = (f"{name}: {_describe_exit_shares(point)}; accuracy {100 * accuracy:.2f} %, without "
             f"early exits {100 * full_accuracy:.2f} %, {format_count(mean_macs)} MACs on average"
             f"{_describe_guarantee(point, certificate)}")
    return CalibratedPoint(point, accuracy, full_accuracy, mean_macs,
                           certificate.samples_needed if certificate else None, shared.steps, words)


def _choose_thresholds(shared: _SharedFit, drop: float,
                       config: ExitCalibration) -> tuple[Floats, Certificate | None]:
    if config.confidence_level is None:
        return find_cheapest_within(shared.predictions, shared.path, drop), None
    tested = shared.predictions.of(shared.test_rows)
    certificate = certify(tested, shared.path, drop, _delta(config))
    needed = certificate.samples_needed
    if needed is not None:  # for the whole split, a part of which is used for fitting
        certificate = replace(certificate, samples_needed=math.ceil(needed / (1 - _FIT_SHARE)))
    return shared.path[certificate.step], certificate


def _delta(config: ExitCalibration) -> float:
    return round(1 - (config.confidence_level or 0), 12)


def _describe_exit_shares(point: OperatingPoint) -> str:
    shares = point.calibrated.shares[:-1] if point.calibrated else ()
    if not any(shares):
        return "no early exits taken"
    parts = [f"{100 * share:.1f} % at exit {index}" for index, share in enumerate(shares, 1)]
    return f"{', '.join(parts)} leave early"


def _describe_guarantee(point: OperatingPoint, certificate: Certificate | None) -> str:
    known = point.guarantee
    if known is None or certificate is None or not point.rules:
        return ""
    bound = (f"with confidence {1 - known.delta:.4g} leaving early costs at most "
             f"{100 * known.epsilon:.2f} %")
    if certificate.step:
        return f"; {bound}"
    if certificate.samples_needed is not None:
        return (f"; {known.samples} samples cannot show that {bound}: a {known.split} split of "
                f"about {certificate.samples_needed} would suffice")
    return f"; {known.samples} samples cannot show that {bound}: {_LOSSES_TOO_LARGE}"


def _check(logits: Logits, targets: ClassIndices, segment_macs: Sequence[int], split: str) -> None:
    if len(logits) != len(segment_macs):
        raise UsageError(f"{len(logits)} exits and {len(segment_macs)} segments do not match; "
                         "pass the logits of every segment of the file, including the last")
    if len(targets) < _MIN_SAMPLES:
        raise DataError(f"the {split} split has {len(targets)} samples, early exits need "
                        f"{_MIN_SAMPLES} or more to be calibrated on; make it larger")
    for index, values in enumerate(logits, 1):
        _check_exit(index, values, targets)


def _check_exit(index: int, values: NDArray[Any], targets: ClassIndices) -> None:
    if values.ndim != 2 or len(values) != len(targets):
        raise DataError(f"exit {index} gave logits of shape {values.shape} for {len(targets)} "
                        f"targets, expected ({len(targets)}, classes)")
    if targets.min() < 0 or targets.max() >= values.shape[1]:
        raise DataError(f"targets go from {targets.min()} to {targets.max()}, exit {index} has "
                        f"{values.shape[1]} classes; expected 0 to {values.shape[1] - 1}")
    if not np.isfinite(values).all():
        raise DataError(f"exit {index} gave logits that are not finite for "
                        f"{(~np.isfinite(values).all(axis=1)).sum()} of {len(values)} samples; "
                        "the model or its quantization is broken")
