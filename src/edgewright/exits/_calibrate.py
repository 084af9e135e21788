"""Calibrate operating points from a file's outputs: temperatures, gates, thresholds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from edgewright.core import (
    ExitProfile,
    ExitRule,
    Guarantee,
    OperatingPoint,
    format_count,
)
from edgewright.errors import DataError, UsageError
from edgewright.exits._config import ExitCalibration
from edgewright.exits._fitted_exits import FIT_SHARE, FittedExits, fit_logits, take_scores
from edgewright.exits._goal import check_policy
from edgewright.exits._predictions import (
    ClassIndices,
    ExitPredictions,
    Floats,
    Logits,
)
from edgewright.exits._risk import Certificate, certify
from edgewright.exits._thresholds import (
    find_cheapest_within,
    find_threshold_path,
    to_rule_thresholds,
)

MIN_CALIBRATION_SAMPLES: Final = 50
_ROUNDING: Final = 1e-5  # of a mean in float32
_STEPS: Final = 24
_LOSSES_TOO_LARGE: Final = "even the most confident samples lose too much accuracy"


Rules = tuple[ExitRule, ...]


class AcceptRules(Protocol):
    """Says which rules are allowed besides; see `calibrate_exits`."""

    def __call__(self, candidates: Sequence[Rules], *, drop: float) -> Sequence[bool]:
        """Whether each candidate is allowed if the point may lose that much."""
        ...


@dataclass(frozen=True)
class CalibratedPoint:
    """An operating point, and its metrics on the split that it was calibrated on.

    Attributes:
        point: The point with its rules, profile and guarantee; without figures.
        accuracy: Mean quality with early exits, on all samples of the split; of a classifier the
            accuracy.
        full_accuracy: Mean quality of the last exit.
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
                    config: ExitCalibration, *, split: str = "val", seed: int = 0,
                    accept: AcceptRules | None = None) -> tuple[CalibratedPoint, ...]:
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
        accept: Which rules are allowed besides, of candidates along the path from the loosest to no
            early exits, at an allowed drop; the loosest allowed ones are chosen. The last ones, by
            which no exit is taken, always are.

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
    search = _search(fit_logits(logits, targets, config, seed), segment_macs, config, split, seed)
    return _calibrate(search, config, accept)


def calibrate_scores(predictions: ExitPredictions, segment_macs: Sequence[int],
                     config: ExitCalibration, *, split: str = "val", seed: int = 0,
                     accept: AcceptRules | None = None) -> tuple[CalibratedPoint, ...]:
    """Choose exit thresholds for scores that are computed inside the file; see `calibrate_exits`.

    Args:
        predictions: Scores of the file, and quality of its exits, on the split.
        segment_macs: Multiply-accumulates of each segment.
        config: Confidence level and drops; the policy must be ``confidence``.
        split: Name of the split, for the record.
        seed: Seed of the division of the samples if a guarantee is requested.
        accept: As for `calibrate_exits`.

    Raises:
        UsageError: The numbers of exits and segments differ, or another policy.
        DataError: Fewer than 50 samples; a score or a quality that is not from 0 to 1.

    Example:
        >>> predictions = ExitPredictions(np.full((1, 100), 0.9), np.full((2, 100), 0.75))
        >>> found, = calibrate_scores(predictions, [10, 90], ExitCalibration())
        >>> found.point.thresholds, found.accuracy, found.mean_macs
        ((0.9,), 0.75, 10.0)
    """
    _check_counts(len(predictions.quality), predictions.quality.shape[1], segment_macs, split)
    check_policy(config.policy, scores_on_device=False)
    _check_shares("score", predictions.scores)
    _check_shares("quality", predictions.quality)
    search = _search(take_scores(predictions, config, seed), segment_macs, config, split, seed)
    return _calibrate(search, config, accept)


@dataclass(frozen=True)
class _Search:
    """What all operating points share; the rules' thresholds are chosen per point.

    Attributes:
        shown: Steps of the path that are evenly spread in cost.
    """

    fitted: FittedExits
    path: Floats
    reached_macs: Floats
    shown: tuple[int, ...]
    split: str
    seed: int


def _search(fitted: FittedExits, segment_macs: Sequence[int], config: ExitCalibration,
            split: str, seed: int) -> _Search:
    path = find_threshold_path(fitted.predictions.of(fitted.rows[0]), segment_macs,
                               streaks=config.policy == "patience")
    reached_macs = np.cumsum(segment_macs, dtype=np.float64)
    return _Search(fitted, path, reached_macs,
                   _select_curve_steps(fitted.predictions, path, reached_macs), split, seed)


def _calibrate(search: _Search, config: ExitCalibration,
               accept: AcceptRules | None) -> tuple[CalibratedPoint, ...]:
    found = []
    for name, drop in config.drops.items():
        chosen = _choose_thresholds(search, search.path, drop, config)
        while accept is not None:
            path = _find_allowed(search, chosen[0], partial(accept, drop=drop))
            before, chosen = chosen, _choose_thresholds(search, path, drop, config)
            if (chosen[0] == before[0]).all():
                break
        found.append(_describe_point(search, name, drop, config, chosen))
    return tuple(found)


