"""What of a network with early exits is shipped, decided by its file on the validation split."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from edgewright.bundle import Bundle
from edgewright.core import (
    CONSTRAINTS,
    Budget,
    Figures,
    Measurement,
    Value,
    format_metric,
    format_percent,
)
from edgewright.exits import EarlyExits, ExitCalibration, cut_at, remove_exits
from edgewright.measure import pin_to_core, time_in_turn
from edgewright.pipeline._evaluate import evaluate_operating_point, numpy_batches
from edgewright.pipeline._file_metric import FileMetric
from edgewright.pipeline._points import calibrate_points, takes_early_exits
from edgewright.program import Program
from edgewright.runtime import Session
from edgewright.task import Split, Task

NEARLY_ALL: Final = 0.98  # share of the samples behind which the network is cut
_MARGIN: Final = 0.02     # of the latency: less is not worth a file with more parts
_DEVIATIONS: Final = 2.0  # of the mean difference of two latencies
_SAMPLES: Final = 200
_PASSES: Final = 5
_WARMUP: Final = 20
UNUSED_NOTE: Final = (
    "exits removed again: no validation sample can take one within the allowed accuracy drop, so "
    "they would only add cost")


@final
class ExitChoice(Value):
    """What of a network with early exits is shipped.

    Attributes:
        cut: Number of the exit, from 1, at which the network ends; None for its own end.
        cut_loss: What the cut costs of the primary metric on the validation split, if that is a
            fraction, else 0; never negative. The exits that remain may cost that much less.
        keeps_exits: Whether the exits before the end remain.
        notes: The reasons, with what was measured.
    """

    cut: int | None = None
    cut_loss: float = 0.0
    keeps_exits: bool = True
    notes: tuple[str, ...] = ()

    def apply(self, program: Program) -> Program:
        """The program that is shipped; a program without exits stays as it is."""
        if not program.exits:
            return program
        short = program if self.cut is None else cut_at(program, self.cut)
        return short if self.keeps_exits else remove_exits(short)

    def limit(self, config: ExitCalibration) -> ExitCalibration:
        """The calibration of the exits that remain, with the drop that the cut leaves them.

        Example:
            >>> limited = ExitChoice(cut=2, cut_loss=0.01).limit(ExitCalibration(
            ...     max_drop=0.005, points={"fast": 0.03}))
            >>> {name: round(drop, 3) for name, drop in limited.drops.items()}
            {'default': 0.0, 'fast': 0.02}
        """
        if not self.cut_loss:
            return config
        left = {name: max(0.0, drop - self.cut_loss) for name, drop in config.points.items()}
        return config.replace(max_drop=max(0.0, config.max_drop - self.cut_loss), points=left)


@final
@dataclass(frozen=True)
class ExitJudge:
    """Decides whether exits, none, or a shorter network is shipped, without the test split.

    Attributes:
        task: The data.
        budget: Its limits on metrics hold for a cut network.
        config: The exits' settings.
        seed: Seed of the calibration.
        draft: Exports a program to a bundle in memory.
        original: The original's file.
    """

    task: Task
    budget: Budget
    config: EarlyExits
    seed: int
    draft: Callable[[Program], Bundle]
    original: Session

    def choose(self, program: Program) -> ExitChoice:
        """Cut where nearly all samples leave, and keep the exits before only if they pay."""
        staged = self._calibrate(program, self.config.calibration)
        if not takes_early_exits(staged.manifest.model.points):
            return ExitChoice(keeps_exits=False, notes=(UNUSED_NOTE,))
        if self.config.keep == "if_taken":
            return ExitChoice()
        choice = self._find_cut(staged) if self.config.cuts_measured_file else ExitChoice()
        if choice.cut is None:
            return self._compare(program, staged, choice)
        short = cut_at(program, choice.cut)
        fewest = 2 if self.config.calibration.policy == "patience" else 1
        if short.exits < fewest:
            return choice.replace(keeps_exits=False)
        staged = self._calibrate(short, choice.limit(self.config.calibration))
        if not takes_early_exits(staged.manifest.model.points):
            return choice.replace(keeps_exits=False, notes=(*choice.notes, UNUSED_NOTE))
        return self._compare(short, staged, choice)

    def _calibrate(self, program: Program, config: ExitCalibration) -> Bundle:
        return calibrate_points(self.draft(program), self.task, config, self.seed)[0]

    def _find_cut(self, staged: Bundle) -> ExitChoice:
        """The first exit where nearly all samples have left, and whose metric is good enough."""
        profile = staged.manifest.model.default_point.calibrated
        shares = () if profile is None else profile.shares[:-1]
        candidates = [(number, share) for number, share
                      in enumerate(itertools.accumulate(shares), 1) if share >= NEARLY_ALL]
        if not candidates:
            return ExitChoice()
        figures = measure_every_exit(Session(staged), self.task)
        allows = self._make_limit(figures[-1])
        for number, share in candidates:
            if allows(figures[number - 1]):
                return _describe_cut(number, share, figures[number - 1], figures[-1])
        return ExitChoice()

    def _make_limit(self, whole: Figures) -> Callable[[Figures], bool]:
        """Whether a cut network is good enough: within the budget, or nearly as good as whole."""
        if self.budget.max_drop is None and not self.budget.bounds:
            drop = self.config.calibration.max_drop
            return lambda cut: _loss(cut, whole) <= drop + 1e-12
        original = evaluate_operating_point(self.original, self.task.val, self.task.goal)[0]
        limits = [limit for name, limit in self.budget.limits(original).items()
                  if name not in CONSTRAINTS]
        return lambda cut: all(limit.holds(cut.get(limit.figure.name)) for limit in limits)

    def _compare(self, program: Program, staged: Bundle, choice: ExitChoice) -> ExitChoice:
        """Keep the exits if the file is faster with them, on average over the samples."""
        plain = self.draft(remove_exits(program))
        times = time_samples({"with": Session(staged), "without": Session(plain)}, self.task.val)
        faster = is_faster(times["with"], times["without"])
        note = (f"exits {'kept' if faster else 'removed again'}: a sample takes "
                f"{times['with'].mean():.3g} ms with them and {times['without'].mean():.3g} ms "
                f"without, on average over {len(times['with'])} validation samples")
        return choice.replace(keeps_exits=faster, notes=(*choice.notes, note))


def is_faster(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether the latencies of one file are lower than another's by more than the noise.

    The mean difference over the samples has to exceed twice its standard error, and 2 % of the
    other's mean.

    Args:
        one: Latency of each sample, (N,).
        other: Latency of the same samples, (N,).

    Example:
        >>> times = np.linspace(1.0, 2.0, 50)
        >>> is_faster(0.9 * times, times), is_faster(0.99 * times, times)
        (True, False)
    """
    gains = other - one
    noise = _DEVIATIONS * gains.std() / np.sqrt(len(gains))
    return bool(gains.mean() > max(noise, _MARGIN * other.mean()))


