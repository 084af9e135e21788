"""A bundle that is loaded and ready to run, with early exits and adaptation."""

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
from edgewright.core import (
    AudioPreprocessing,
    ModelSpec,
    OperatingPoint,
    Preprocessing,
    SizeRange,
)
from edgewright.errors import BundleError, UsageError
from edgewright.runtime._drift import Drift, DriftMonitor
from edgewright.runtime._finite import check_finite, check_outputs
from edgewright.runtime._inputs import check_inputs, read_input
from edgewright.runtime._pictures import Picture, is_picture, picture_size
from edgewright.runtime._prediction import Prediction
from edgewright.runtime._recordings import Recording, is_recording
from edgewright.runtime._runnable import find_runnable_points, make_decoder, output_names
from edgewright.runtime._segment_times import SegmentTimes
from edgewright.runtime._stats import Counters, Stats
from edgewright.runtime._stream import Stream
from edgewright.runtime.adaptation import Controller, DevicePressure, Power, Sensor
from edgewright.runtime.decoding import resize_boxes
from edgewright.runtime.early_exit import (
    MAX_CLASSES,
    ExitOutputs,
    ExitResult,
    find_scores,
    run_single_sample,
    run_with_exits,
    run_without_exits,
)
from edgewright.runtime.engines import Arrays, Engine, OnnxEngine
from edgewright.runtime.routing import Router

_PROBES: Final = 5
_MAX_THREADS: Final = 1024


