"""Running a model with state call by call: outputs that are fed back to inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from edgewright.core import ModelSpec, TensorSpec, format_shape
from edgewright.errors import DataError, UsageError
from edgewright.runtime._prediction import Prediction


@final
class Stream:
    """One stream of a session, which keeps the state between calls.

    Made by `edgewright.Session.stream`. The state starts from zeros, and again after `reset`.
    Several streams of a session do not affect each other; one stream is for one thread at a time.

    Args:
        model: The model.
        run: Runs it on all of its inputs.

    Attributes:
        states: The current state by the name of its input, (N, ...); empty before the first call.

    Raises:
        UsageError: The model has no state, or one of varying size.
    """

    def __init__(self, model: ModelSpec, run: Callable[..., Prediction]) -> None:
        self._model, self._run, self._pairs = model, run, model.states
        self._fed = {spec.name: spec for spec in model.inputs
                     if spec.name in self._pairs.values()}
        if not self._fed:
            raise UsageError(f"the model {model.name!r} has no state to keep; capture it "
                             "with states={output: input}, or call the session itself")
        for name, spec in self._fed.items():
            if not all(isinstance(size, int) for size in spec.shape[1:]):
                raise UsageError(f"the state {name!r} has shape {format_shape(spec.shape)}; a "
                                 "stream needs one of fixed size")
        self.states: dict[str, NDArray[Any]] = {}

    def __call__(self, *inputs: NDArray[Any]) -> Prediction:
        """Run the next step.

        Args:
            inputs: The model's inputs without the states, in order, all of one batch size: that of
                the first call.

        Returns:
            The prediction, with all outputs: the states too.

        Raises:
            DataError: As for a call of the session, or the number of inputs is wrong.
        """
        specs = self._model.inputs
        given = [spec.name for spec in specs if spec.name not in self._fed]
        if len(inputs) != len(given):
            raise DataError(f"the stream takes {len(given)} inputs ({', '.join(given)}), got "
                            f"{len(inputs)}; it keeps {', '.join(self._fed)} itself")
        arrays = dict(zip(given, inputs, strict=True))
        batch = np.shape(inputs[0])[:1] if inputs else (1,)
        states = self.states or {name: _zeros(spec, *batch) for name, spec in self._fed.items()}
        prediction = self._run(*({**arrays, **states}[spec.name] for spec in specs))
        outputs = dict(zip((spec.name for spec in self._model.outputs), prediction.outputs,
                           strict=True))
        self.states = {**states, **{name: outputs[output] for output, name in self._pairs.items()}}
        return prediction

    def reset(self) -> None:
        """Start again from zeros, with any batch size."""
        self.states = {}


def _zeros(spec: TensorSpec, batch: int = 1) -> NDArray[Any]:
    sizes = [size for size in spec.shape[1:] if isinstance(size, int)]
    return np.zeros((batch, *sizes), dtype=spec.dtype)
