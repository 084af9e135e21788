"""Combine bundles: a cascade of models, and variants to choose from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from os import PathLike
from typing import Any, Final, final

from edgewright.bundle import Bundle, read_bundle, write_bundle
from edgewright.core import (
    ExitRule,
    Figures,
    Manifest,
    Measurement,
    ModelSpec,
    OperatingPoint,
    Segment,
)
from edgewright.errors import UsageError
from edgewright.exits import DEFAULT_POINT, ExitCalibration
from edgewright.pipeline._evaluate import time_sessions
from edgewright.pipeline._points import (
    add_latency,
    add_operating_points,
    evaluate_operating_points,
)
from edgewright.pipeline._run_log import RunLog
from edgewright.runtime import Session
from edgewright.task import Task

PathText = str | PathLike[str]
_SHARED_FIELDS: Final = ("runtime", "goal", "decoding", "classes", "preprocessing")


def cascade(small: PathText, large: PathText, task: Task, out: PathText, *,
            config: ExitCalibration | None = None, seed: int = 0, quiet: bool = False) -> Manifest:
    """Combine two models: the small one predicts if it is confident, else the large one.

    All exits of both models, including the small one's last, are exits of the cascade. Their
    thresholds are chosen on the validation split, as for exits inside one network. The large model
    may be the small one at a higher resolution, see `AtResolution`.

    Args:
        small: A bundle with the same inputs and classes.
        large: A bundle; its accuracy is the reference.
        task: Thresholds are chosen on its validation split and measured on its test split.
        out: The bundle to write.
        config: The policy, and the allowed drop relative to the large model.
        seed: Seed of the calibration.
        quiet: Print nothing.

    Returns:
        The manifest as written.

    Raises:
        UsageError: The two differ in runtime, goal, classes, preprocessing, inputs or outputs, or
            their goal is not the task's or no classification.
        BundleError: A bundle cannot be read.

    Example:
        from edgewright.exits import ExitCalibration

        manifest = ew.cascade("runs/r20/model.edge", "runs/r56/model.edge", task, "both.edge",
                              config=ExitCalibration(max_drop=0.005))
    """
    first, second = read_bundle(small), read_bundle(large)
    _check_same({"small": first, "large": second})
    _check_confidence(second, task)
    pool = _SegmentPool()
    path = (*_path(first.manifest.model.default_point, pool.add(first)),
            *_path(second.manifest.model.default_point, pool.add(second, behind=True)))
    point = OperatingPoint(name=DEFAULT_POINT, path=path,
                           rules=(ExitRule(threshold=None),) * (len(path) - 1))
    draft = pool.bundle(second, (point,), {"cascade": [first.manifest.report.recipe,
                                                       second.manifest.report.recipe]})
    chosen = add_operating_points(draft, task, config or ExitCalibration(), seed,
                                  RunLog(quiet=quiet))
    session = Session(chosen)
    figures, manifest = evaluate_operating_points(session, chosen, task)
    latencies = time_sessions({"large": Session(second), "cascade": session}, task.test)
    manifest = manifest.with_report(
        seed=seed, data=task.name,
        original=second.manifest.report.compressed.with_(*latencies["large"]),
        compressed=figures.with_(*_parameters(first, second)))
    return write_bundle(out, add_latency(manifest, latencies["cascade"]), chosen.segments)


def combine(variants: Mapping[str, PathText], out: PathText) -> Manifest:
    """Combine several bundles into one whose operating points a session can choose from.

    The variants may differ in widths, bits, or exits. Equal files are stored once. All points of a
    variant with several points are kept, as ``variant/point``.

    Args:
        variants: Bundles by the name of their point; the first is the default.
        out: The bundle to write.

    Returns:
        The manifest as written: the default's, with the segments and points of all variants.

    Raises:
        UsageError: There are fewer than two variants, or they differ in runtime, classes,
            preprocessing, inputs or outputs; or one of them chooses its path by the input.
        BundleError: A bundle cannot be read.

    Example:
        ew.combine({"full": "runs/int8/model.edge", "saver": "runs/half/model.edge"}, "all.edge")
    """
    if len(variants) < 2:
        raise UsageError(f"{len(variants)} bundles cannot be combined; give at least two by name")
    bundles = {name: read_bundle(path) for name, path in variants.items()}
    _check_same(bundles)
    pool = _SegmentPool()
    points = [point for name, bundle in bundles.items()
              for point in _rename_points(name, bundle, pool.add(bundle))]
    default = next(iter(bundles.values()))
    draft = pool.bundle(default, tuple(points), {"combined": {
        name: bundle.manifest.report.recipe for name, bundle in bundles.items()}})
    return write_bundle(out, draft.manifest, draft.segments)


def _rename_points(name: str, bundle: Bundle, numbers: tuple[int, ...]) -> Iterator[OperatingPoint]:
    """A bundle's points with the new numbers of its segments."""
    model = bundle.manifest.model
    points = model.points or (
        model.default_point.replace(figures=bundle.manifest.report.compressed),)
    for index, point in enumerate(points):
        yield point.replace(name=name if index == 0 else f"{name}/{point.name}",
                            path=_path(point, numbers))


