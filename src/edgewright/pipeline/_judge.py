"""Figures of a file, taken on its runtime."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils import _pytree as pytree

from edgewright.core import CurvePoint, ExitProfile, Figures, Measurement, OperatingPoint, Parity
from edgewright.errors import ParityError
from edgewright.exits import Calibration, EarlyExits, answers_of, calibrate_exits, exit_curve
from edgewright.measure import ENERGY_MODEL, Latency, compare_latency, pinned
from edgewright.program import Program
from edgewright.runtime import Session, evaluate
from edgewright.task import Split
from edgewright.training import as_outputs

_BATCH: Final = 256
_ROUNDS: Final = 300
_WARMUP: Final = 20
_LATENCY_SAMPLES: Final = 200
AGREEMENT: Final = 0.995

Inputs = tuple[NDArray[Any], ...]


def numpy_batches(split: Split, batch_size: int = _BATCH) -> Iterator[tuple[Inputs, NDArray[Any]]]:
    """A split's batches as the runtime takes them."""
    for batch in split.batches(batch_size):
        leaves = pytree.tree_leaves(batch.inputs)
        yield tuple(leaf.numpy() for leaf in leaves), batch.targets.numpy()


def calibrate(session: Session, split: Split, config: EarlyExits,
              seed: int) -> tuple[Calibration, ...]:
    """Choose a session's operating points on a split, from what the real file puts out there."""
    logits, targets = every_exit(session, split)
    macs = [session.model.segments[number].macs for number in session.points[0].path]
    return calibrate_exits(logits, targets, macs, config, split=split.name, seed=seed)


def every_exit(session: Session, split: Split) -> tuple[list[NDArray[Any]], NDArray[Any]]:
    """What every exit of a file says of every sample of a split, (N, classes) each; the targets."""
    parts: list[list[NDArray[Any]]] = []
    targets = []
    for inputs, labels in numpy_batches(split):
        parts.append([outputs[0] for outputs in session.run_all_exits(*inputs)])
        targets.append(labels)
    return _joined(parts), np.concatenate(targets)


def curve_on(split: Split, point: OperatingPoint, steps: Sequence[tuple[float | None, ...]],
             session: Session) -> tuple[CurvePoint, ...]:
    """What a point would cost and be worth on a split with each of these thresholds.

    The session's default point takes the same path.
    """
    answers = answers_of(*every_exit(session, split), point.rules, point.policy)
    return exit_curve(answers, steps,
                      [session.model.segments[number].macs for number in point.path])


def judge(session: Session, split: Split) -> tuple[Figures, ExitProfile]:
    """Accuracy, costs and energy of a session's point on a split, and where its samples leave."""
    found = evaluate(session, numpy_batches(split))
    name = session.point or session.points[0].name
    path = next(point.path for point in session.points if point.name == name)
    figures = Figures.of(
        Measurement(name="accuracy", value=found.accuracy, kind="measured", split=split.name,
                    runtime=session.runtime, samples=found.samples),
        _counted("macs", found.macs, split, found.samples),
        Measurement(name="energy_mj", value=found.energy_mj, kind="modelled", split=split.name,
                    runtime=ENERGY_MODEL, samples=found.samples),
        Measurement(name="ram_bytes", kind="modelled", runtime="activations in graph order",
                    value=max(session.model.segments[number].ram_bytes for number in path)),
    )
    return figures, ExitProfile(split=split.name, samples=found.samples,
                                shares=tuple(found.exit_shares[number] for number in path))


def time_sessions(sessions: dict[str, Session], split: Split) -> dict[str, tuple[Measurement, ...]]:
    """Median and mean latency of sessions at batch 1 on one thread, taken in turn.

    All run the same samples of the split, one pinned core, interleaved, so that their ratio holds
    when the machine's speed drifts.
    """
    count = min(_LATENCY_SAMPLES, len(split))
    samples = [inputs for inputs, _ in numpy_batches(split.sample(count), batch_size=1)]

    def run(session: Session) -> Any:
        return lambda index: session(*samples[index % count])

    with pinned() as core:
        found = compare_latency({name: run(session) for name, session in sessions.items()},
                                rounds=_ROUNDS, warmup=_WARMUP)
    return {name: _latencies(latency, sessions[name], core) for name, latency in found.items()}


