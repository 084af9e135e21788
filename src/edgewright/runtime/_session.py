"""A bundle, ready to run: a sample leaves at the first exit that is sure enough of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edgewright.bundle import Bundle, read_bundle
from edgewright.core import Manifest, OperatingPoint
from edgewright.errors import BundleError, UsageError
from edgewright.runtime._drift import Drift, DriftMonitor
from edgewright.runtime._finite import check_finite, check_outputs
from edgewright.runtime._inputs import check_inputs
from edgewright.runtime._prediction import Prediction
from edgewright.runtime._runnable import output_names, runnable_points
from edgewright.runtime._segment_times import SegmentTimes
from edgewright.runtime._stats import Counters, Stats
from edgewright.runtime.adaptation import Controller, Power, Senses, Sensor
from edgewright.runtime.early_exit import MOST_CLASSES, Walked, walk, walk_one, walk_whole
from edgewright.runtime.engines import Arrays, Engine, OnnxEngine

_PROBES: Final = 5
_MOST_THREADS: Final = 1024


class Session:
    """Runs the segments of an operating point in order; safe to call from several threads at once.

    The first segment takes the model's inputs, each later one the last output of the segment
    before, or the inputs again where the manifest says so. Of a segment that is not the last, the
    first output is an exit's logits, shape (N, classes). Samples whose score there (see
    `exit_scores`) reaches the exit's threshold leave with these logits; only the others are
    computed on.

    Left alone, every call goes through the manifest's default point. Set ``deadline_ms``,
    ``power`` or ``sensors`` to adapt: a controller then picks a point for every call, see
    `Controller`. Set ``point`` to pick one yourself: it stays, whatever else is set, until
    ``point`` is set to None. Setting an attribute never runs the model.

    Args:
        bundle: A verified bundle.
        threads: Threads inside an operator.
        engine: Makes the engine of one segment from its bytes and ``threads``.
        sensors: Of the device's battery and temperature, read about once a second.
        validate: Refuse NaN and infinity in the inputs, and in the answers of the exits and the
            model (where minus infinity passes, as the logit of a class that cannot be).
            ``benchmarks/runtime/input_validation.py`` measures what it costs.

    Attributes:
        manifest: What the bundle says of itself.
        points: Its operating points, the default first.
        runtime: Name and version of the engine.
        validate: As given; may be changed between calls.

    Raises:
        BundleError: The bundle is for another runtime, its segments do not fit together, or the
            runtime refuses one.
        UsageError: ``threads`` is not from 1 to 1024, or a sensor is none.

    Example:
        See `load`.
    """

    # So that a setting whose name is misspelt is an error.
    __slots__ = ("__weakref__", "_adapts", "_classes", "_controller", "_counters",
                 "_deadline_is_new", "_engines", "_monitors", "_output_names", "_pinned",
                 "_senses", "_takes_inputs", "_times", "manifest", "points", "runtime",
                 "validate")

    def __init__(self, bundle: Bundle, *, threads: int = 1,
                 engine: Callable[[bytes, int], Engine] = OnnxEngine,
                 sensors: Iterable[Sensor] = (), validate: bool = True) -> None:
        if type(threads) is not int or not 1 <= threads <= _MOST_THREADS:
            raise UsageError(f"threads must be at least 1 and a whole number up to "
                             f"{_MOST_THREADS}, got {threads!r}")
        self.points: Final = runnable_points(bundle)
        self.manifest: Final[Manifest] = bundle.manifest
        self._engines = tuple(engine(model, threads) for model in bundle.segments.values())
        self._takes_inputs = frozenset(
            {point.path[0] for point in self.points}
            | {number for number, segment in enumerate(bundle.manifest.segments)
               if segment.reads == "inputs"})
        self._classes = next(reversed(bundle.manifest.outputs[0].shape), None) or 0
        self._counters = Counters(bundle.manifest.segments, self.points)
        self._times = SegmentTimes(len(self._engines))
        self._senses = Senses(tuple(sensors)) if sensors else None
        self._controller = Controller(self.points, senses=self._senses)
        self.validate = validate
        self._output_names = output_names(bundle.manifest, self.points)
        self._pinned: int | None = None
        self._adapts = self._senses is not None
        self._deadline_is_new = False
        self._monitors = tuple(DriftMonitor(point.calibrated) if point.rules and point.calibrated
                               else None for point in self.points)
        self.runtime: Final[str] = self._engines[0].runtime

    def __call__(self, *inputs: NDArray[Any]) -> Prediction:
        """Run a batch: one array an input of the manifest, of the same batch size.

        Raises:
            DataError: The arrays are not what the manifest says the model takes, or they or the
                outputs hold NaN or infinity.
            UsageError: The deadline was set below what the cheapest point's first segment takes
                here, which the first call after that times on its first sample.
        """
        start = time.perf_counter_ns()
        samples = self._check(inputs)
        if self._deadline_is_new:
            self._check_deadline(inputs)
            start = time.perf_counter_ns()
        number = self._number()
        deadline_ms = self._controller.deadline_ms
        walked = self._walk(self.points[number], inputs, samples, start, deadline_ms)
        latency_ms = _since_ms(start)
        self._note(number, walked, latency_ms, deadline_ms)
        return Prediction(walked.outputs, np.array(walked.exits), latency_ms,
                          self.points[number].name, np.array(walked.cut_short))

    @property
    def point(self) -> str | None:
        """Name of the operating point every call goes through; None where the controller picks.

        One that is set stays until it is set to None, which leaves the choice to the controller.

        Raises:
            UsageError: Set to a name that the bundle does not have.
        """
        if self._pinned is None and self._adapts:
            return None
        return self.points[self._pinned or 0].name

    @point.setter
    def point(self, name: str | None) -> None:
        names = [point.name for point in self.points]
        if name is not None and name not in names:
            raise UsageError(f"the bundle has no operating point {name!r}; it has "
                             f"{', '.join(names)}")
        self._pinned = None if name is None else names.index(name)
        self._adapts = True

    @property
    def deadline_ms(self) -> float | None:
        """How long a call may take, in milliseconds; None for any time.

        The controller picks cheaper points to stay below, unless ``point`` is set. A sample whose
        next segment would end too late leaves with the best answer so far, at any point.

        Raises:
            UsageError: Set to what is no finite number above 0.
        """
        return self._controller.deadline_ms

    @deadline_ms.setter
    def deadline_ms(self, value: float | None) -> None:
        self._controller.deadline_ms = value
        self._deadline_is_new = value is not None
        self._adapts = True

    @property
    def power(self) -> Power:
        """How much energy to spend: ``high``, ``balanced``, ``low``, or ``auto`` by the sensors.

        Raises:
            UsageError: Set to anything else, or while ``point`` is set, which leaves it nothing
                to decide.
        """
        return self._controller.power

    @power.setter
    def power(self, value: Power) -> None:
        if self._pinned is not None:
            raise UsageError(f"power={value!r} would change nothing while every call goes through "
                             f"the operating point {self.point!r}; set point = None first")
        self._controller.power = value
        self._adapts = True

    def run_all_exits(self, *inputs: NDArray[Any]) -> list[Arrays]:
        """Run the default point's whole path on every sample; it is not counted.

        Returns:
            For each step the model's outputs as a sample that leaves there gets them.

        Raises:
            DataError: As a call.
        """
        self._check(inputs)
        path = self.points[0].path
        found: list[Arrays] = []
        current: Arrays = inputs
        for segment, after in pairwise(path):
            results = self._run(segment, current)
            found.append(results[:1])
            current = inputs if after in self._takes_inputs else results[-1:]
        return [*found, self._run(path[-1], current)]

    def stats(self) -> Stats:
        """Calls, samples and exits so far, what they cost, and how long calls take."""
        return self._counters.stats()

    def drift(self) -> Drift | None:
        """Whether the samples still leave as at calibration; None where that is not known.

        Of several operating points the first that has drifted, else the default one.
        """
        verdicts = [monitor.verdict for monitor in self._monitors if monitor is not None]
        return next((one for one in verdicts if one.drifted), verdicts[0] if verdicts else None)

    @property
    def controller(self) -> Controller:
        """What picks the points; its ``trace`` tells every change and the reason."""
        return self._controller

    def _check(self, inputs: Arrays) -> int:
        samples = check_inputs(self.manifest.inputs, inputs)
        if self.validate:
            check_finite(self.manifest.inputs, inputs)
        return samples

    def _number(self) -> int:
        if self._pinned is not None:
            return self._pinned
        return self._controller.choose() if self._adapts else 0

    def _walk(self, point: OperatingPoint, inputs: Arrays, samples: int, start: int,
              deadline_ms: float | None) -> Walked:
        def has_time(segment: int, samples: int) -> bool:
            if deadline_ms is None:
                return True
            expected = self._times.expect(segment, samples)
            return expected is None or _since_ms(start) + expected < deadline_ms

        run = self._run if deadline_ms is None else self._run_timed
        if not point.rules:
            return walk_whole(point, inputs, run, samples)
        few = samples == 1 and self._classes <= MOST_CLASSES
        return (walk_one if few else walk)(point, self._takes_inputs, inputs, run, has_time)

    def _run(self, segment: int, inputs: Arrays) -> Arrays:
        return self._checked(segment, self._compute(segment, inputs))

    def _compute(self, segment: int, inputs: Arrays) -> Arrays:
        """What a segment gives; its inputs fit the manifest, so that they fit the model too."""
        try:
            return self._engines[segment].run(inputs)
        except BundleError as error:
            raise BundleError(f"{error}; the bundle's manifest and its model disagree") from error

    def _run_timed(self, segment: int, inputs: Arrays) -> Arrays:
        since = time.perf_counter_ns()
        outputs = self._compute(segment, inputs)
        self._times.add(segment, len(inputs[0]) if inputs[0].ndim else 1, _since_ms(since))
        return self._checked(segment, outputs)

    def _checked(self, segment: int, outputs: Arrays) -> Arrays:
        if self.validate:
            check_outputs(self._output_names[segment], self.manifest.segments[segment].file,
                          outputs)
        return outputs

    def _note(self, number: int, walked: Walked, latency_ms: float,
              deadline_ms: float | None) -> None:
        late = deadline_ms is not None and latency_ms > deadline_ms
        self._counters.add(number, walked.exits, latency_ms, late=late,
                           cut_short=sum(walked.cut_short))
        if self._pinned is None and self._adapts:
            self._controller.record(number, latency_ms)
        monitor = self._monitors[number]
        if monitor is not None:
            monitor.add(walked.first, walked.exits)

    def _check_deadline(self, inputs: Arrays) -> None:
        deadline_ms = self.deadline_ms
        first = min((point.path[0] for point in self.points),
                    key=lambda number: self.manifest.segments[number].macs)
        sample = tuple(array[:1] if spec.shape[:1] == (None,) else array
                        for spec, array in zip(self.manifest.inputs, inputs, strict=True))
        least = min(_timed_ms(partial(self._compute, first), sample) for _ in range(_PROBES))
        if deadline_ms is not None and not deadline_ms > least:
            raise UsageError(f"a deadline of {deadline_ms:g} ms cannot be met: the first segment "
                             f"of the cheapest operating point alone takes {least:.3g} ms here; "
                             "set a later one, or compress further")
        self._deadline_is_new = False


def load(path: str | os.PathLike[str], *, threads: int = 1,
         sensors: Iterable[Sensor] = (), validate: bool = True) -> Session:
    """Read and verify a bundle, and make it ready to run; the arguments are those of `Session`.

    Raises:
        BundleError: The file is no bundle, is altered, or cannot run here.
        UsageError: ``threads`` is not from 1 to 1024, or a sensor is none.

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
    return Session(read_bundle(path), threads=threads, sensors=sensors, validate=validate)


def _since_ms(start_ns: int) -> float:
    return (time.perf_counter_ns() - start_ns) / 1e6


def _timed_ms(run: Callable[[Arrays], Arrays], inputs: Arrays) -> float:
    since = time.perf_counter_ns()
    run(inputs)
    return _since_ms(since)