def _path(point: OperatingPoint, numbers: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(numbers[number] for number in point.path)


def _parameters(*bundles: Bundle) -> tuple[Measurement, ...]:
    """The sum of all parameters, if every bundle states its own."""
    found = [bundle.manifest.report.compressed.find("parameters") for bundle in bundles]
    known = [one for one in found if one is not None]
    if len(known) < len(found):
        return ()
    return (known[0].replace(value=sum(one.value for one in known)),)


@final
class _SegmentPool:
    """Collects segments of several bundles under new names, each file once."""

    def __init__(self) -> None:
        self._segments: list[Segment] = []
        self._files: dict[str, bytes] = {}

    def add(self, bundle: Bundle, *, behind: bool = False) -> tuple[int, ...]:
        """Add a bundle's segments; with ``behind``, its first segment reads the inputs again."""
        model = bundle.manifest.model
        first = model.default_point.path[0]
        return tuple(
            self._number(segment.replace(reads="inputs")
                         if behind and number == first else segment, bundle.segments[segment.file])
            for number, segment in enumerate(model.segments))

    def bundle(self, base: Bundle, points: tuple[OperatingPoint, ...],
               recipe: dict[str, object]) -> Bundle:
        """Make one bundle in memory from all segments, with the manifest of the base."""
        manifest = base.manifest.with_model(
            segments=tuple(self._segments), points=points).with_report(
            curve=(), recipe=recipe, simulated=Figures(), parity=None, stages=(), layers=(),
            breaches=())
        return Bundle(base.path, manifest, dict(self._files))

    def _number(self, segment: Segment, content: bytes) -> int:
        for number, known in enumerate(self._segments):
            if (known.sha256, known.reads) == (segment.sha256, segment.reads):
                return number
        name = f"segments/{len(self._segments)}.onnx"
        self._segments.append(segment.replace(file=name))
        self._files[name] = content
        return len(self._segments) - 1


def _shared(model: ModelSpec, field: str) -> Any:
    """A field's value; names of outputs do not matter, as there is one."""
    value = getattr(model, field)
    if field == "decoding":
        return [step.rename_outputs(lambda _: "") for step in value]
    return value


def _check_confidence(bundle: Bundle, task: Task) -> None:
    goal = bundle.manifest.model.goal
    if goal != task.goal.name:
        raise UsageError(f"the bundles' goal is {goal}, the task's {task.goal.name}; give the task "
                         "they were made with")
    if not task.goal.scores_on_device:
        raise UsageError(f"the outputs of the goal {goal} are no logits of one class per sample, "
                         "by which a device could tell whether the small model is sure enough; "
                         "combine them as variants instead")


def _check_same(bundles: Mapping[str, Bundle]) -> None:
    routed = [name for name, bundle in bundles.items() if bundle.manifest.model.is_routed]
    if routed:
        raise UsageError(f"{routed[0]!r} chooses its path by the input and cannot be in one bundle "
                         "with other models")
    (name, first), *others = bundles.items()
    for other, bundle in others:
        for field in _SHARED_FIELDS:
            mine, theirs = (_shared(one.manifest.model, field) for one in (first, bundle))
            if mine != theirs:
                raise UsageError(f"{name!r} and {other!r} have different {field} ({mine} and "
                                 f"{theirs}) and cannot be in one bundle; compress both for the "
                                 "same task")
        for what in ("inputs", "outputs"):
            mine, theirs = ([(spec.dtype, spec.shape) for spec in getattr(one.manifest.model, what)]
                            for one in (first, bundle))
            if mine != theirs:
                raise UsageError(f"{name!r} and {other!r} have different {what} ({mine} and "
                                 f"{theirs}) and cannot be in one bundle")
    outputs = len(first.manifest.model.outputs)
    if outputs != 1:
        raise UsageError(f"{name!r} has {outputs} outputs; a bundle of several models needs one")
