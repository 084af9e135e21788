"""What every test may use: a small task that can be learnt in a second, and a model for it."""

from __future__ import annotations

import gc
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.project.data import task
from tests.project.model import SmallNet
from torch import nn
from torch.onnx._internal.exporter._registration import ONNXRegistry

from edgewright.core import Budget, Figures, Manifest, ModelSpec, RunReport
from edgewright.program import Program
from edgewright.task import Task
from edgewright.training import GoalLoss, Training, train

ROOT = Path(__file__).parent.parent
PROJECT = ROOT / "tests" / "project"


pytest_plugins = ["tests.programs"]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Threads that wait for each other cost small networks more than they save."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def old_objects_are_not_searched_for_garbage() -> None:
    """Torch keeps millions of objects: searching them again and again took a third of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def interrupts() -> None:
    """A Ctrl-C is heard, by subprocesses too, though the tests were started in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def translations_are_read_once() -> Iterator[None]:
    """Torch makes its table of translations anew for every export: half of a small one's time."""
    make = cache(ONNXRegistry.from_torchlib)

    def copy(opset_version: int) -> ONNXRegistry:
        table, made = ONNXRegistry(), make(opset_version)
        table._opset_version = made.opset_version
        table.functions = {name: list(found) for name, found in made.functions.items()}
        return table

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(copy))
        yield


@pytest.fixture(scope="session", autouse=True)
def operators_are_loaded_once() -> Iterator[None]:
    """Torch loads every operator it has some 50 times per export; here once per set of libraries."""
    load, libraries = torch._export.utils._materialize_cpp_cia_ops, set[int]()

    def load_new() -> None:
        if (found := len(torch.ops._dir)) not in libraries:
            load()
            libraries.add(found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch._export.utils, "_materialize_cpp_cia_ops", load_new)
        yield


@pytest.fixture(scope="session")
def quadrant_task() -> Task:
    return task()


@pytest.fixture(scope="session")
def trained_net(quadrant_task: Task) -> nn.Module:
    torch.manual_seed(0)
    net = SmallNet()
    train(net, quadrant_task, Training(epochs=4, batch_size=32, augment=False),
          GoalLoss(quadrant_task.goal))
    return net


@pytest.fixture(scope="session")
def trained_program(trained_net: nn.Module, quadrant_task: Task) -> Program:
    """Read only."""
    return Program.capture(trained_net, quadrant_task.train.example(2))


@pytest.fixture(scope="session")
def manifest_of() -> Callable[..., Manifest]:
    """A manifest with these fields in its two parts, and minimal values in all others."""
    def make(**fields: object) -> Manifest:
        model: dict[str, Any] = {"name": "m", "inputs": (), "outputs": (), "segments": ()}
        report: dict[str, Any] = {"data": "d", "recipe": {}, "seed": 0, "budget": Budget(), "versions": {},
                  "machine": "any", "original": Figures(), "compressed": Figures(),
                  "simulated": Figures()}
        for name, value in fields.items():
            (model if name in ModelSpec.model_fields else report)[name] = value
        return Manifest(model=ModelSpec(**model), report=RunReport(**report))

    return make


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with CIFAR-10 and pretrained weights; skips where it is missing."""
    folder = Path(os.environ.get("EDGEWRIGHT_SHARED", ROOT.parent / "shared"))
    if not (folder / "data" / "cifar10").is_dir():
        pytest.skip(f"needs CIFAR-10 and pretrained weights in {folder} (set EDGEWRIGHT_SHARED)")
    return folder


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory, trained_net: nn.Module) -> Path:
    """A user's folder: model.py, data.py and weights.safetensors."""
    folder = tmp_path_factory.mktemp("project")
    save_file(trained_net.state_dict(), folder / "weights.safetensors")
    for name in ("model.py", "data.py"):
        shutil.copy(PROJECT / name, folder)
    return folder