def time_samples(sessions: Mapping[str, Session], split: Split) -> dict[str, NDArray[np.float64]]:
    """The latency of samples one by one on one thread, in milliseconds, (N,) per session.

    The sessions take turns; each latency is the median over five passes, so that interruptions
    do not count.
    """
    count = min(_SAMPLES, len(split))
    samples = [inputs for inputs, _ in numpy_batches(split.sample(count), batch_size=1)]

    def run(session: Session) -> Callable[[int], object]:
        return lambda index: session(*samples[index % count])

    with pin_to_core():
        times = time_in_turn({name: run(session) for name, session in sessions.items()},
                             rounds=_PASSES * count, warmup=_WARMUP)
    return {name: np.median(np.reshape(taken, (_PASSES, count)), axis=0) / 1e6
            for name, taken in times.items()}


def measure_every_exit(session: Session, task: Task) -> tuple[Figures, ...]:
    """The goal's metrics of every exit on the validation split, if all samples left there."""
    exits = range(len(session.points[0].path))
    metrics = [[FileMetric(task.goal, metric, session.model) for metric in task.goal.metrics]
               for _ in exits]
    for inputs, targets in numpy_batches(task.val):
        for known, found in zip(metrics, session.run_all_exits(*inputs), strict=True):
            for metric in known:
                metric.update(found.outputs, targets)
    return tuple(Figures.of(*_measurements(known, task)) for known in metrics)


def _measurements(metrics: Sequence[FileMetric], task: Task) -> Iterator[Measurement]:
    for named, metric in zip(task.goal.metrics, metrics, strict=True):
        yield Measurement.of(named.spec, metric.compute(), split=task.val.name,
                             samples=len(task.val))


def _loss(cut: Figures, whole: Figures) -> float:
    """What a cut costs of the primary metric; infinite if that is no fraction."""
    before, after = whole.metric, cut.metric
    if before is None or after is None or before.unit != "fraction":
        return float("inf")
    return before.spec.merit(before.value) - after.spec.merit(after.value)


def _describe_cut(number: int, share: float, cut: Figures, whole: Figures) -> ExitChoice:
    before, after = whole.metric, cut.metric
    assert before is not None  # noqa: S101 - every goal has a metric
    assert after is not None  # noqa: S101 - every goal has a metric
    loss = _loss(cut, whole)
    note = (f"network cut at exit {number}: {format_percent(share, 1)} of the validation samples "
            f"leave there or before, and {after.name} is "
            f"{format_metric(after.spec, after.value)} there and "
            f"{format_metric(before.spec, before.value)} at the end (val)")
    return ExitChoice(cut=number, notes=(note,),
                      cut_loss=max(0.0, loss) if before.unit == "fraction" else 0.0)
