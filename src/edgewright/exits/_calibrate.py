"""From what a file puts out on a split to operating points: temperatures, gates, thresholds."""

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
from edgewright.exits._answers import Answers, Floats, Logits, Targets, answers_of
from edgewright.exits._config import DEFAULT_POINT, EarlyExits
from edgewright.exits._gate import fit_gate
from edgewright.exits._risk import Certificate, certify
from edgewright.exits._temperature import expected_calibration_error, fit_temperature
from edgewright.exits._thresholds import cheapest_within, threshold_path, to_rule_thresholds
from edgewright.runtime import confidence, gate_inputs

_FEWEST_SAMPLES: Final = 50
_FITTED_SHARE: Final = 0.25
_STEPS: Final = 24
_LOSSES_TOO_LARGE: Final = "those surest of all already lose too much"

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Calibration:
    """An operating point, and what it does on the split it was calibrated on.

    Attributes:
        point: With its rules, profile and guarantee; without figures.
        accuracy: With early exits, on all samples of the split.
        full_accuracy: Of the last exit alone.
        mean_macs: Multiply-accumulates a sample, on average.
        samples_needed: Where a guarantee was asked for and no sample could be let out, about how
            many samples would do; None otherwise, and where the losses seen are too large for it.
        steps: Thresholds on the way from nobody leaving early to everybody, of which the point's
            are one step, evenly spread in cost on the split.
        words: All this in one line.
    """

    point: OperatingPoint
    accuracy: float
    full_accuracy: float
    mean_macs: float
    samples_needed: int | None
    steps: tuple[tuple[float | None, ...], ...]
    words: str


def calibrate_exits(logits: Logits, targets: Targets, segment_macs: Sequence[int],
                    config: EarlyExits, *, split: str = "val",
                    seed: int = 0) -> tuple[Calibration, ...]:
    """Choose when samples leave, from what every exit of the real file says of a split.

    Each early exit gets its temperature (and its gate); then thresholds are lowered along one path
    (`threshold_path`). Without ``config.confidence`` the cheapest point within the drop allowed on
    this split is taken. With it, a quarter of the samples, drawn by the seed, serves to find all of
    that, and the rest to test the path (`certify`) and to take the calibration errors on: with that
    probability the loss on data like these is at most the drop. It holds for each point by itself.

    Args:
        logits: One array (N, classes) per exit, the last included.
        targets: Class indices (N,).
        segment_macs: Multiply-accumulates of each segment.
        config: Policy, confidence, drops.
        split: Name of the split, for the record.
        seed: Divides the samples, where a guarantee is asked for.

    Returns:
        The default point, then ``config.points`` in their order.

    Raises:
        UsageError: Exits and segments disagree in number, or patience with one early exit.
        DataError: Fewer than 50 samples; targets of another number or out of the classes; logits
            that are not finite.

    Example:
        >>> targets = np.arange(100) % 2
        >>> sure = np.eye(2)[targets]
        >>> found, = calibrate_exits([sure, sure], targets, [10, 90], EarlyExits(count=1))
        >>> found.point.calibrated.shares, found.mean_macs
        ((1.0, 0.0), 10.0)
    """
    targets = np.asarray(targets)
    _check(logits, targets, segment_macs, split)
    if config.policy == "patience" and len(logits) == 2:
        raise UsageError("patience waits for two exits in a row that agree, and this file has one "
                         "early exit; take more exits or another policy")
    fitted = _fit(logits, targets, segment_macs, config, seed)
    return tuple(_calibration(fitted, name, drop, config, split) for name, drop
                 in {DEFAULT_POINT: config.max_drop, **config.points}.items())


@dataclass(frozen=True)
class _Fitted:
    """What all operating points have in common; the rules' thresholds are still to be chosen."""

    rules: tuple[ExitRule, ...]
    answers: Answers
    path: Floats
    judged: Rows
    reached_macs: Floats
    errors: tuple[tuple[float, ...], tuple[float, ...]]
    deciles: tuple[float, ...]
    steps: tuple[tuple[float | None, ...], ...]


def _fit(logits: Logits, targets: Targets, segment_macs: Sequence[int], config: EarlyExits,
         seed: int) -> _Fitted:
    rows, judged = _parts(len(targets), config, seed)
    rules = _rules([values[rows] for values in logits], targets[rows], config.policy)
    answers = answers_of(logits, targets, rules, config.policy)
    path = threshold_path(answers.of(rows), segment_macs, streaks=config.policy == "patience")

    def errors(temperatures: Sequence[float]) -> tuple[float, ...]:
        return tuple(expected_calibration_error(values[judged], targets[judged], temperature)
                     for values, temperature in zip(logits[:-1], temperatures, strict=True))

    reached_macs = np.cumsum(segment_macs, dtype=np.float64)
    return _Fitted(rules, answers, path, judged, reached_macs,
                   (errors([1.0] * len(rules)), errors([rule.temperature for rule in rules])),
                   _deciles(logits, rules), _spread(answers, path, reached_macs))


def _parts(count: int, config: EarlyExits, seed: int) -> tuple[Rows, Rows]:
    """The samples to fit on, and those to judge by: all for both, where nothing is promised."""
    if config.confidence is None:
        return np.arange(count), np.arange(count)
    drawn = np.random.default_rng(seed).permutation(count)
    fitted = round(_FITTED_SHARE * count)
    return drawn[:fitted], drawn[fitted:]


