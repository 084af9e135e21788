"""The exits of a file on a split before their thresholds are chosen: rules, scores, quality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgewright.core import ExitPolicy, ExitRule
from edgewright.exits._config import ExitCalibration
from edgewright.exits._gate import fit_gate
from edgewright.exits._predictions import (
    ClassIndices,
    ExitPredictions,
    Floats,
    Logits,
    predict_exits,
)
from edgewright.exits._temperature import (
    calibration_gap,
    expected_calibration_error,
    fit_temperature,
)
from edgewright.runtime import confidence, gate_inputs

FIT_SHARE: Final = 0.25  # of the samples, if the others are needed for a guarantee

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class FittedExits:
    """The exits of a file on a split, with rules that lack their thresholds.

    Attributes:
        rules: One per early exit.
        predictions: On all samples.
        rows: The samples to fit on, and those to test on.
        errors: Calibration error of each early exit, without and with its temperature.
        deciles: Of the confidence at the first exit.
    """

    rules: tuple[ExitRule, ...]
    predictions: ExitPredictions
    rows: tuple[Rows, Rows]
    errors: tuple[tuple[float, ...], tuple[float, ...]]
    deciles: tuple[float, ...]


def fit_logits(logits: Logits, targets: ClassIndices, config: ExitCalibration,
               seed: int) -> FittedExits:
    """Fit the rules of a classifier's early exits; see `calibrate_exits`."""
    rows, test_rows = _split_rows(len(targets), config, seed)
    rules = _fit_rules([values[rows] for values in logits], targets[rows], config.policy)

    def errors(temperatures: Sequence[float]) -> tuple[float, ...]:
        return tuple(expected_calibration_error(values[test_rows], targets[test_rows], temperature)
                     for values, temperature in zip(logits[:-1], temperatures, strict=True))

    return FittedExits(
        rules, predict_exits(logits, targets, rules, config.policy), (rows, test_rows),
        (errors([1.0] * len(rules)), errors([rule.temperature for rule in rules])),
        _deciles(confidence(logits[0], rules[0].temperature)) if rules else ())


def take_scores(predictions: ExitPredictions, config: ExitCalibration, seed: int) -> FittedExits:
    """Take scores of the file as they are; see `calibrate_scores`."""
    rows = _split_rows(predictions.quality.shape[1], config, seed)
    gaps = tuple(calibration_gap(sure[rows[1]], quality[rows[1]]) for sure, quality
                 in zip(predictions.scores, predictions.quality[:-1], strict=True))
    return FittedExits((ExitRule(threshold=None),) * len(predictions.scores), predictions, rows,
                       (gaps, gaps), _deciles(predictions.scores[0]) if gaps else ())


def _split_rows(count: int, config: ExitCalibration, seed: int) -> tuple[Rows, Rows]:
    """The rows to fit on and the rows to test on; all rows for both without a guarantee."""
    if config.confidence_level is None:
        return np.arange(count), np.arange(count)
    drawn = np.random.default_rng(seed).permutation(count)
    fitted = round(FIT_SHARE * count)
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


def _deciles(sure: Floats) -> tuple[float, ...]:
    return tuple(np.quantile(sure, np.arange(1, 10) / 10).tolist())
