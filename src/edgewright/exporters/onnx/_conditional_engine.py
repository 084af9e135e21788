"""Run every branch of a file of `to_conditional_onnx`, independent of the samples."""

from __future__ import annotations

import math
from typing import final

import numpy as np

from edgewright.errors import ParityError
from edgewright.exporters.onnx._conditional import replace_thresholds
from edgewright.runtime import OnnxEngine
from edgewright.runtime.engines import Arrays, run_one_by_one


@final
class EveryExitEngine:
    """Computes the outputs of all exits with a single conditional ONNX file; a `runtime.Engine`.

    For each exit, the file's thresholds are replaced so that every sample exits there and none
    before, so that all branches are run. Samples are run one by one.

    Args:
        model: The bytes of the file.
        exits: Number of its early exits.

    Raises:
        BundleError: ONNX Runtime cannot load the file.
    """

    def __init__(self, model: bytes, exits: int) -> None:
        forced = ([math.inf] * leave + [0.0] * (exits - leave) for leave in range(exits + 1))
        self._engines = [OnnxEngine(replace_thresholds(model, values)) for values in forced]

    @property
    def runtime(self) -> str:
        """Name and version of ONNX Runtime."""
        return self._engines[0].runtime

    def run(self, inputs: Arrays) -> Arrays:
        """Compute the output of each exit, (N, ...), from inputs of shape (N, ...).

        Raises:
            ParityError: A sample does not exit where the thresholds require it.
        """
        found = []
        for index, engine in enumerate(self._engines):
            output, exits = run_one_by_one(inputs, engine.run)
            if (exits != index).any():
                raise ParityError(f"the exported file takes the exits {np.unique(exits)}, "
                                  f"expected {index}; no file was written; "
                                  "please report the model")
            found.append(output)
        return tuple(found)
