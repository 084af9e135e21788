"""Training on several devices of one machine with DDP, one process per device."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.queues import Queue
from queue import Empty
from typing import Any, Final, NamedTuple, final

import torch
from torch import nn
from torch.multiprocessing.spawn import (
    ProcessContext,
    ProcessExitedException,
    ProcessRaisedException,
    start_processes,
)

from edgewright.errors import EdgewrightError, TrainingError, UsageError
from edgewright.training._checkpoint import snapshot
from edgewright.training._constrained_objective import ConstrainedObjective
from edgewright.training._pickling import pickle_run, unpickle_run
from edgewright.training._progress import NoProgress, Progress
from edgewright.training._record import EpochRecord, TrainingRecord
from edgewright.training._run import Run
from edgewright.training._single_device import make_fabric, train_on_device
from edgewright.training._step_hook import Step, StepHook

_POLL_SECONDS: Final = 0.1
_DDP_TIMEOUT: Final = timedelta(days=1)  # the other devices wait while the first one validates


def train_on_devices(run: Run, progress: Progress) -> TrainingRecord:
    """Train a run's module on the configured number of devices; see `edgewright.training.train`.

    The first device reports progress and writes the checkpoint. All processes are terminated on
    return and on error.

    Raises:
        UsageError: A part of the run cannot be pickled, or a device is not available.
        TrainingError: The training diverged, or a process ended prematurely.
    """
    sent = pickle_run(run, _name_parts(run))
    count = run.config.compute.devices
    place = _Rendezvous(count, _find_free_port(), max(1, torch.get_num_threads() // count))
    progress_sink: Queue[Any] = get_context("spawn").Queue()
    processes: ProcessContext = start_processes(  # type: ignore[no-untyped-call]
        _run_process, (place, sent, progress_sink), nprocs=count, join=False,
        start_method="spawn")
    try:
        for message in _receive_messages(progress_sink, processes):
            if isinstance(message, _ProcessResult):
                run.module.load_state_dict(pickle.loads(message.weights))  # noqa: S301 - ours
                run.module.eval()
                return message.result()
            method, arguments = message
            getattr(progress, method)(*arguments)
        raise TrainingError(f"the {count} processes of the training ended without a result")
    finally:
        for process in processes.processes:
            process.terminate()
            process.join()


class _Rendezvous(NamedTuple):
    """How the processes connect, and how many CPU threads each uses."""

    world: int
    port: int
    threads: int


@final
@dataclass(frozen=True)
class _ProcessResult:
    """The result of a process: a record or an error, and the weights, pickled by value."""

    outcome: TrainingRecord | EdgewrightError
    weights: bytes

    def result(self) -> TrainingRecord:
        if isinstance(self.outcome, EdgewrightError):
            raise self.outcome
        return self.outcome


def _find_free_port() -> int:
    """A free TCP port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _name_parts(run: Run) -> dict[str, object]:
    return {f"module {type(run.module).__name__}": run.module, f"task {run.task.name}": run.task,
            **{f"hook {type(hook).__name__}": hook for hook in run.objective.hooks},
            f"objective {run.objective.name}": run.objective,
            f"optimizer {run.config.optimizer.name}": run.config.optimizer,
            f"schedule {run.config.schedule.name}": run.config.schedule}


def _receive_messages(progress_sink: Queue[Any],
                      processes: ProcessContext) -> Iterator[Any]:
    """Yield the processes' messages until all have ended."""
    ended = False
    while True:
        try:
            yield progress_sink.get(timeout=_POLL_SECONDS)
        except Empty:
            if ended:
                return
            try:
                ended = processes.join(timeout=0)
            except (ProcessRaisedException, ProcessExitedException) as error:
                raise TrainingError(f"process {error.error_index + 1} of the training's "
                                    f"{len(processes.processes)} ended prematurely: {error}"
                                    ) from error


def _run_process(rank: int, place: _Rendezvous, sent: bytes, progress_sink: Queue[Any]) -> None:
    """The body of one process; at module level, so that it can be pickled."""
    from lightning_fabric.strategies.ddp import DDPStrategy  # noqa: PLC0415 - takes seconds

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the parent handles Ctrl-C
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(place.port),
                   "LOCAL_RANK": str(rank), "NODE_RANK": "0"}
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    torch.set_num_threads(place.threads)
    run: Run = unpickle_run(sent)
    run = replace(run, objective=ConstrainedObjective(run.objective, (RequireAllGradients(),)))
    outcome: TrainingRecord | EdgewrightError
    try:
        fabric = make_fabric(run.config, place.world, DDPStrategy(timeout=_DDP_TIMEOUT))
        fabric.launch()
        progress = NoProgress() if rank else _ForwardingProgress(progress_sink)
        outcome = train_on_device(run, fabric, progress)
    except EdgewrightError as error:
        outcome = error
    if rank == 0 or not isinstance(outcome, TrainingRecord | TrainingError):
        progress_sink.put(_ProcessResult(outcome, pickle.dumps(snapshot(run.module))))


@final
class RequireAllGradients(StepHook):
    """Raises for parameters without a gradient: DDP would wait for them and not sync neighbors."""

    def start(self, module: nn.Module) -> None:
        self._unchecked = {name: parameter for name, parameter in module.named_parameters()
                           if parameter.requires_grad}

    def before_step(self, step: Step) -> None:
        """Check at the first step only; later steps have the same graph."""
        del step
        unused = [name for name, parameter in self._unchecked.items() if parameter.grad is None]
        self._unchecked = {}
        if unused:
            raise UsageError("several devices cannot train parameters that do not contribute to "
                             f"the loss: {', '.join(unused)}; freeze them (requires_grad_(False)), "
                             "or use one device")

    @property
    def may_keep_initial_weights(self) -> bool:
        """True: it does not constrain the weights."""
        return True


@final
class _ForwardingProgress:
    """A `Progress` that forwards every call to the parent process."""

    def __init__(self, progress_sink: Queue[Any]) -> None:
        self._sink = progress_sink

    def start(self, epochs: int | None, steps: int, done: int) -> None:
        self._sink.put(("start", (epochs, steps, done)))

    def advance(self, samples: int, loss: float) -> None:
        self._sink.put(("advance", (samples, loss)))

    def time_left(self, seconds: float) -> None:
        self._sink.put(("time_left", (seconds,)))

    def epoch(self, record: EpochRecord) -> None:
        self._sink.put(("epoch", (record,)))

    def note(self, text: str) -> None:
        self._sink.put(("note", (text,)))

    def stop(self) -> None:
        """Nothing: the parent process stops its own progress."""
