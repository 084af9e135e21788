"""Several bundles in one: a cascade of models, and variants to choose among."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from os import PathLike
from typing import Final, final

from edgewright.bundle import Bundle, read_bundle, write_bundle
from edgewright.core import ExitRule, Figures, Manifest, Measurement, OperatingPoint, Segment
from edgewright.errors import UsageError
from edgewright.exits import DEFAULT_POINT, EarlyExits
from edgewright.pipeline._judge import time_sessions
from edgewright.pipeline._narrator import Narrator
from edgewright.pipeline._points import calibrated, judged
from edgewright.runtime import Session
from edgewright.task import Task

PathText = str | PathLike[str]
_SAME: Final = ("runtime", "classes", "preprocessing")


def cascade(small: PathText, large: PathText, task: Task, out: PathText, *,
            config: EarlyExits | None = None, seed: int = 0, quiet: bool = False) -> Manifest:
    """A small model answers what it is sure of, a large one the rest; both in one bundle.

    Every exit of both is one of the cascade, the small one's last among them. How sure each has to
    be is chosen on the validation split, as for exits inside one network. The large model may be
    the small one at a higher resolution, see `AtResolution`.

    Args:
        small: A bundle that takes the same inputs and knows the same classes.
        large: A bundle; its answer is the full one.
        task: Its validation split chooses, its test split judges.
        out: The bundle to write.
        config: The policy, and the drop allowed below the large model.
        seed: Of the choice.
        quiet: Print nothing.

    Returns:
        The manifest as written.

    Raises:
        UsageError: The two do not go together.
        BundleError: One cannot be read.

    Example:
        manifest = ew.cascade("runs/r20/model.edge", "runs/r56/model.edge", task, "both.edge",
                              config=ew.EarlyExits(max_drop=0.005))
    """
    first, second = read_bundle(small), read_bundle(large)
    _check({"small": first, "large": second})
    pool = _Pool()
    path = (*_path(first.manifest.model.default_point, pool.add(first)),
            *_path(second.manifest.model.default_point, pool.add(second, behind=True)))
    point = OperatingPoint(name=DEFAULT_POINT, path=path,
                           rules=(ExitRule(threshold=None),) * (len(path) - 1))
    draft = pool.bundle(second, (point,), {"cascade": [first.manifest.report.recipe,
                                                       second.manifest.report.recipe]})
    chosen = calibrated(draft, task, config or EarlyExits(), seed, Narrator(quiet=quiet))
    session = Session(chosen)
    figures, manifest = judged(session, chosen, task)
    latencies = time_sessions({"large": Session(second), "cascade": session}, task.test)
    default = manifest.model.default_point
    timed = default.replace(figures=default.figures.with_(*latencies["cascade"]))
    manifest = manifest.with_model(points=(timed, *manifest.model.points[1:])).with_report(
        seed=seed, data=task.name,
        original=second.manifest.report.compressed.with_(*latencies["large"]),
        compressed=figures.with_(*_parameters(first, second), *latencies["cascade"]))
    return write_bundle(out, manifest, chosen.segments)


def combine(variants: Mapping[str, PathText], out: PathText) -> Manifest:
    """Several bundles as the operating points of one, for a session to choose among.

    Variants of other widths or bits, or with other exits. Files that are equal are stored once.
    Of a variant with several points each is kept, as ``variant/point``.

    Args:
        variants: Bundles by the name of their point; the first is the default.
        out: The bundle to write.

    Returns:
        The manifest as written: the default's, with the segments and points of all.

    Raises:
        UsageError: There are fewer than two, or they do not go together.
        BundleError: One cannot be read.

    Example:
        ew.combine({"full": "runs/int8/model.edge", "saver": "runs/half/model.edge"}, "all.edge")
    """
    if len(variants) < 2:
        raise UsageError(f"{len(variants)} bundles cannot be combined; give two or more by name")
    bundles = {name: read_bundle(path) for name, path in variants.items()}
    _check(bundles)
    pool = _Pool()
    points = [point for name, bundle in bundles.items()
              for point in _renamed(name, bundle, pool.add(bundle))]
    default = next(iter(bundles.values()))
    draft = pool.bundle(default, tuple(points), {"combined": {
        name: bundle.manifest.report.recipe for name, bundle in bundles.items()}})
    return write_bundle(out, draft.manifest, draft.segments)


def _renamed(name: str, bundle: Bundle, numbers: tuple[int, ...]) -> Iterator[OperatingPoint]:
    """A bundle's points, by the numbers its segments have now."""
    model = bundle.manifest.model
    points = model.points or (
        model.default_point.replace(figures=bundle.manifest.report.compressed),)
    for index, point in enumerate(points):
        yield point.replace(name=name if index == 0 else f"{name}/{point.name}",
                            path=_path(point, numbers))


def _path(point: OperatingPoint, numbers: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(numbers[number] for number in point.path)


def _parameters(*bundles: Bundle) -> tuple[Measurement, ...]:
    """Of all of them, where each knows its own."""
    found = [bundle.manifest.report.compressed.find("parameters") for bundle in bundles]
    known = [one for one in found if one is not None]
    if len(known) < len(found):
        return ()
    return (known[0].replace(value=sum(one.value for one in known)),)


@final
class _Pool:
    """Segments of several bundles under new names, each file once."""

    def __init__(self) -> None:
        self._segments: list[Segment] = []
        self._files: dict[str, bytes] = {}

    def add(self, bundle: Bundle, *, behind: bool = False) -> tuple[int, ...]:
        """Take a bundle's segments in; ``behind`` another's, its first takes the inputs again."""
        model = bundle.manifest.model
        first = model.default_point.path[0]
        return tuple(
            self._number(segment.replace(reads="inputs")
                         if behind and number == first else segment, bundle.segments[segment.file])
            for number, segment in enumerate(model.segments))

    def bundle(self, base: Bundle, points: tuple[OperatingPoint, ...],
               recipe: dict[str, object]) -> Bundle:
        """All that was taken in, as one bundle in memory; what it says is the base's."""
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


def _check(bundles: Mapping[str, Bundle]) -> None:
    (name, first), *others = bundles.items()
    for other, bundle in others:
        for field in _SAME:
            mine, theirs = (getattr(one.manifest.model, field) for one in (first, bundle))
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
        raise UsageError(f"{name!r} has {outputs} outputs; a bundle of several models needs one, "
                         "of logits")
