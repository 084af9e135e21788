"""Programs that many tests share: small ones, a captured ResNet-20, and ways to prune at random."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from edgewright.channels import ChannelGroups, find_groups, remove_and_measure
from edgewright.goals import Classification
from edgewright.graph import draw_random_inputs
from edgewright.program import Program
from edgewright.task import Split, Task
from edgewright.training import evaluate_module, run_batches

EXAMPLE = Path(__file__).parents[1] / "examples" / "resnet.py"


class Net(nn.Module):
    """A forward pass written as a function of (self, *inputs), over named submodules."""

    def __init__(self, function: Callable[..., Any], **members: Any) -> None:
        super().__init__()
        self.function = function
        for name, member in members.items():
            setattr(self, name, member)

    def forward(self, *inputs: Any) -> Any:
        return self.function(self, *inputs)

    if TYPE_CHECKING:
        def __getattr__(self, name: str) -> Any: ...  # whatever was given as a member


def collect_outputs(module: nn.Module, split: Split) -> tuple[tuple[Tensor, ...], Tensor]:
    """What every exit of a module returns on a split, (N, ...) each, and the targets."""
    batches = list(run_batches(module, split))
    outputs = zip(*(outputs for outputs, _ in batches), strict=True)
    return (tuple(torch.cat(parts) for parts in outputs),
            torch.cat([batch.targets for _, batch in batches]))


def measure_accuracies(module: nn.Module, split: Split) -> tuple[float, ...]:
    """The accuracy of every exit of a module on a split."""
    return tuple(score.value for score in evaluate_module(module, split, Classification()))


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Draw what starts out constant (scales, shifts, statistics), lest a wrong slice hides."""
    generator = torch.Generator().manual_seed(seed)
    tensors = [tensor for tensor in (*model.parameters(), *model.buffers())
               if tensor.is_floating_point() and tensor.numel() > 1]
    with torch.no_grad():
        for tensor in tensors:
            if tensor.min() == tensor.max():
                tensor.add_(torch.rand(tensor.shape, generator=generator) - 0.5)
    return model


def choose(groups: ChannelGroups, seed: int = 0, share: float = 0.5) -> list[int]:
    """A random share of every group's channels, never all of them."""
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    for group in groups.groups:
        count = min(round(share * len(group.channels)), len(group.channels) - 1)
        chosen += rng.permutation(group.channels)[:count].tolist()
    return chosen


def zeroed(program: Program, found: ChannelGroups, channels: list[int]) -> Program:
    """The program with everything stored of ``channels`` set to zero, by no mask at all.

    It computes what is left where nothing reads a whole dimension (a norm, a softmax, a mean).
    """
    state = {name: value.clone() for name, value in program.state_dict().items()}
    for channel in channels:
        for (name, dim), indices in found.slices(channel).items():
            state[name].index_fill_(dim, torch.from_numpy(indices), 0)
    return program.with_state(state)


def prune(program: Program, channels: list[int]) -> Program:
    """Remove channels, and hold everything a slice promises."""
    found = find_groups(program)
    before = {name: value.clone() for name, value in program.state_dict().items()}
    sliced, error = remove_and_measure(program, found, channels)
    assert error <= 1e-4
    torch.testing.assert_close(program.state_dict(), before, rtol=0, atol=0)
    costs = sliced.costs()
    assert found.costs_without(channels) == (costs.macs, costs.parameters)
    for batch in (1, 3):
        inputs = batch_of(program, batch)
        have = sliced.run(*inputs)
        if not found.whole_reads:
            want = zeroed(program, found, channels).run(*inputs)
            torch.testing.assert_close(have, want, rtol=1e-4, atol=1e-5)
    return sliced


def batch_of(program: Program, batch: int) -> tuple[Any, ...]:
    """Random inputs of that many samples."""
    example = pytree.tree_map(lambda x: x[:1].expand(batch, *x.shape[1:]), program.example_inputs)
    return draw_random_inputs(example, seed=batch)


@pytest.fixture(scope="session", name="net")
def net_class() -> type[Net]:
    return Net


@pytest.fixture(scope="session", name="randomise")
def randomise_function() -> Callable[..., nn.Module]:
    return randomise


@pytest.fixture(scope="session", name="choose")
def choose_function() -> Callable[..., list[int]]:
    return choose


@pytest.fixture(scope="session", name="prune")
def prune_function() -> Callable[..., Program]:
    return prune