class Session:
    """Runs a bundle, one operating point per call; safe to call from several threads at once.

    The first segment of the point takes the model's inputs, each later one the last output of the
    previous segment, or the inputs again if the bundle says so. The first output of every segment
    but the last is an exit's output. Samples whose score reaches the exit's threshold leave with
    this output; only the others go on. A classifier's score is computed here from its logits (see
    `exit_scores`), that of other goals inside the segment. Of a model that chooses its path by the
    input, only the segments on the path taken run, per sample.

    Three settings decide how a call runs. Each keeps its value until it is set again, and setting
    one never changes another:

    - ``point`` (None at first) fixes the operating point. It wins over the other two: they cannot
      change the point while it is set. Use it if you need reproducible results.
    - ``deadline_ms`` (None at first) limits the latency. With ``point`` None a controller picks a
      cheaper operating point when calls get too slow; at any point, a sample whose next segment
      would end too late leaves early.
    - ``power`` (``auto`` at first) limits the cost. With ``point`` None the controller picks no
      operating point more expensive than it allows; with ``auto`` the sensors decide.

    With none of them set and no sensors, every call runs the bundle's default point. `Controller`
    describes how it picks. Changing a setting never runs the model.

    Args:
        bundle: A verified bundle.
        threads: Threads inside an operator.
        engine: Makes the engine of one segment from its bytes and ``threads``.
        sensors: Of the device's battery and temperature, read about once per second.
        validate: Reject NaN and infinity in the inputs, and in the outputs of the exits and the
            model (except minus infinity, the logit of an impossible class). Turn it off only if
            the inputs are checked elsewhere and every microsecond counts;
            ``benchmarks/runtime/input_validation.py`` measures the cost.

    Attributes:
        model: The bundle's inputs, outputs, segments and preprocessing.
        points: Its operating points, the default first.
        runtime: Name and version of the engine.
        validate: As given; may be changed between calls.

    Raises:
        BundleError: The bundle is for another runtime, its segments do not fit together, a decoding
            step does not fit the outputs, or the engine cannot load a segment.
        UsageError: ``threads`` is not from 1 to 1024, or a sensor is invalid.

    Example:
        See `load`.
    """

    # Slots, so that a misspelt setting is an error.
    __slots__ = ("__weakref__", "_classes", "_controller", "_counters", "_deadline_is_new",
                 "_decoder", "_engines", "_fixed_point", "_monitors", "_output_names",
                 "_router", "_takes_inputs", "_times", "model", "points", "runtime", "validate")

    def __init__(self, bundle: Bundle, *, threads: int = 1,
                 engine: Callable[[bytes, int], Engine] = OnnxEngine,
                 sensors: Iterable[Sensor] = (), validate: bool = True) -> None:
        if type(threads) is not int or not 1 <= threads <= _MAX_THREADS:
            raise UsageError(f"threads must be a whole number from 1 to {_MAX_THREADS}, got "
                             f"{threads!r}")
        self.points: Final = find_runnable_points(bundle)
        self.model: Final[ModelSpec] = bundle.manifest.model
        self._decoder = make_decoder(bundle)
        self._engines = tuple(engine(model, threads) for model in bundle.segments.values())
        self._takes_inputs = frozenset(
            {point.path[0] for point in self.points}
            | {number for number, segment in enumerate(self.model.segments)
               if segment.reads == "inputs"})
        last = next(reversed(self.model.outputs[0].shape), None)
        self._classes = last.high if isinstance(last, SizeRange) else last or 0
        self._router = Router(self.model) if self.model.is_routed else None
        self._counters = Counters(self.model.segments, self.points)
        self._times = SegmentTimes(len(self._engines))
        pressure = DevicePressure(tuple(sensors)) if sensors else None
        self._controller = Controller(self.points, pressure=pressure)
        self.validate = validate
        self._output_names = output_names(self.model, self.points)
        self._fixed_point: int | None = None
        self._deadline_is_new = False
        self._monitors = tuple(DriftMonitor(point.calibrated) if point.rules and point.calibrated
                               else None for point in self.points)
        self.runtime: Final[str] = self._engines[0].runtime

    def __call__(self, *inputs: NDArray[Any]) -> Prediction:
        """Run a batch: one array per input of the model, all of the same batch size.

        Raises:
            DataError: The arrays do not match the model's inputs, or they or the outputs contain
                NaN or infinity.
            UsageError: A new deadline is below the time that the cheapest point's first segment
                takes on this machine; the first call after setting it measures that on its first
                sample.
        """
        start = time.perf_counter_ns()
        samples = self._check(inputs)
        if self._deadline_is_new:
            self._check_deadline(inputs)
            start = time.perf_counter_ns()
        fixed = self._fixed_point
        number = self._controller.choose() if fixed is None else fixed
        deadline_ms = self._controller.deadline_ms
        computed: tuple[int, ...] = ()
        if self._router is None:
            result = self._run_point(self.points[number], inputs, samples, start, deadline_ms)
        else:
            routed = self._router.run(inputs, samples, self._run)
            result = ExitResult(routed.outputs, [0] * samples, [False] * samples, [])
            computed = tuple(routed.computed)
        latency_ms = _since_ms(start)
        late = deadline_ms is not None and latency_ms > deadline_ms
        self._counters.add(number, result.exits, latency_ms, late=late,
                           cut_short=sum(result.cut_short), computed=computed)
        if fixed is None:
            self._controller.record(number, latency_ms)
        monitor = self._monitors[number]
        if monitor is not None:
            monitor.add(result.first_confidence, result.exits)
        return Prediction(result.outputs, np.array(result.exits), latency_ms,
                          self.points[number].name, np.array(result.cut_short), computed)

    def predict(self, *inputs: Any) -> Any:
        """Run and decode by the steps that the bundle names: classes, masks, answers, boxes, ...

        Args:
            inputs: A picture (an image file, a Pillow image, or pixels (H, W, C) in uint8) or a
                recording (a ``.wav`` file, or a waveform (samples,) or (samples, channels) in int16
                at the sample rate of the preprocessing), which goes through the bundle's
                preprocessing; or a ``.npy`` or ``.npz`` file as for `read`; or one array per input
                of the model, which are taken as they are.

        Returns:
            For a picture or a recording its result: a `ClassRanking`, `Mask`, `AnswerSet`,
            `Detections` (boxes in pixels of the picture), `Vector` or `Quantity`; a dict of results
            by output if the model has several predictions. Otherwise a list with the result of each
            sample.

        Raises:
            DataError: The inputs cannot be read or do not match the model.
            UsageError: The bundle does not say how its outputs are decoded.

        Example:
            session.predict("cat.png").top(5)
        """
        source = inputs[0] if len(inputs) == 1 else None
        recipe, is_array = self.model.preprocessing, isinstance(source, np.ndarray)
        if ((is_recording(source) and (isinstance(recipe, AudioPreprocessing) or not is_array))
                or (is_picture(source) and (isinstance(recipe, Preprocessing) or not is_array))):
            return self.decode(self(*self.read(source)), source)[0]
        if isinstance(source, str | os.PathLike):
            inputs = self.read(source)
        return self.decode(self(*inputs))

    def read(self, source: Picture | Recording) -> Arrays:
        """Read a file, a picture or a waveform as the model's inputs, one array each.

        Args:
            source: A ``.npy`` or ``.npz`` file of preprocessed values (see `read_input`), or a
                picture or a recording as for `predict`, which goes through the bundle's
                preprocessing.

        Raises:
            DataError: It cannot be read, contains NaN or infinity, or does not match the model.
            MissingExtraError: It is an image and Pillow is not installed.

        Example:
            prediction = session(*session.read("cat.png"))
        """
        return read_input(source, self.model)

    def decode(self, prediction: Prediction, source: object = None) -> list[Any]:
        """The result of each sample of a call, as `predict` returns it.

        Args:
            prediction: What the call returned.
            source: The picture that was its input, if it was one: boxes are returned in its pixels.

        Raises:
            UsageError: The bundle does not say how its outputs are decoded.

        Example:
            prediction = session(*session.read("cat.png"))
            result = session.decode(prediction, "cat.png")[0]
        """
        results = self._decoder(prediction.outputs)
        recipe = self.model.preprocessing
        if not isinstance(recipe, Preprocessing) or not is_picture(source):
            return results
        size = (recipe.width, recipe.height)
        return [resize_boxes(result, size, picture_size(source)) for result in results]

    @property
    def point(self) -> str | None:
        """Name of the operating point that every call runs; None lets the controller pick.

        It wins over ``deadline_ms`` and ``power``, and none of them changes it.

        Raises:
            UsageError: Set to a name that the bundle does not have.
        """
        return None if self._fixed_point is None else self.points[self._fixed_point].name

    @point.setter
    def point(self, name: str | None) -> None:
        names = [point.name for point in self.points]
        if name is not None and name not in names:
            raise UsageError(f"the bundle has no operating point {name!r}; it has "
                             f"{', '.join(names)}")
        self._fixed_point = None if name is None else names.index(name)

    @property
    def deadline_ms(self) -> float | None:
        """How long a call may take, in milliseconds; None for no limit.

        The controller picks cheaper operating points to meet it, unless ``point`` is set. At any
        point, a sample whose next segment would end too late leaves with the best answer so far.

        Raises:
            UsageError: Set to anything but a finite number above 0 or None.
        """
        return self._controller.deadline_ms

    @deadline_ms.setter
    def deadline_ms(self, value: float | None) -> None:
        self._controller.deadline_ms = value
        self._deadline_is_new = value is not None

    @property
    def power(self) -> Power:
        """How much energy to spend: ``high``, ``balanced``, ``low``, or ``auto`` by the sensors.

        It has no effect while ``point`` is set, and takes effect when ``point`` is None again.

        Raises:
            UsageError: Set to anything else.
        """
        return self._controller.power

    @power.setter
    def power(self, value: Power) -> None:
        self._controller.power = value

    def run_all_exits(self, *inputs: NDArray[Any]) -> list[ExitOutputs]:
        """Run the default point's whole path on every sample; not counted in `stats`.

        Returns:
            For each step of the path, the outputs that a sample leaving there would get, and the
            score if the segment computes it.

        Raises:
            DataError: As for a call.
        """
        samples = self._check(inputs)
        if self._router is not None:
            return [ExitOutputs(self._router.run(inputs, samples, self._run).outputs)]
        path = self.points[0].path
        found: list[ExitOutputs] = []
        current: Arrays = inputs
        for segment, after in pairwise(path):
            results = self._run(segment, current)
            found.append(ExitOutputs(results[:1], find_scores(results)
                                     if self.model.segments[segment].score else None))
            current = inputs if after in self._takes_inputs else results[-1:]
        return [*found, ExitOutputs(self._run(path[-1], current))]

    def stream(self) -> Stream:
        """A stream, which keeps the model's state between calls and starts from zeros.

        Raises:
            UsageError: The model has no state.
        """
        return Stream(self.model, self)

    def stats(self) -> Stats:
        """Calls, samples and exits so far, their cost, and the latency of calls."""
        return self._counters.stats()

    def drift(self) -> Drift | None:
        """Whether the samples still leave as at calibration; None if no point records that.

        The verdict of the first operating point that has drifted, else of the first that is
        monitored.
        """
        verdicts = [monitor.verdict for monitor in self._monitors if monitor is not None]
        return next((one for one in verdicts if one.drifted), verdicts[0] if verdicts else None)

    @property
    def controller(self) -> Controller:
        """Picks the operating points; its ``trace`` lists every change with its reason."""
        return self._controller

    def _check(self, inputs: Arrays) -> int:
        samples = check_inputs(self.model.inputs, inputs)
        if self.validate:
            check_finite(self.model.inputs, inputs)
        return samples

    def _run_point(self, point: OperatingPoint, inputs: Arrays, samples: int, start: int,
                   deadline_ms: float | None) -> ExitResult:
        def has_time(segment: int, samples: int) -> bool:
            if deadline_ms is None:
                return True
            expected = self._times.expect(segment, samples)
            return expected is None or _since_ms(start) + expected < deadline_ms

        run = self._run if deadline_ms is None else self._run_timed
        if not point.rules:
            return run_without_exits(point, inputs, run, samples)
        scored = self.model.segments[point.path[0]].score is not None
        small = samples == 1 and (scored or self._classes <= MAX_CLASSES)
        run_point = run_single_sample if small else run_with_exits
        return run_point(point, self._takes_inputs, inputs, run, has_time, scored=scored)

    def _run(self, segment: int, inputs: Arrays) -> Arrays:
        return self._checked(segment, self._compute(segment, inputs))

    def _compute(self, segment: int, inputs: Arrays) -> Arrays:
        """A segment's outputs; inputs that match the manifest must match the model file too."""
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
            check_outputs(self._output_names[segment], self.model.segments[segment].file,
                          outputs)
        return outputs

    def _check_deadline(self, inputs: Arrays) -> None:
        deadline_ms = self.deadline_ms
        first = min((point.path[0] for point in self.points),
                    key=lambda number: self.model.segments[number].macs)
        sample = tuple(array[:1] if spec.shape[:1] == (None,) else array
                        for spec, array in zip(self.model.inputs, inputs, strict=True))
        least_ms = min(_time_ms(partial(self._compute, first), sample) for _ in range(_PROBES))
        if deadline_ms is not None and not deadline_ms > least_ms:
            raise UsageError(f"a deadline of {deadline_ms:g} ms cannot be met: the first segment "
                             f"of the cheapest operating point alone takes {least_ms:.3g} ms "
                             "here; set a longer deadline, or compress further")
        self._deadline_is_new = False


