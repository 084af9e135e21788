"""Building candidates on the machines of a Ray cluster."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final, final

from edgewright.errors import InputError, MissingExtraError, UsageError
from edgewright.pipeline import RunLog, RunSettings
from edgewright.search._builder import Builder
from edgewright.search._built import Built, Failure
from edgewright.search._candidate import Candidate
from edgewright.search._config import Search
from edgewright.search._ray_worker import (
    Delivery,
    WorkerInputs,
    build_on_worker,
    identify,
    read_files,
    write_files,
)
from edgewright.task import user_modules

_LOCAL: Final = "local"
_ADDRESS: Final = re.compile(r"(ray://)?\[?(?P<host>[^\]/]+?)\]?:(?P<port>\d+)")
_CONNECT_S: Final = 10
_CHECK_S: Final = 300  # the first task on a node imports torch
_POLL_S: Final = 5
_ATTEMPTS: Final = 3   # to build a candidate whose worker dies


@final
@dataclass(frozen=True)
class Node:
    """A machine of a cluster that can build candidates.

    Attributes:
        name: Its identifier in Ray.
        address: Its network address.
        cpus: Its CPUs, at least one.
        gpus: Its accelerators.
    """

    name: str
    address: str
    cpus: int
    gpus: int = 0


def count_workers(nodes: Sequence[Node]) -> int:
    """How many candidates are built at once: one per accelerator if there are any, else per CPU.

    Example:
        >>> count_workers([Node("a", "10.0.0.1", 8), Node("b", "10.0.0.2", 4)])
        12
        >>> count_workers([Node("a", "10.0.0.1", 8), Node("b", "10.0.0.2", 4, gpus=2)])
        2
    """
    return sum(node.gpus for node in nodes) or sum(node.cpus for node in nodes)


def share_cpus(nodes: Sequence[Node], candidates: int) -> int:
    """The most CPUs per candidate with which all can be built at once, each on any node.

    A candidate whose node dies can then be built on every other.

    Example:
        >>> nodes = [Node("a", "10.0.0.1", 8), Node("b", "10.0.0.2", 4)]
        >>> [share_cpus(nodes, count) for count in (1, 3, 4, 6, 12, 99)]
        [4, 4, 2, 2, 1, 1]
    """
    usable = [node for node in nodes if node.gpus] or list(nodes)
    most = min(node.cpus // max(node.gpus, 1) for node in usable)
    return max((share for share in range(1, most + 1)
                if sum(node.cpus // share for node in usable) >= candidates), default=1)


@contextmanager
def connect(address: str, log: RunLog) -> Iterator[RayExecutor]:
    """Connect to a Ray cluster, or start one on this machine.

    A connection that the process has already is used as it is, and stays open.

    Args:
        address: ``local`` for the cores of this machine, ``auto`` for a cluster that runs on it,
            ``HOST:PORT`` of a cluster's head, or ``ray://HOST:PORT``.
        log: Where progress is shown.

    Raises:
        MissingExtraError: Ray is not installed.
        UsageError: The address has none of these forms.
        InputError: No cluster can be reached there.
    """
    try:
        import ray  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtraError("building candidates on Ray", "ray") from error
    is_ours = not ray.is_initialized()
    if is_ours:
        _start(ray, address)
    try:
        yield RayExecutor(log)
    finally:
        if is_ours:
            ray.shutdown()


def _start(ray: ModuleType, address: str) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # send nothing
    _check_reachable(address)
    local = {"include_dashboard": False} if address == _LOCAL else {}
    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **local)
    except (OSError, ValueError, RuntimeError, SystemExit, ray.exceptions.RayError) as error:
        reason = " ".join(str(error).split()) if isinstance(error, Exception) else (
            "it does not answer as Ray does")
        raise _unreachable(address, reason) from error


def _check_reachable(address: str) -> None:
    """Try to connect first: Ray itself tries for minutes, and then ends the process."""
    if address in {_LOCAL, "auto"}:
        return
    parts = _ADDRESS.fullmatch(address)
    if parts is None:
        raise UsageError(f"{address!r} is not the address of a Ray cluster; expected local, auto, "
                         "HOST:PORT or ray://HOST:PORT")
    try:
        socket.create_connection((parts["host"], int(parts["port"])), _CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, str(error)) from error


def _unreachable(address: str, reason: str) -> InputError:
    return InputError(f"cannot reach a Ray cluster at {address} ({reason}); run ray start --head "
                      "there and give its address as HOST:PORT, or give local")


@final
class RayExecutor:
    """Builds every candidate in a Ray task; the connection is that of the process.

    A task gets the original, the data and the recipe, and returns the files of its directory, so
    that the machines need not share a disk. It does not time its file: latencies of different
    machines must not be mixed, so that the process that searches measures them, all on its own
    machine, once every candidate of the round is back and nothing is trained any more.

    A task whose machine or process dies is started again on another. One that fails by itself or
    lacks memory is a failure of its candidate alone.

    Args:
        log: Where progress is shown.
    """

    def __init__(self, log: RunLog) -> None:
        self._log = log
        self._config = Search()
        self._inputs: tuple[Builder, Any] | None = None

    @property
    def workers(self) -> int:
        """How many candidates are built at once."""
        return count_workers(self._nodes())

    def prepare(self, settings: RunSettings, config: Search,
                identity: Mapping[str, str]) -> None:
        """Check on every machine that it has the same versions and can read model and data.

        Raises:
            InputError: A machine cannot, or does not answer.
            UsageError: The data cannot be sent.
        """
        import ray  # noqa: PLC0415
        from ray.util.scheduling_strategies import (  # noqa: PLC0415
            NodeAffinitySchedulingStrategy,
        )

        self._config = config
        inputs = ray.put(_pickle(WorkerInputs.of(settings, config)))
        task = ray.remote(num_cpus=0, max_retries=0)(identify)
        nodes = self._nodes()
        self._log.begin("workers", f"{count_workers(nodes)} on {len(nodes)} machine(s)")
        asked = [(node, task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(
            node.name, soft=False)).remote(inputs)) for node in nodes]
        for node, answer in asked:
            try:
                found = ray.get(answer, timeout=_CHECK_S)
            except ray.exceptions.RayError as error:
                raise InputError(f"the worker at {node.address} cannot read the model and the "
                                 f"data: {_reason(error)}; install edgewright[compress,ray] and "
                                 "the modules that the data need there") from error
            changed = [key for key in identity if found.get(key) != identity[key]]
            if changed:
                raise InputError(f"the worker at {node.address} differs in: {', '.join(changed)} "
                                 f"(here {identity[changed[0]]}, there {found.get(changed[0])}); "
                                 "install the same versions on all machines")

    def build(self, builder: Builder, candidates: Sequence[Candidate],
              ) -> Iterator[Built | Failure]:
        """Build all at once, and return when the last one is back; see `Executor`."""
        import ray  # noqa: PLC0415

        threads = share_cpus(self._nodes(), len(candidates))
        running = {self._submit(builder, candidate, threads): (candidate, 1)
                   for candidate in candidates}
        outcomes: dict[str, Built | Failure] = {}
        while running:
            done, _ = ray.wait(list(running), timeout=_POLL_S)
            self._nodes()
            for task in done:
                candidate, tries = running.pop(task)
                outcome = self._collect(builder, candidate, task, tries)
                if outcome is None:
                    threads = min(threads, share_cpus(self._nodes(), len(candidates)))
                    running[self._submit(builder, candidate, threads)] = candidate, tries + 1
                else:
                    outcomes[candidate.name] = outcome
        yield from (outcomes[candidate.name] for candidate in candidates)

    def _submit(self, builder: Builder, candidate: Candidate, threads: int) -> Any:
        import ray  # noqa: PLC0415

        if self._inputs is None or self._inputs[0] is not builder:
            self._inputs = builder, ray.put(_pickle(WorkerInputs.of(
                builder.settings, self._config, builder.judge, builder.baseline.read_bytes())))
        gpus = 1 if any(node.gpus for node in self._nodes()) else 0
        task = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=0,
                          scheduling_strategy="SPREAD")(build_on_worker)
        return task.remote(self._inputs[1], candidate,
                           read_files(candidate.folder(builder.folder)), threads)

    def _collect(self, builder: Builder, candidate: Candidate, task: Any,
                 tries: int) -> Built | Failure | None:
        """What came of a finished task, its files written; None if it is to be tried again."""
        import ray  # noqa: PLC0415

        try:
            found: Delivery | Failure = ray.get(task)
        except (ray.exceptions.RayTaskError, ray.exceptions.OutOfMemoryError) as error:
            return Failure(_reason(error))
        except ray.exceptions.RayError as error:
            if tries == _ATTEMPTS:
                return Failure(f"its worker died {tries} times, perhaps for lack of memory; at "
                               f"last: {_reason(error)}")
            self._log.note(f"candidate {candidate.name}: its worker died "
                           f"({type(error).__name__}); it is built again on another")
            return None
        if isinstance(found, Failure):
            return found
        write_files(candidate.folder(builder.folder), found.files)
        self._log.note(f"candidate {candidate.name} is built, {found.built.seconds:.0f} s")
        return found.built

    def _nodes(self) -> list[Node]:
        """The machines that are alive and have a CPU.

        Raises:
            InputError: There is none.
        """
        import ray  # noqa: PLC0415

        found = [Node(node["NodeID"], node["NodeManagerAddress"], int(node["Resources"]["CPU"]),
                      int(node["Resources"].get("GPU", 0)))
                 for node in ray.nodes()
                 if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
        if not found:
            raise InputError("no machine of the Ray cluster is left to build candidates; start "
                             "some and repeat the command: what is built is kept")
        return found


def _pickle(inputs: WorkerInputs) -> bytes:
    """Pickle, with the classes and functions of the user's own files by value.

    Raises:
        UsageError: The data cannot be pickled.
    """
    from ray import cloudpickle  # noqa: PLC0415

    modules = user_modules()
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        pickled: bytes = cloudpickle.dumps(inputs)
    except (TypeError, AttributeError, RuntimeError, ValueError) as error:
        raise UsageError(f"the data and the goal of the task cannot be sent to the workers: "
                         f"{error}; build candidates without ray, or make them picklable"
                         ) from error
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)
    return pickled


def _reason(error: Exception) -> str:
    cause = getattr(error, "cause", None) or error
    text = " ".join(str(cause).split())[:300]
    return f"{type(cause).__name__}: {text}".rstrip(".")
