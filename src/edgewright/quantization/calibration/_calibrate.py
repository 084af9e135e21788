"""A simulation's quantizers get their ranges, from its weights and from data."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from edgewright.errors import DataError
from edgewright.graph import stored_tensors
from edgewright.quantization.calibration._observer import make_observer
from edgewright.quantization.calibration._stream import calibrate
from edgewright.quantization.scheme import RangeEstimator
from edgewright.quantization.simulation import Simulation


def calibrate_weights(simulation: Simulation, estimator: RangeEstimator) -> None:
    """Set the weights' ranges from themselves, and quantize them from now on.

    Args:
        simulation: Its weight quantizers are changed.
        estimator: How ranges are found.

    Raises:
        DataError: A weight is NaN or infinite; its tensor is named.
    """
    tensors = stored_tensors(simulation.module)
    for name, quantizer in simulation.weights.items():
        observer = make_observer(estimator, quantizer.grid)
        try:
            observer.update(tensors[name])
        except DataError as error:
            raise DataError(f"calibration of {name}: {error}") from error
        quantizer.set_range(*observer.range())
        quantizer.mode = "quantize"


def calibrate_activations(simulation: Simulation, estimator: RangeEstimator,
                          batches: Iterable[tuple[Tensor, ...]]) -> None:
    """Set the activations' ranges from what inputs give, and quantize them from now on.

    Args:
        simulation: Its activation quantizers are changed.
        estimator: How ranges are found.
        batches: Inputs of the program, in batches of any size.

    Raises:
        DataError: The inputs do not fit the program, or a value is NaN or infinite.
    """
    for quantizer in simulation.activations.values():
        quantizer.observer = make_observer(estimator, quantizer.grid)
        quantizer.mode = "observe"
    calibrate(simulation.module, simulation.activations, batches)
