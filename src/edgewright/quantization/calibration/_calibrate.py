"""Calibrate a simulation's quantizers, from its weights and from data."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from edgewright.errors import DataError
from edgewright.graph import stored_tensors
from edgewright.quantization.calibration._calibrate_quantizers import calibrate_quantizers
from edgewright.quantization.calibration._observer import create_observer
from edgewright.quantization.scheme import RangeEstimator
from edgewright.quantization.simulation import QuantizationSimulation


def calibrate_weight_ranges(simulation: QuantizationSimulation, estimator: RangeEstimator) -> None:
    """Set the ranges of the weight quantizers from the weights, and enable quantization.

    Args:
        simulation: Its weight quantizers are modified.
        estimator: How ranges are found.

    Raises:
        DataError: A weight contains NaN or infinity; the message names the tensor.
    """
    tensors = stored_tensors(simulation.module)
    for name, quantizer in simulation.weights.items():
        observer = create_observer(estimator, quantizer.grid)
        try:
            observer.update(tensors[name])
        except DataError as error:
            raise DataError(f"calibration of {name}: {error}") from error
        quantizer.set_range(*observer.range())
        quantizer.mode = "quantize"


def calibrate_activation_ranges(simulation: QuantizationSimulation, estimator: RangeEstimator,
                                batches: Iterable[tuple[Tensor, ...]]) -> None:
    """Set the ranges of the activation quantizers by running inputs, and enable quantization.

    Args:
        simulation: Its activation quantizers are modified.
        estimator: How ranges are found.
        batches: Inputs of the program, in batches of any size.

    Raises:
        DataError: The inputs do not fit the program, or an activation is NaN or infinite.
    """
    for quantizer in simulation.activations.values():
        quantizer.observer = create_observer(estimator, quantizer.grid)
        quantizer.mode = "observe"
    calibrate_quantizers(simulation.module, simulation.activations, batches)
