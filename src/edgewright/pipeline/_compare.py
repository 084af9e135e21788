"""Compare a file with the program that it was exported from, sample by sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import torch
from torch.utils import _pytree as pytree

from edgewright.core import Measurement, OperatingPoint, OutputParity, Parity
from edgewright.errors import ParityError
from edgewright.goals import Agreement, Goal, Prediction, measure_scales, read_metric
from edgewright.pipeline._evaluate import batch_size_of
from edgewright.pipeline._file_metric import nest_outputs
from edgewright.pipeline._metric_with_exits import leave
from edgewright.pipeline._output_steps import measure_output_steps
from edgewright.program import Program
from edgewright.runtime import Session
from edgewright.task import Batch, Split
from edgewright.training import run_batches, split_exits, update_metric

AGREEMENT: Final = 0.995
_STEP_SAMPLES: Final = 64


@dataclass(frozen=True)
class ProgramComparison:
    """The program's metrics in PyTorch with the file's thresholds, and the parity of both."""

    metrics: tuple[Measurement, ...]
    parity: Parity


def compare_with_program(program: Program, session: Session, split: Split,
                         goal: Goal) -> ProgramComparison:
    """Run program and file on a split and compare them, every exit included.

    Args:
        program: The program that the file was exported from.
        session: The file on its runtime.
        split: The samples.
        goal: Says what counts as the same decision.

    Raises:
        ParityError: An output's decisions differ on more than 0.5 % of the samples and on more than
            two samples. The errors in steps are stated, and are no part of the rule.
    """
    meters: list[dict[str, _Meter]] = [{} for _ in range(program.exits + 1)]
    first_batch = next(split.batches(_STEP_SAMPLES))
    steps = measure_output_steps(program, first_batch.inputs, goal)
    simulated = _SimulatedMetrics(goal, session.points[0])
    scales = measure_scales(goal.predictions(outputs[-1]) for outputs, _ in run_batches(
        program.module(), split, exits=program.exits, batch_size=batch_size_of(session.model)))
    for batch, ours, theirs in _run_both(program, session, split):
        simulated.add(ours, batch)
        for exit_meters, exit_steps, one, other in zip(meters, steps, ours, theirs, strict=True):
            found = zip(goal.predictions(one), goal.predictions(other),
                        goal.agree(one, other, scales), exit_steps, strict=True)
            for first, second, agreement, step in found:
                meter = exit_meters.setdefault(first.name, _Meter(agreement.decision, step))
                meter.add(first, second, agreement)
    outputs = tuple(_worst(name, [found[name] for found in meters]) for name in meters[-1])
    parity = Parity(split=split.name, samples=len(split), outputs=outputs)
    _check(parity, session)
    return ProgramComparison(simulated.measurements(split), parity)


def _check(parity: Parity, session: Session) -> None:
    allowed = max(2, round((1 - AGREEMENT) * parity.samples))
    for output in parity.outputs:
        missed = round((1 - output.agreement) * parity.samples)
        if missed > allowed:
            where = f"output {output.name!r}, " if output.name else ""
            raise ParityError(f"the file on {session.runtime} and the simulated program disagree "
                              f"on {missed} of {parity.samples} {parity.split} samples, at most "
                              f"{allowed} are allowed ({where}expected: {output.decision}; "
                              f"relative error {output.relative_error:.2e}; "
                              f"{output.describe_steps()})")


def _run_both(program: Program, session: Session, split: Split,
              ) -> Iterator[tuple[Batch, Sequence[Any], Sequence[Any]]]:
    """Each batch, and what every exit of program and file returns for it."""
    module = program.module()
    for batch in split.batches(batch_size_of(session.model)):
        with torch.inference_mode():
            ours = split_exits(module(*batch.inputs), program.exits)
        arrays = tuple(leaf.numpy() for leaf in pytree.tree_leaves(batch.inputs))
        yield batch, ours, [nest_outputs(session.model, outputs)
                            for outputs, _ in session.run_all_exits(*arrays)]


@final
@dataclass
class _Meter:
    """Adds up how far two versions of one prediction are apart.

    Attributes:
        decision: What counts as the same decision.
        step: Size of a step of the last quantizers in the prediction's unit; 0 without one.
        difference: Sum of the squared differences.
        length: Sum of the squared reference values.
        largest: The largest absolute difference.
        total: Sum of the absolute differences.
        values: Number of values.
        agreed: Sum over the samples of the share of equal decisions.
        samples: Number of samples.
    """

    decision: str
    step: float
    difference: float = 0.0
    length: float = 0.0
    largest: float = 0.0
    total: float = 0.0
    values: int = 0
    agreed: float = 0.0
    samples: int = 0

    def add(self, first: Prediction, second: Prediction, agreement: Agreement) -> None:
        """Add a batch: the reference, what is compared with it, and their equal decisions."""
        one, other = first.tensor.double(), second.tensor.double()
        apart = (one - other).abs()
        self.difference += float(apart.square().sum())
        self.largest = max(self.largest, float(apart.max()))
        self.total += float(apart.sum())
        self.values += apart.numel()
        self.length += float(one.square().sum())
        self.agreed += float(agreement.shares.sum())
        self.samples += len(one)

    @property
    def relative_error(self) -> float:
        """Norm of the difference over the norm of the reference."""
        return float(np.sqrt(self.difference) / max(np.sqrt(self.length), 1e-12))

    @property
    def steps(self) -> tuple[float, float] | None:
        """The largest and the mean difference in steps; None if nothing is quantized."""
        if not self.step:
            return None
        return self.largest / self.step, self.total / self.values / self.step


def _worst(name: str, meters: Sequence[_Meter]) -> OutputParity:
    """The parity of one output at the worst exit."""
    steps = [meter.steps for meter in meters if meter.steps is not None]
    return OutputParity(name=name, decision=meters[0].decision,
                        relative_error=max(meter.relative_error for meter in meters),
                        agreement=min(meter.agreed / meter.samples for meter in meters),
                        max_steps=max((largest for largest, _ in steps), default=None),
                        mean_steps=max((mean for _, mean in steps), default=None))


@final
@dataclass
class _SimulatedMetrics:
    """The goal's metrics of the program, with the exits that the file's thresholds take."""

    goal: Goal
    point: OperatingPoint

    def __post_init__(self) -> None:
        self._metrics = [metric.make() for metric in self.goal.metrics]

    def add(self, outputs: Sequence[Any], batch: Batch) -> None:
        """Add a batch: what every exit returns, and the targets."""
        taken = (leave(self.goal, outputs, self.point.rules, self.point.policy)
                 if len(outputs) > 1 else outputs[0])
        for metric in self._metrics:
            update_metric(self.goal, metric, taken, batch.targets)

    def measurements(self, split: Split) -> tuple[Measurement, ...]:
        """All metrics."""
        runtime = f"torch {torch.__version__}"
        return tuple(Measurement.of(metric.spec, read_metric(metric.spec.name, computed),
                                    split=split.name, runtime=runtime, samples=len(split))
                     for metric, computed in zip(self.goal.metrics, self._metrics, strict=True))