def _rules(logits: Logits, targets: Targets, policy: ExitPolicy) -> tuple[ExitRule, ...]:
    """Temperature and gate of every early exit."""
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


def _deciles(logits: Logits, rules: Sequence[ExitRule]) -> tuple[float, ...]:
    if not rules:
        return ()
    sure = confidence(logits[0], rules[0].temperature)
    return tuple(np.quantile(sure, np.arange(1, 10) / 10).tolist())


def _spread(answers: Answers, path: Floats,
            reached_macs: Floats) -> tuple[tuple[float | None, ...], ...]:
    """Some steps of a path, about as far from each other in mean cost."""
    costs = np.array([reached_macs[answers.left_at(thresholds)].mean() for thresholds in path])
    wanted = np.linspace(costs[0], costs[-1], _STEPS)
    chosen = np.unique(np.abs(costs[:, None] - wanted).argmin(axis=0))
    return tuple(map(to_rule_thresholds, path[chosen]))


def _calibration(fitted: _Fitted, name: str, drop: float, config: EarlyExits,
                 split: str) -> Calibration:
    answers = fitted.answers
    thresholds, certificate = _choose(fitted, drop, config)
    left_at = answers.left_at(thresholds)
    shares = np.bincount(left_at, minlength=len(answers.correct)) / len(left_at)
    point = OperatingPoint(
        name=name, path=tuple(range(len(answers.correct))), policy=config.policy,
        rules=tuple(rule.replace(threshold=threshold) for rule, threshold
                    in zip(fitted.rules, to_rule_thresholds(thresholds), strict=True)),
        calibrated=ExitProfile(split=split, samples=len(left_at), shares=tuple(shares.tolist()),
                               deciles=fitted.deciles, errors_before=fitted.errors[0],
                               errors_after=fitted.errors[1]),
        guarantee=None if certificate is None else Guarantee(
            epsilon=drop, delta=_delta(config), samples=certificate.samples, split=split,
            p_value=certificate.p_value))
    accuracy, full_accuracy = (float(hits.mean()) for hits
                               in (answers.hits(thresholds), answers.correct[-1]))
    mean_macs = float(fitted.reached_macs[left_at].mean())
    words = (f"{name}: {_words_on_leaving(point)}; accuracy {accuracy:.2%} against "
             f"{full_accuracy:.2%}, {format_count(mean_macs)} MACs on average"
             f"{_words_on_certainty(point, certificate)}")
    return Calibration(point, accuracy, full_accuracy, mean_macs,
                       certificate.samples_needed if certificate else None, fitted.steps, words)


def _choose(fitted: _Fitted, drop: float, config: EarlyExits) -> tuple[Floats, Certificate | None]:
    if config.confidence is None:
        return cheapest_within(fitted.answers, fitted.path, drop), None
    certificate = certify(fitted.answers.of(fitted.judged), fitted.path, drop, _delta(config))
    needed = certificate.samples_needed
    if needed is not None:  # of the whole split, of which a part is spent on fitting
        certificate = replace(certificate, samples_needed=math.ceil(needed / (1 - _FITTED_SHARE)))
    return fitted.path[certificate.step], certificate


def _delta(config: EarlyExits) -> float:
    return round(1 - (config.confidence or 0), 12)


def _words_on_leaving(point: OperatingPoint) -> str:
    shares = point.calibrated.shares[:-1] if point.calibrated else ()
    if not any(shares):
        return "nobody leaves early"
    parts = [f"{share:.1%} at exit {index}" for index, share in enumerate(shares, 1)]
    return f"{', '.join(parts)} leave early"


def _words_on_certainty(point: OperatingPoint, certificate: Certificate | None) -> str:
    known = point.guarantee
    if known is None or certificate is None or not point.rules:
        return ""
    bound = f"with confidence {1 - known.delta:.4g} leaving early costs at most {known.epsilon:.2%}"
    if certificate.step:
        return f"; {bound}"
    if certificate.samples_needed is not None:
        return (f"; {known.samples} samples cannot show that {bound}: a {known.split} split of "
                f"about {certificate.samples_needed} would")
    return f"; {known.samples} samples cannot show that {bound}: {_LOSSES_TOO_LARGE}"


def _check(logits: Logits, targets: Targets, segment_macs: Sequence[int], split: str) -> None:
    if len(logits) != len(segment_macs):
        raise UsageError(f"{len(logits)} exits and {len(segment_macs)} segments do not match; "
                         "hand in the logits of every segment of the file, the last included")
    if len(targets) < _FEWEST_SAMPLES:
        raise DataError(f"the {split} split has {len(targets)} samples, early exits need "
                        f"{_FEWEST_SAMPLES} or more to be calibrated on; make it larger")
    for index, values in enumerate(logits, 1):
        _check_exit(index, values, targets)


def _check_exit(index: int, values: NDArray[Any], targets: Targets) -> None:
    if values.ndim != 2 or len(values) != len(targets):
        raise DataError(f"exit {index} gave logits of shape {values.shape} for {len(targets)} "
                        f"targets, expected ({len(targets)}, classes)")
    if targets.min() < 0 or targets.max() >= values.shape[1]:
        raise DataError(f"targets go from {targets.min()} to {targets.max()}, exit {index} has "
                        f"{values.shape[1]} classes; expected 0 to {values.shape[1] - 1}")
    if not np.isfinite(values).all():
        raise DataError(f"exit {index} gave logits that are not finite for "
                        f"{(~np.isfinite(values).all(axis=1)).sum()} of {len(values)} samples; "
                        "the model or its quantisation is broken")
