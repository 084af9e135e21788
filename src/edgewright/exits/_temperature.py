"""Temperature scaling and the expected calibration error of an exit."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from edgewright.runtime import confidence

_MIN_TEMPERATURE: Final = 0.1
_MAX_TEMPERATURE: Final = 10.0


def fit_temperature(logits: NDArray[Any], targets: NDArray[np.integer[Any]]) -> float:
    """Find the temperature that calibrates an exit's probabilities best.

    It minimizes the negative log-likelihood (Guo et al. 2017, "On calibration of modern neural
    networks", section 4.2), which is convex in 1/T, by Brent's method on log T in [0.1, 10].

    Args:
        logits: (N, classes).
        targets: Class indices (N,).

    Returns:
        The divisor of the logits; 1 if every prediction is correct, because the likelihood then
        increases without bound as T decreases.

    Example:
        >>> logits = np.array([[4.0, 0.0]] * 4)
        >>> found = fit_temperature(logits, np.array([0, 0, 0, 1]))
        >>> round(float(confidence(logits, found)[0]), 2)
        0.75
    """
    below_top = logits.astype(np.float64)
    below_top -= below_top.max(axis=1, keepdims=True)
    of_target = below_top[np.arange(len(targets)), targets]
    if not of_target.any():
        return 1.0

    def loss(log_temperature: float) -> float:
        scaled = below_top / np.exp(log_temperature)
        return float((np.log(np.exp(scaled).sum(axis=1))
                      - of_target / np.exp(log_temperature)).mean())

    bounds = (np.log(_MIN_TEMPERATURE), np.log(_MAX_TEMPERATURE))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def expected_calibration_error(logits: NDArray[Any], targets: NDArray[np.integer[Any]],
                               temperature: float = 1.0, bins: int = 15) -> float:
    """The mean difference between confidence and accuracy over bins of confidence (ECE).

    Guo et al. 2017, equation 3: the bins are (0, 1/bins], ..., (1 - 1/bins, 1], each weighted by
    its number of samples.

    Args:
        logits: (N, classes).
        targets: Class indices (N,).
        temperature: Divides the logits.
        bins: Number of bins.

    Returns:
        A value from 0 (perfectly calibrated) to 1.

    Example:
        >>> sure = np.array([[9.0, -9.0]] * 4)
        >>> round(expected_calibration_error(sure, np.array([0, 0, 0, 1])), 3)
        0.25
    """
    return calibration_gap(confidence(logits, temperature), logits.argmax(axis=1) == targets, bins)


def calibration_gap(sure: NDArray[Any], quality: NDArray[Any], bins: int = 15) -> float:
    """The mean difference between confidence and quality over bins of confidence.

    Args:
        sure: Confidence of each sample, 0 to 1, (N,).
        quality: Share of its decisions that are right, (N,).
        bins: Number of bins, as in `expected_calibration_error`.

    Returns:
        A value from 0 (perfectly calibrated) to 1.

    Example:
        >>> calibration_gap(np.array([0.75, 0.75]), np.array([0.5, 0.5]))
        0.25
    """
    bin_of = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(bin_of, weights=quality - sure, minlength=bins)
    return float(np.abs(gaps).sum() / len(sure))