def load(path: str | os.PathLike[str], *, threads: int = 1,
         sensors: Iterable[Sensor] = (), validate: bool = True) -> Session:
    """Read and verify a bundle and load it into a `Session`, whose arguments these are.

    Raises:
        BundleError: The file is not a bundle, was altered, or cannot run here.
        UsageError: ``threads`` is not from 1 to 1024, or a sensor is invalid.

    Example:
        >>> import tempfile, onnx.parser
        >>> from edgewright.bundle import write_bundle
        >>> from edgewright.core import (Budget, Figures, Manifest, ModelSpec, RunReport, Segment,
        ...                              TensorSpec)
        >>> relu = onnx.parser.parse_model('''
        ...     <ir_version: 8, opset_import: ["": 17]>
        ...     relu (float[N, 2] x) => (float[N, 2] y) { y = Relu(x) }''').SerializeToString()
        >>> spec = TensorSpec(name="x", dtype="float32", shape=(None, 2))
        >>> segment = Segment(file="segments/0.onnx", sha256="", size_bytes=0, macs=4,
        ...                   energy_mj=0.1, ram_bytes=8)
        >>> manifest = Manifest(
        ...     model=ModelSpec(name="tiny", inputs=(spec,), outputs=(spec,), segments=(segment,)),
        ...     report=RunReport(data="none", recipe={}, seed=0, budget=Budget(), versions={},
        ...                      machine="any", original=Figures(), compressed=Figures(),
        ...                      simulated=Figures()))
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


def _time_ms(run: Callable[[Arrays], Arrays], inputs: Arrays) -> float:
    since = time.perf_counter_ns()
    run(inputs)
    return _since_ms(since)
