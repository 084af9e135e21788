"""What every test may use: a small task that can be learnt in a second, and a model for it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.onnx._internal.exporter._registration import ONNXRegistry

from edgewright.core import Budget, Figures, Manifest, Preprocessing
from edgewright.program import Program
from edgewright.task import Task
from edgewright.training import LabelLoss, Training, train

ROOT = Path(__file__).parent.parent


def quadrants(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noisy 8 x 8 grey images, uint8; the class is the quadrant that is brighter."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (count,), generator=generator)
    images = torch.randint(0, 120, (count, 1, 8, 8), generator=generator)
    for index, label in enumerate(labels.tolist()):
        row, column = 4 * (label // 2), 4 * (label % 2)
        images[index, 0, row:row + 4, column:column + 4] += 90
    return images.to(torch.uint8), labels


class SmallNet(nn.Module):
    """Convolutions, a residual, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.one = nn.Conv2d(16, 16, 3, padding=1)
        self.two = nn.Conv2d(16, 16, 3, padding=1, stride=2)
        self.head = nn.Linear(16 * 16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(x + self.one(x))
        x = torch.relu(self.two(x))
        return self.head(x.flatten(1))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Threads that wait for each other cost small networks more than they save."""
    torch.set_num_threads(1)


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


@pytest.fixture(scope="session")
def quadrant_task() -> Task:
    recipe = Preprocessing(channels=1, height=8, width=8, mean=(0.3,), std=(0.2,))
    return Task(quadrants(320, 0), quadrants(80, 1), quadrants(120, 2), preprocessing=recipe,
                classes=("nw", "ne", "sw", "se"), name="quadrants")


@pytest.fixture(scope="session")
def trained_net(quadrant_task: Task) -> nn.Module:
    torch.manual_seed(0)
    net = SmallNet()
    train(net, quadrant_task, Training(epochs=4, batch_size=32, augment=False), LabelLoss())
    return net


@pytest.fixture(scope="session")
def trained_program(trained_net: nn.Module, quadrant_task: Task) -> Program:
    """Read only."""
    return Program.capture(trained_net, quadrant_task.train.example(2))


@pytest.fixture(scope="session")
def manifest_of() -> Callable[..., Manifest]:
    """A manifest of these fields; of all others as little as it can hold."""
    def make(**fields: object) -> Manifest:
        return Manifest(**{
            "model": "m", "data": "d", "recipe": {}, "seed": 0, "budget": Budget(), "versions": {},
            "machine": "any", "inputs": (), "outputs": (), "segments": (),
            "original": Figures(), "compressed": Figures(), "simulated": Figures(), **fields})

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
    source = Path(__file__).read_text(encoding="utf-8")
    net = source[source.index("class SmallNet"):source.index("@pytest.fixture")]
    (folder / "model.py").write_text(f"import torch\nfrom torch import Tensor, nn\n\n\n{net}")
    data = source[source.index("def quadrants"):source.index("class SmallNet")]
    (folder / "data.py").write_text("import torch\nfrom torch import Tensor\n"
                                    "from edgewright import Task\n"
                                    "from edgewright.core import Preprocessing\n\n\n"
                                    + data + dedent('''
        def task():
            recipe = Preprocessing(channels=1, height=8, width=8, mean=(0.3,), std=(0.2,))
            return Task(quadrants(320, 0), quadrants(80, 1), quadrants(120, 2),
                        preprocessing=recipe, classes=("nw", "ne", "sw", "se"), name="quadrants")
    '''))
    return folder
