"""A bundle, ready to run: a sample leaves at the first exit that is sure enough of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edgewright.bundle import Bundle, read_bundle
from edgewright.core import Manifest
from edgewright.errors import BundleError, DataError, UsageError
from edgewright.runtime._engine import Arrays, Engine
from edgewright.runtime._inputs import check_inputs
from edgewright.runtime._onnxruntime import OnnxEngine
from edgewright.runtime._stats import Counters, Stats

_RUNTIME: Final = "onnxruntime"


@dataclass(frozen=True, eq=False)
class Prediction:
    """What one call of a session gave.

    Attributes:
        outputs: The model's outputs, in the manifest's order, each of shape (N, ...).
        exit: Index of the segment after which each sample left, shape (N,).
        latency_ms: Wall time of the whole call.

    Example:
        >>> logits = np.zeros((1, 10), dtype=np.float32)
        >>> Prediction((logits,), exit=np.zeros(1, dtype=np.int64), latency_ms=0.2).output.shape
        (1, 10)
    """

    outputs: Arrays
    exit: NDArray[np.int64]
    latency_ms: float

    @property
    def output(self) -> NDArray[Any]:
        """The first output; of most models the only one."""
        return self.outputs[0]


class Session:
    """Runs a bundle's segments in order; safe to call from several threads at once.

    Segment 0 takes the model's inputs, each later one the last output of the segment before. Of a
    segment that is not the last, the first output is an exit's logits, shape (N, classes). Samples
    whose top softmax probability there reaches the segment's threshold leave with these logits;
    only the others are computed on.

    Args:
        bundle: A verified bundle.
        threads: Threads inside an operator.
        engine: Makes the engine of one segment from its bytes and ``threads``.

    Attributes:
        manifest: What the bundle says of itself.
        runtime: Name and version of the engine.

    Raises:
        BundleError: The bundle is for another runtime, its segments do not fit together, or the
            runtime refuses one.
        UsageError: ``threads`` is below 1.

    Example:
        See `load`.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1,
                 engine: Callable[[bytes, int], Engine] = OnnxEngine) -> None:
        if threads < 1:
            raise UsageError(f"threads must be at least 1, got {threads}")
        _check_runnable(bundle)
        self.manifest: Final[Manifest] = bundle.manifest
        self._engines = tuple(engine(model, threads) for model in bundle.segments.values())
        self._thresholds = bundle.manifest.thresholds
        self._counters = Counters(bundle.manifest.segments)
        self.runtime: Final[str] = self._engines[0].runtime

    def __call__(self, *inputs: NDArray[Any]) -> Prediction:
        """Run a batch: one array an input of the manifest, of the same batch size.

        Raises:
            DataError: The arrays are not what the manifest says the model takes.
        """
        start = time.perf_counter_ns()
        samples = check_inputs(self.manifest.inputs, inputs)
        if self._thresholds:
            outputs, exits = self._run_staged(inputs, samples)
        else:
            outputs, exits = self._engines[0].run(inputs), np.zeros(samples, dtype=np.int64)
        self._counters.add(exits)
        return Prediction(outputs, exits, (time.perf_counter_ns() - start) / 1e6)

    def run_all_exits(self, *inputs: NDArray[Any]) -> list[Arrays]:
        """Run every segment on every sample, whatever the thresholds; it is not counted.

        Returns:
            For each segment the model's outputs as a sample that leaves there gets them.

        Raises:
            DataError: The arrays are not what the manifest says the model takes.
        """
        check_inputs(self.manifest.inputs, inputs)
        found: list[Arrays] = []
        current: Arrays = inputs
        for engine in self._engines[:-1]:
            results = engine.run(current)
            found.append(results[:1])
            current = results[-1:]
        return [*found, self._engines[-1].run(current)]

    def stats(self) -> Stats:
        """Calls, samples and exits so far, with the mean cost of a sample."""
        return self._counters.stats()

    def _run_staged(self, inputs: Arrays, samples: int) -> tuple[Arrays, NDArray[np.int64]]:
        exits = np.full(samples, len(self._thresholds), dtype=np.int64)
        left: list[tuple[NDArray[np.intp], NDArray[Any]]] = []
        staying = np.arange(samples)
        current = inputs
        for index, threshold in enumerate(self._thresholds):
            logits, *_, features = self._engines[index].run(current)
            leaves = confidence(logits) >= threshold
            if leaves.any():
                left.append((staying[leaves], logits[leaves]))
                exits[staying[leaves]] = index
                staying, features = staying[~leaves], features[~leaves]
            if not staying.size:
                break
            current = (features,)
        if staying.size:
            left.append((staying, self._engines[-1].run(current)[0]))
        return (_merge(left, samples),), exits


