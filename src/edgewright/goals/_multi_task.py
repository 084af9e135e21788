"""Several goals at once, one per output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from edgewright.core import DecodeStep, NamedStep
from edgewright.errors import DataError, ModelError, UsageError
from edgewright.goals._goal import Agreement, Goal
from edgewright.goals._metrics import Metric, NamedMetric
from edgewright.goals._origin import Origin
from edgewright.goals._outputs import Prediction, list_outputs, named_outputs
from edgewright.goals._targets import list_targets


@final
@dataclass(frozen=True)
class MultiTask(Goal):
    """Several goals, one per output of the model; written as a dict of goals, too.

    The model returns a dict (or a tuple) of predictions, the targets are a dict with the same names
    (or a tuple, in the order of the goals). The loss is the weighted sum of the goals' losses. The
    primary metric is the first goal's.

    Args:
        goals: The goals, by name of their output; of a tuple, by "0", "1", ...
        weights: Weight of each goal's loss, by name; 1 where none is given.
        classes: Names of a goal's classes or questions in the order of its labels, by the goal's
            name; for goals without them results have numbers. With names for one goal alone,
            ``Task(classes=...)`` does the same.

    Raises:
        UsageError: There are no goals, weights or names of classes belong to none, or a goal names
            an output itself.

    Example:
        >>> from edgewright.goals import Classification, Regression
        >>> goal = MultiTask({"age": Regression(unit="years"), "sex": Classification()})
        >>> [found.spec.name for found in goal.metrics]
        ['age/mae', 'age/rmse', 'sex/accuracy']
    """

    goals: Mapping[str, Goal]
    weights: Mapping[str, float] = field(default_factory=dict)
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    name: ClassVar[str] = "multi-task"

    def __post_init__(self) -> None:
        if not self.goals:
            raise UsageError("a goal of several needs at least one; give {'name': goal}")
        for what, given in (("weights", self.weights), ("names of the classes", self.classes)):
            if unknown := given.keys() - self.goals.keys():
                raise UsageError(f"the {what} of {', '.join(sorted(unknown))} belong to no goal; "
                                 f"the goals are {', '.join(self.goals)}")
        for name, goal in self.goals.items():
            if (output := getattr(goal, "output", None)) is not None:
                raise UsageError(f"the goal {name!r} names the output {output!r}, but the name of "
                                 "one of several goals is that of its output; leave output out")

    @property
    def requires_targets(self) -> bool:  # type: ignore[override]
        """Whether one of the goals does."""
        return any(goal.requires_targets for goal in self.goals.values())

    @property
    def exit_obstacle(self) -> str:
        """That a sample would have to leave with all outputs at once."""
        return f"it has {len(self.goals)} outputs, an exit returns one"

    @property
    def metrics(self) -> tuple[NamedMetric, ...]:
        """The metrics of all goals, named ``goal/metric``."""
        return tuple(
            NamedMetric(metric.spec.replace(name=f"{name}/{metric.spec.name}"),
                        _Part(self, name, metric))
            for name, goal in self.goals.items() for metric in goal.metrics)

    def predictions(self, outputs: Any) -> tuple[Prediction, ...]:
        """The predictions of all goals, under the names of their outputs."""
        return tuple(replace(prediction, name=name) for name, goal in self.goals.items()
                     for prediction in goal.predictions(self.output_of(name, outputs)))

    def decoding(self, outputs: Any) -> tuple[DecodeStep, ...]:
        """The steps of all goals; an output inside an output is named ``goal.output``."""
        def within(goal: str) -> Callable[[str], str]:
            return lambda output: f"{goal}.{output}" if output else goal

        return tuple(self._name_classes(name, step).rename_outputs(within(name))
                     for name, goal in self.goals.items()
                     for step in goal.decoding(self.output_of(name, outputs)))

    def _name_classes(self, name: str, step: DecodeStep) -> DecodeStep:
        if name not in self.classes:
            return step
        if not isinstance(step, NamedStep):
            raise UsageError(f"the goal {name!r} has no classes to be named, but classes names "
                             f"{len(self.classes[name])} for it; leave them out")
        return step.replace(names=tuple(self.classes[name]))

    def agree(self, first: Any, second: Any,
              scales: Sequence[float] = ()) -> tuple[Agreement, ...]:
        """How far two models make the same decisions, by each prediction of each goal."""
        found: list[Agreement] = []
        for name, goal in self.goals.items():
            one, other = (self.output_of(name, outputs) for outputs in (first, second))
            count = len(goal.predictions(one))
            found += goal.agree(one, other, scales[:count])
            scales = scales[count:]
        return tuple(found)

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """The weighted sum of the goals' losses."""
        return torch.stack([
            self.weights.get(name, 1.0) * goal.loss(self.output_of(name, outputs), targets[name])
            for name, goal in self.goals.items()]).sum()

    def check_targets(self, targets: Any, origin: Origin, outputs: Any = None) -> dict[str, Any]:
        """The checked targets of every goal, by name."""
        given = self._targets_by_name(targets, origin)
        names = {name: len(found) for name, found in self.classes.items()}
        checked = {}
        for name, goal in self.goals.items():
            part = given.get(name)
            if goal.lists_targets:
                part = list_targets(part, len(origin.rows))
            with _naming(name):
                checked[name] = goal.check_targets(
                    part, origin._replace(classes=names.get(name)),
                    None if outputs is None else self.output_of(name, outputs))
        return checked

    def allows_augmentation(self, targets: Any) -> bool:
        """Whether all goals do."""
        return all(goal.allows_augmentation(targets[name]) for name, goal in self.goals.items())

    def make_targets(self, inputs: tuple[Tensor, ...], targets: Any) -> dict[str, Any]:
        """The targets of every goal, by name."""
        return {name: goal.make_targets(inputs, targets[name])
                for name, goal in self.goals.items()}

    def check_outputs(self, outputs: Any, inputs: tuple[Tensor, ...]) -> None:
        """Check every goal's output."""
        for name, goal in self.goals.items():
            output = self.output_of(name, outputs)
            with _naming(name):
                goal.check_outputs(output, inputs)

    def mix(self, targets: Any, other: Tensor, share: float, outputs: Any) -> dict[str, Any]:
        """The mixed targets of every goal, by name."""
        return {name: goal.mix(targets[name], other, share, self.output_of(name, outputs))
                for name, goal in self.goals.items()}

    def smooth_labels(self, amount: float) -> MultiTask:
        """Every goal with that label smoothing."""
        return replace(self, goals={name: goal.smooth_labels(amount)
                                    for name, goal in self.goals.items()}) if amount else self

    def output_of(self, name: str, outputs: Any) -> Any:
        """The output that a goal is about.

        Raises:
            ModelError: The model has no such output.
        """
        found = named_outputs(outputs)
        if list(found) == [""] and len(self.goals) == 1:
            return outputs  # the others were dropped
        if name not in found:
            raise ModelError(f"the goal {name!r} expects an output of that name, but the model "
                             f"returns {list_outputs(found)}")
        return found[name]

    def _targets_by_name(self, targets: Any, origin: Origin) -> Mapping[str, Any]:
        if targets is None:
            return {}
        if isinstance(targets, tuple) and len(targets) == len(self.goals):
            return dict(zip(self.goals, targets, strict=True))
        if not isinstance(targets, Mapping):
            size = f" of {len(targets)}" if isinstance(targets, tuple | list) else ""
            raise DataError(f"{origin.targets} are a {type(targets).__name__}{size}; expected a "
                            f"dict with {', '.join(self.goals)}, or a tuple in this order")
        missing = [name for name, goal in self.goals.items()
                   if goal.requires_targets and name not in targets]
        if missing:
            raise DataError(f"{origin.targets} are {', '.join(targets) or 'an empty dict'}; there "
                            f"are none for {', '.join(missing)}")
        return targets


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Name the goal in the message of an error."""
    try:
        yield
    except (DataError, ModelError) as error:
        raise type(error)(f"goal {name!r}: {error}") from error


@final
@dataclass(frozen=True)
class _Part:
    """Makes a metric of one goal that is updated with the outputs and targets of all."""

    whole: MultiTask
    name: str
    metric: NamedMetric

    def __call__(self) -> Metric:
        return _PartialMetric(self.whole, self.name, self.metric.make())


@final
class _PartialMetric:
    """A metric of one of several goals."""

    def __init__(self, whole: MultiTask, name: str, metric: Metric) -> None:
        self._whole, self._name, self._metric = whole, name, metric

    def update(self, outputs: Any, targets: Any, /) -> None:
        """Add a batch: all outputs and all targets."""
        self._metric.update(*self._whole.goals[self._name].metric_inputs(
            self._whole.output_of(self._name, outputs), targets[self._name]))

    def compute(self) -> Any:
        """The metric's value."""
        return self._metric.compute()

    def reset(self) -> None:
        """Forget all batches."""
        self._metric.reset()