def _find_allowed(search: _Search, thresholds: Floats,
                  accept: Callable[[Sequence[Rules]], Sequence[bool]]) -> Floats:
    """The path up to the loosest thresholds that are allowed, from the chosen ones on."""
    chosen = int(np.flatnonzero((search.path == thresholds).all(axis=1))[0])
    stricter = [step for step in search.shown if step < chosen]
    candidates = [chosen, *reversed(stricter)]
    allowed = accept([_set_thresholds(search.fitted.rules, search.path[step])
                      for step in candidates])
    loosest = next((step for step, fits in zip(candidates, allowed, strict=True) if fits), 0)
    path: Floats = search.path[:loosest + 1]
    return path


def _set_thresholds(rules: Rules, thresholds: Floats) -> Rules:
    return tuple(rule.replace(threshold=threshold) for rule, threshold
                 in zip(rules, to_rule_thresholds(thresholds), strict=True))


def _select_curve_steps(predictions: ExitPredictions, path: Floats,
                        reached_macs: Floats) -> tuple[int, ...]:
    """Select steps of a path that are evenly spread in mean cost."""
    costs = np.array([reached_macs[predictions.left_at(thresholds)].mean() for thresholds in path])
    wanted = np.linspace(costs[0], costs[-1], _STEPS)
    chosen = np.unique(np.abs(costs[:, None] - wanted).argmin(axis=0))
    return tuple(chosen.tolist())


def _describe_point(search: _Search, name: str, drop: float, config: ExitCalibration,
                    chosen: tuple[Floats, Certificate | None]) -> CalibratedPoint:
    fitted, predictions = search.fitted, search.fitted.predictions
    thresholds, certificate = chosen
    left_at = predictions.left_at(thresholds)
    shares = np.bincount(left_at, minlength=len(predictions.quality)) / len(left_at)
    point = OperatingPoint(
        name=name, path=tuple(range(len(predictions.quality))), policy=config.policy,
        rules=_set_thresholds(fitted.rules, thresholds),
        calibrated=ExitProfile(split=search.split, samples=len(left_at),
                               shares=tuple(shares.tolist()), deciles=fitted.deciles,
                               errors_before=fitted.errors[0], errors_after=fitted.errors[1]),
        guarantee=None if certificate is None else Guarantee(
            epsilon=drop, delta=_delta(config), samples=certificate.samples, split=search.split,
            p_value=certificate.p_value))
    accuracy, full_accuracy = (float(quality.mean()) for quality in (
        predictions.quality_at(thresholds), predictions.quality[-1]))
    mean_macs = float(search.reached_macs[left_at].mean())
    words = (f"{name}: {_describe_exit_shares(point)}; {predictions.measure.replace('_', ' ')} "
             f"{100 * accuracy:.2f} %, without early exits {100 * full_accuracy:.2f} %, "
             f"{format_count(mean_macs)} MACs on average"
             f"{_describe_guarantee(point, certificate)}")
    return CalibratedPoint(point, accuracy, full_accuracy, mean_macs,
                           certificate.samples_needed if certificate else None,
                           tuple(map(to_rule_thresholds, search.path[list(search.shown)])), words)


def _choose_thresholds(search: _Search, path: Floats, drop: float,
                       config: ExitCalibration) -> tuple[Floats, Certificate | None]:
    predictions = search.fitted.predictions
    if config.confidence_level is None:
        return find_cheapest_within(predictions, path, drop), None
    tested = predictions.of(search.fitted.rows[1])
    certificate = certify(tested, path, drop, _delta(config), search.seed)
    needed = certificate.samples_needed
    if needed is not None:  # for the whole split, a part of which is used for fitting
        certificate = replace(certificate, samples_needed=math.ceil(needed / (1 - FIT_SHARE)))
    return path[certificate.step], certificate


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


def _check_counts(exits: int, samples: int, segment_macs: Sequence[int], split: str) -> None:
    if exits != len(segment_macs):
        raise UsageError(f"{exits} exits and {len(segment_macs)} segments do not match; "
                         "pass the outputs of every segment of the file, including the last")
    if samples < MIN_CALIBRATION_SAMPLES:
        raise DataError(f"the {split} split has {samples} samples, early exits need "
                        f"{MIN_CALIBRATION_SAMPLES} or more to be calibrated on; make it larger")


def _check_shares(name: str, values: Floats) -> None:
    within = (values >= -_ROUNDING) & (values <= 1 + _ROUNDING)
    if not within.all():
        raise DataError(f"an exit has a {name} of {values[~within][0]:g}, expected 0 to 1; the "
                        "model, its quantization or the goal is broken")


def _check(logits: Logits, targets: ClassIndices, segment_macs: Sequence[int], split: str) -> None:
    _check_counts(len(logits), len(targets), segment_macs, split)
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