def load(path: str | os.PathLike[str], *, threads: int = 1) -> Session:
    """Read and verify a bundle, and make it ready to run.

    Raises:
        BundleError: The file is no bundle, is altered, or cannot run here.
        UsageError: ``threads`` is below 1.

    Example:
        >>> import tempfile, onnx.parser
        >>> from edgewright.bundle import write_bundle
        >>> from edgewright.core import Budget, Figures, Segment, TensorSpec
        >>> relu = onnx.parser.parse_model('''
        ...     <ir_version: 8, opset_import: ["": 17]>
        ...     relu (float[N, 2] x) => (float[N, 2] y) { y = Relu(x) }''').SerializeToString()
        >>> spec = TensorSpec(name="x", dtype="float32", shape=(None, 2))
        >>> segment = Segment(file="segments/0.onnx", sha256="", size_bytes=0, macs=4,
        ...                   energy_mj=0.1, ram_bytes=8)
        >>> manifest = Manifest(
        ...     model="tiny", data="none", recipe={}, seed=0, budget=Budget(), versions={},
        ...     machine="any", inputs=(spec,), outputs=(spec,), segments=(segment,),
        ...     original=Figures(), compressed=Figures(), simulated=Figures())
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = write_bundle(f"{folder}/tiny.edge", manifest, {"segments/0.onnx": relu})
        ...     session = load(f"{folder}/tiny.edge")
        >>> session(np.array([[-1, 2], [3, -4]], dtype=np.float32)).output.tolist()
        [[0.0, 2.0], [3.0, 0.0]]
        >>> session.stats().samples
        2
    """
    return Session(read_bundle(path), threads=threads)


def confidence(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Top softmax probability of each row of logits (N, classes), shape (N,)."""
    if logits.ndim != 2:
        raise DataError(f"an exit gave logits of shape {logits.shape}, expected (N, classes); only "
                        "classifiers can leave early")
    below_top = logits.astype(np.float64)
    below_top -= below_top.max(axis=1, keepdims=True)
    found: NDArray[np.float64] = 1.0 / np.exp(below_top).sum(axis=1)
    return found


def _merge(left: list[tuple[NDArray[np.intp], NDArray[Any]]], samples: int) -> NDArray[Any]:
    if len(left) == 1:
        return left[0][1]   # all left together, in their order
    logits = left[0][1]
    merged = np.empty((samples, *logits.shape[1:]), dtype=logits.dtype)
    for rows, values in left:
        merged[rows] = values
    return merged


def _check_runnable(bundle: Bundle) -> None:
    manifest = bundle.manifest
    if manifest.runtime != _RUNTIME:
        raise BundleError(f"{bundle.path} is for the runtime {manifest.runtime!r}, and a session "
                          f"runs {_RUNTIME!r}; compress for that target")
    early, last = manifest.segments[:-1], manifest.segments[-1]
    if any(segment.threshold is None for segment in early) or last.threshold is not None:
        raise BundleError(f"{bundle.path}: every segment but the last needs a threshold, got "
                          f"{[s.threshold for s in manifest.segments]}; compress it again")
    if early and len(manifest.outputs) != 1:
        raise BundleError(f"{bundle.path} has early exits and {len(manifest.outputs)} outputs; "
                          "only a model with one output can leave early")