@dataclass(frozen=True)
class Simulation:
    """What the program in PyTorch does on a split, with the file's thresholds."""

    accuracy: Measurement
    parity: Parity


def compare_with_program(program: Program, session: Session, split: Split) -> Simulation:
    """Run program and file on a split and compare them, every exit included.

    Raises:
        ParityError: They disagree on the top class of more than 0.5 % of the samples (two samples
            at least).
    """
    logits, measured, targets = _both(program, session, split)
    parity = _parity(logits, measured, split.name)
    allowed = max(2, round((1 - AGREEMENT) * parity.samples))
    missed = round((1 - parity.top1_agreement) * parity.samples)
    if missed > allowed:
        raise ParityError(f"the file on {session.runtime} and the simulated program disagree on "
                          f"{missed} of {parity.samples} {split.name} samples, at most {allowed} "
                          f"are allowed (relative error {parity.relative_error:.2e})")
    point = session.points[0]
    hits = answers_of(logits, targets, point.rules, point.policy).hits(point.thresholds)
    accuracy = Measurement(name="accuracy", value=float(hits.mean()), kind="measured",
                           split=split.name, runtime=f"torch {torch.__version__}",
                           samples=len(hits))
    return Simulation(accuracy, parity)


def _both(program: Program, session: Session, split: Split) -> tuple[
        list[NDArray[Any]], list[NDArray[Any]], NDArray[Any]]:
    """Every exit's logits of program and file, taken on the very same batches; and the targets."""
    module = program.module()
    simulated: list[list[NDArray[Any]]] = []
    measured: list[list[NDArray[Any]]] = []
    targets = []
    for batch in split.batches(_BATCH):
        with torch.inference_mode():
            outputs = as_outputs(module(*batch.inputs))
        simulated.append([logits.numpy() for logits in outputs])
        arrays = tuple(leaf.numpy() for leaf in pytree.tree_leaves(batch.inputs))
        measured.append([outputs[0] for outputs in session.run_all_exits(*arrays)])
        targets.append(batch.targets.numpy())
    return _joined(simulated), _joined(measured), np.concatenate(targets)


def _joined(parts: list[list[NDArray[Any]]]) -> list[NDArray[Any]]:
    """One array an exit, out of one list of exits a batch."""
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _parity(want: list[NDArray[Any]], have: list[NDArray[Any]], split: str) -> Parity:
    """The worst of all exits."""
    errors = [float(np.linalg.norm(a - b) / max(float(np.linalg.norm(a)), 1e-12))
              for a, b in zip(want, have, strict=True)]
    agreed = [float((a.argmax(axis=1) == b.argmax(axis=1)).mean())
              for a, b in zip(want, have, strict=True)]
    return Parity(split=split, samples=len(want[0]), relative_error=max(errors),
                  top1_agreement=min(agreed))


def _counted(name: Any, value: float, split: Split, samples: int) -> Measurement:
    return Measurement(name=name, value=value, kind="modelled", split=split.name,
                       runtime="counted on the graph", samples=samples)


def _latencies(latency: Latency, session: Session, core: int | None) -> tuple[Measurement, ...]:
    where = "" if core is None else " on one core"
    shared = {"kind": "measured", "samples": latency.runs,
              "runtime": f"{session.runtime}, test samples one by one, 1 thread{where}"}
    return (Measurement(name="latency_ms", value=latency.median_ms, low=latency.low_ms,
                        high=latency.high_ms, **shared),
            Measurement(name="mean_latency_ms", value=latency.mean_ms, **shared))
