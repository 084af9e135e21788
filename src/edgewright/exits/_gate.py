"""A learned gate that predicts from a sample's scores whether leaving early is free."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

_RIDGE: Final = 1.0

_Floats = NDArray[np.float64]


def fit_gate(inputs: NDArray[Any], costs_nothing: NDArray[np.bool_]) -> tuple[float, ...]:
    """Fit the weights of an exit's gate by logistic regression.

    Minimizes the sum of the logistic losses plus half the squared weights, including the bias, so
    that the minimum is unique even if every sample could leave. A trust-region Newton method from
    zero makes the result deterministic.

    Args:
        inputs: Result of `edgewright.runtime.gate_inputs`, (N, 4).
        costs_nothing: Whether leaving here costs nothing, because this exit is correct or the last
            one is wrong too, (N,).

    Returns:
        One weight per input.

    Example:
        >>> scores = np.array([[1, 0.9, 0.8, 0.7], [1, 0.4, 0.1, 0.1]] * 20)
        >>> weights = fit_gate(scores, np.array([True, False] * 20))
        >>> (scores[:2] @ weights > 0).tolist()
        [True, False]
    """
    signed = np.where(costs_nothing, 1.0, -1.0)[:, None] * inputs.astype(np.float64)

    def loss(weights: _Floats) -> float:
        return float(np.logaddexp(0, -signed @ weights).sum() + _RIDGE / 2 * weights @ weights)

    def gradient(weights: _Floats) -> _Floats:
        found: _Floats = -signed.T @ expit(-signed @ weights) + _RIDGE * weights
        return found

    def hessian(weights: _Floats) -> _Floats:
        doubt = expit(signed @ weights)
        curved = signed.T @ (signed * (doubt * (1 - doubt))[:, None])
        found: _Floats = curved + _RIDGE * np.eye(len(weights))
        return found

    found = minimize(loss, np.zeros(signed.shape[1]), method="trust-exact", jac=gradient,
                     hess=hessian)
    return tuple(found.x.tolist())