@pytest.fixture(scope="session")
def hold(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ChannelGroups]:
    """Prune a model at two shares, save, load and train it; returns what was found in it."""
    path = tmp_path_factory.mktemp("programs") / "p.pt2"

    def check(model: nn.Module, *inputs: Any) -> ChannelGroups:
        program = Program.capture(randomise(model), inputs)
        found = find_groups(program)
        sliced = program
        for seed, share in enumerate((0.25, 0.5), start=1):
            sliced = prune(program, choose(found, seed, share))
        sliced.save(path)
        batch = batch_of(program, 2)
        torch.testing.assert_close(Program.load(path).run(*batch), sliced.run(*batch),
                                   rtol=0, atol=0)
        train_a_step(sliced, batch)
        return found

    return check


def train_a_step(program: Program, batch: tuple[Any, ...]) -> None:
    """One step of gradient descent in training mode moves a parameter."""
    module = program.module(train=True)
    outputs = [leaf for leaf in pytree.tree_leaves(module(*batch)) if leaf.is_floating_point()]
    torch.stack([output.square().sum() for output in outputs]).sum().backward()
    before = [parameter.clone() for parameter in module.parameters()]
    torch.optim.SGD(module.parameters(), lr=1.0).step()
    assert any(not torch.equal(old, new)
               for old, new in zip(before, module.parameters(), strict=True))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def resnet() -> Callable[[int], nn.Module]:
    """The example's ResNet with option-A shortcuts, of that many blocks a stage."""
    spec = importlib.util.spec_from_file_location("edgewright_example_resnet", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def build(depth: int) -> nn.Module:
        torch.manual_seed(0)
        return randomise(module.ResNet(depth)).eval()

    return build


@pytest.fixture(scope="session")
def resnet20_program(resnet: Callable[[int], nn.Module]) -> Program:
    """The captured ResNet-20; read only."""
    return Program.capture(resnet(3), torch.zeros(1, 3, 32, 32))


@pytest.fixture(scope="session")
def small_program() -> Program:
    """Convolution, batch norm, ReLU, pooling, linear: enough for one group; read only."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(),
                          nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    return Program.capture(randomise(model), torch.zeros(1, 3, 8, 8))


class Residual(nn.Module):
    """Two residual branches over one group of 12 channels, with depthwise and dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 12, 3, padding=1)
        self.wide = nn.Conv2d(12, 18, 1)
        self.deep = nn.Conv2d(18, 18, 3, padding=1, groups=18)
        self.back = nn.Conv2d(18, 12, 1)
        self.last = nn.Conv2d(12, 7, 1)
        self.head = nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = x + self.back(self.deep(self.wide(x).relu()).relu())
        return self.head(self.last(x).relu().mean((2, 3)))


@pytest.fixture(scope="session")
def residual() -> Program:
    torch.manual_seed(0)
    return Program.capture(Residual(), torch.zeros(1, 2, 4, 4))


@pytest.fixture(scope="session")
def residual_groups(residual: Program) -> ChannelGroups:
    return find_groups(residual)


@pytest.fixture(scope="session")
def rigid() -> Program:
    """Nothing in it can be pruned."""
    return Program.capture(nn.Linear(4, 3), torch.zeros(1, 4))


def statistics_of(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Its running mean and variance."""
    return norm.get_buffer("running_mean"), norm.get_buffer("running_var")


class Mixed(nn.Module):
    """Five channels through convolution, norm, depthwise convolution and a flattened linear."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 5, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(5)
        self.deep = nn.Conv2d(5, 5, 3, padding=1, groups=5)
        self.head = nn.Linear(5 * 16, 6)
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.deep(self.norm(self.first(x)).relu()).relu()
        return self.last(self.head(x.flatten(1)).relu())


@pytest.fixture(scope="session")
def mixed() -> Mixed:
    torch.manual_seed(0)
    model = Mixed()
    with torch.no_grad():
        for tensor in (*model.norm.parameters(), *statistics_of(model.norm)):
            tensor.copy_(torch.rand(5) + 0.5)
    return model.eval()


@pytest.fixture(scope="session")
def mixed_program(mixed: Mixed) -> Program:
    return Program.capture(mixed, torch.zeros(1, 2, 4, 4))


@pytest.fixture(scope="session")
def mixed_task() -> Task:
    """Eighty samples: a batch of 64 and one of 16."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(80, 2, 4, 4, generator=generator)
    y = torch.randint(0, 3, (80,), generator=generator)
    return Task((x, y), val=(x[:8], y[:8]), test=(x[8:15], y[8:15]))
