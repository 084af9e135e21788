"""Candidates built on three machines, one of which dies in mid-search."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import edgewright as ew
from edgewright.bundle import read_bundle
from edgewright.core import Figures, Measurement
from edgewright.distill import CompiledTeacher
from edgewright.errors import InputError, UsageError
from edgewright.pipeline import Recipe, RunLog, RunSettings, capture_original, run_identity
from edgewright.search import read_record
from edgewright.search._built import Built, Failure, attempt
from edgewright.search._candidate import Candidate
from edgewright.search._executor import InProcess
from edgewright.search._prepare import open_search
from edgewright.search._ray import RayExecutor, _pickle, connect
from edgewright.search._ray_worker import Delivery, WorkerInputs, build_on_worker
from edgewright.search._storage import locate_store
from edgewright.search._store import TrialStore
from edgewright.search._trial import Trial, find_front
from edgewright.task import load_model

ray = pytest.importorskip("ray", reason="needs the extra ray")
cluster_utils = pytest.importorskip("ray.cluster_utils", reason="needs the extra ray")

SHORT = ew.Training(epochs=1, time=60, batch_size=40, lr=0.02, schedule="constant")
SEARCH = ew.Search(training=SHORT, quantized_training=SHORT, exits=None,
                   samples=32, candidates=4, survivors=2,
                   quantize=ew.Quantization(calibration_samples=32, range_estimator="minmax"))
BUDGET = ew.Budget(size="70 %")
SECONDS = 3_600.0  # trainings end after their epoch, so that they can be repeated


class Residual(nn.Module):
    """A block that may be removed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(24, 24), nn.Linear(24, 24)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x).relu())
        return x + y


@pytest.fixture(scope="module")
def settings() -> RunSettings:
    torch.manual_seed(0)
    x = torch.randn(240, 8)
    y = (x @ torch.randn(8, 3)).argmax(1)
    model = nn.Sequential(nn.Linear(8, 24), Residual(), Residual(), nn.Linear(24, 3))
    task = ew.Task((x[:160], y[:160]), (x[160:200], y[160:200]), test=(x[200:], y[200:]))
    original = capture_original(model, task, 0)
    return RunSettings(original, task, BUDGET, 0, "net", RunLog(quiet=True),
                       CompiledTeacher(original))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    found = cluster_utils.Cluster(initialize_head=True, head_node_args={
        "num_cpus": 1, "include_dashboard": False})
    for _ in range(2):
        found.add_node(num_cpus=1)
    yield found
    found.shutdown()


@pytest.fixture
def executor(cluster: Any) -> Iterator[RayExecutor]:
    with connect(cluster.address, RunLog(quiet=True)) as found:
        yield found


def builder(settings: RunSettings, folder: Path) -> Any:
    baseline = folder / "baseline.edge"
    baseline.write_bytes(b"")
    return SimpleNamespace(settings=settings, folder=folder, judge=None, baseline=baseline)


def candidates(*names: str) -> list[Candidate]:
    return [Candidate(name=name, recipe=Recipe(name=name)) for name in names]


def repeatable(folder: Path, trials: Sequence[Trial]) -> list[tuple[object, ...]]:
    """All that does not depend on clocks, and the bytes of the models."""
    return [(trial.name, trial.recipe, trial.proposal, trial.predicted, trial.score, trial.round,
             read_bundle(trial.folder(folder) / "trial.edge").segments)
            for trial in trials]


def front_of_models(folder: Path, trials: Sequence[Trial]) -> list[str]:
    """Names on the front by the bytes of the models; manifests hold seconds, which vary."""
    return [trial.name for trial in find_front([trial.replace(figures=trial.figures.with_(
        Measurement(name="size_bytes", kind="modelled", value=sum(map(len, read_bundle(
            trial.folder(folder) / "trial.edge").segments.values()))))) for trial in trials])]


def test_an_address_that_cannot_be_reached_is_refused_before_any_work(
        settings: RunSettings, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # nobody listens
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(InputError, match=f"cannot reach a Ray cluster at {address}") as raised:
            ew.compress(settings.original, settings.task, BUDGET, ray=address,
                        out=tmp_path / "run", quiet=True)
    assert raised.value.exit_code == 5
    assert not (tmp_path / "run").exists()


def test_what_is_no_address_is_refused(settings: RunSettings, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'everywhere' is not the address of a Ray cluster"):
        ew.compress(settings.original, settings.task, BUDGET, ray="everywhere",
                    out=tmp_path / "run", quiet=True)


def test_a_worker_that_finds_another_run_is_refused(executor: RayExecutor,
                                                    settings: RunSettings) -> None:
    assert executor.workers == 3
    identity = run_identity(settings.original, settings.task, BUDGET, SEARCH, 0,
                            settings.teacher_name)
    executor.prepare(settings, SEARCH, identity)
    with pytest.raises(InputError, match=r"the worker at \S+ differs in: versions"):
        executor.prepare(settings, SEARCH, {**identity, "versions": "{}"})


def test_a_candidate_fails_alone(executor: RayExecutor, settings: RunSettings, tmp_path: Path,
                                 monkeypatch: pytest.MonkeyPatch) -> None:
    def build(inputs: bytes, candidate: Candidate, files: dict[str, bytes],
              threads: int) -> Delivery | Failure:
        def lack_memory() -> Built:
            raise MemoryError("8 GiB")

        if candidate.name == "large":
            found = attempt(lack_memory)
            assert isinstance(found, Failure)
            return found
        if candidate.name == "crashing":
            os.kill(os.getpid(), signal.SIGKILL)
        return Delivery(Built(Figures(), float(threads), 1.0), {**files, "b/c.txt": b"new"})

    monkeypatch.setattr("edgewright.search._ray.build_on_worker", build)
    monkeypatch.setattr("edgewright.search._ray._ATTEMPTS", 2)
    begun = tmp_path / "trials" / "good" / "a.txt"
    begun.parent.mkdir(parents=True)
    begun.write_bytes(b"begun before")
    large, crashing, good = executor.build(builder(settings, tmp_path),
                                           candidates("large", "crashing", "good"))
    assert large == Failure("MemoryError: 8 GiB")
    assert isinstance(crashing, Failure)
    assert crashing.reason.startswith("its worker died 2 times")
    assert good == Built(Figures(), 1.0, 1.0)
    assert {path.name: path.read_bytes() for path in begun.parent.rglob("*.txt")} == {
        "a.txt": b"begun before", "c.txt": b"new"}


def test_classes_of_the_users_own_files_travel_by_value(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text("from torch import nn\nclass Own(nn.Linear):\n    pass\n"
                    "def make():\n    return Own(2, 3)\n")
    own = load_model(f"{file}:make")
    sent = _pickle(WorkerInputs(b"", b"", cast(Any, own), BUDGET, 0, "net", SEARCH, None,
                                 b""))
    del sys.modules[type(own).__module__]  # as on a worker
    found = ray.cloudpickle.loads(sent)
    assert type(found.task).__name__ == "Own"
    assert torch.equal(cast(Any, found.task).weight, cast(Any, own).weight)


def on_a_node_that_dies(victim: str, marker: Path) -> Callable[..., Delivery | Failure]:
    """Builds candidates, but on one node waits to be killed."""
    def build(inputs: bytes, candidate: Candidate, files: dict[str, bytes],
              threads: int) -> Delivery | Failure:
        if ray.get_runtime_context().get_node_id() == victim:
            marker.write_text(candidate.name)
            time.sleep(600)
        return build_on_worker(inputs, candidate, files, threads)

    return build


def test_a_search_loses_nothing_when_a_node_dies(
        cluster: Any, settings: RunSettings, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    equal = (Measurement(name="latency_ms", value=1.0, kind="measured"),)
    monkeypatch.setattr("edgewright.pipeline._quiet_timer.time_sessions",
                        lambda sessions, _: dict.fromkeys(sessions, equal))
    node, marker = cluster.list_all_nodes()[-1], tmp_path / "started"
    monkeypatch.setattr("edgewright.search._ray.build_on_worker",
                        on_a_node_that_dies(node.node_id, marker))
    killing = threading.Thread(target=kill_once_started, args=(cluster, node, marker), daemon=True)
    killing.start()
    result = ew.compress(settings.original, settings.task, BUDGET, time=SECONDS, search=SEARCH,
                         ray=cluster.address, out=tmp_path / "ray", quiet=True, name="net")
    killing.join(1)
    assert not killing.is_alive()
    found = TrialStore(locate_store(tmp_path / "ray"), seed=0)
    assert marker.read_text() in {trial.name for trial in found.trials()}
    assert found.failures() == {}

    with open_search(settings, SEARCH, tmp_path / "here", SECONDS, InProcess(workers=3)) as here:
        rounds = found.remember("rounds", None)
        here.store.remember("rounds", rounds)  # limits on time, not reached
        here._race()
        expected = here.store.trials()
    raced, final = found.trials()[:-1], found.trials()[-1]
    assert [trial.round for trial in raced] == [0, 1, 1, 1, 1, 2, 2]
    assert final.name.endswith("-final")
    assert repeatable(tmp_path / "ray", raced) == repeatable(tmp_path / "here", expected)
    assert front_of_models(tmp_path / "ray", raced) == front_of_models(tmp_path / "here", expected)
    assert read_record(tmp_path / "ray").chosen in {trial.name for trial in found.trials()}
    result.check()


def kill_once_started(cluster: Any, node: Any, marker: Path) -> None:
    while not marker.is_file():
        time.sleep(0.1)
    cluster.remove_node(node, allow_graceful=False)
